"""Moderation policies, and appeals against verdicts."""

from dataclasses import dataclass
from typing import Any, Final

from shared.contracts import RemoderateContent, UpdateTrust
from shared.db import Connection
from shared.errors import AppealRefused, VerdictNotFound
from shared.judgement import moderation_policy
from shared.judgement.moderation_policy import Decision, ModerationPolicy
from shared.judgement.verdicts import Verdict, settle
from shared.ledger.outbox import publish
from shared.operations import audit
from shared.queries.judgement import moderations, verdicts
from shared.queries.judgement.verdicts import VerdictRow
from shared.queries.ledger import clock

# Effect of a decided appeal on its author's trust, in [-1, 1].
GRANTED, REJECTED = 1.0, -0.2
REASON_CHARS_MAX: Final = 2_000


def put_policy(conn: Connection, new: ModerationPolicy) -> int:
    """Set the moderation policy; content judged under older versions is judged again.

    Args:
        conn: A connection inside `db.transaction(tenant_id)`.
        new: As `shared.judgement.moderation_policy.read` gives it.

    Returns:
        Its version.
    """
    moderations.lock_policy(conn)
    held = moderations.select_policy(conn)
    before = (
        moderation_policy.DEFAULT if held is None else moderation_policy.read(held[1])
    ).model_dump()
    text = new.model_dump_json()
    version = moderations.insert_policy(conn, text, created_by=audit.who())
    what = {"version": version, "before": before, "after": new.model_dump()}
    audit.note(conn, "policy.change", "ModerationPolicy", str(version), what)
    publish(conn, RemoderateContent(policy_version=version))
    return version


@dataclass(frozen=True, slots=True)
class CurrentPolicy:
    """The policy in force; version 0 is the built-in one."""

    version: int
    policy: dict[str, Any]


def current_policy(conn: Connection) -> CurrentPolicy:
    """Return the policy of the transaction's tenant."""
    held = moderations.select_policy(conn)
    if held is None:
        return CurrentPolicy(0, moderation_policy.DEFAULT.model_dump())
    return CurrentPolicy(held[0], moderation_policy.read(held[1]).model_dump())


def verdict(conn: Connection, verdict_id: str, slug: str) -> VerdictRow:
    """Return a verdict.

    Raises:
        VerdictNotFound: The tenant of this slug has none of this id.
    """
    row = verdicts.select(conn, verdict_id)
    if row is None:
        raise VerdictNotFound(f"The tenant {slug} has no verdict {verdict_id}.")
    return row


def open_appeal(conn: Connection, result_id: str, *, reason: str) -> str:
    """Appeal a verdict. Returns the appeal's id.

    Raises:
        VerdictNotFound: The tenant has no such verdict.
        AppealRefused: It flagged nothing, is outdated, or was appealed before.
    """
    row = _verdict(conn, result_id)
    if row.superseded:
        raise AppealRefused(f"The verdict {result_id} is outdated: appeal its successor.")
    if not row.flagged:
        raise AppealRefused(f"The verdict {result_id} allowed the text: nothing to appeal.")
    if row.content_sha256 is None:
        raise AppealRefused(
            f"The verdict {result_id} has no content hash: put the policy again, "
            "which judges the text again, and appeal the new verdict."
        )
    if not reason.strip() or len(reason) > REASON_CHARS_MAX:
        raise AppealRefused(f"The reason must be 1-{REASON_CHARS_MAX:,} characters.")
    opened = verdicts.open_appeal(conn, result_id, reason=reason, opened_by=audit.who())
    if opened is None:
        raise AppealRefused(f"The verdict {result_id} was appealed before.")
    audit.note(conn, "appeal.open", "ModerationAppeal", opened, {"resultId": result_id})
    return opened


def decide_appeal(conn: Connection, appeal_id: str, *, granted: bool) -> None:
    """Grant an appeal (reverts the verdict and its effects) or reject it.

    A granted appeal applies to exactly that text: it passes under every later policy.

    Raises:
        VerdictNotFound: The tenant has no such appeal.
        AppealRefused: It was decided before.
    """
    state = "granted" if granted else "rejected"
    result_id = verdicts.decide_appeal(conn, appeal_id, state, decided_by=audit.who())
    if result_id is None:
        known = verdicts.select_appeals(conn, appeal_id=appeal_id)
        if not known:
            raise VerdictNotFound(f"The tenant has no appeal {appeal_id}.")
        raise AppealRefused(
            f"The appeal {appeal_id} was {known[0].state} by {known[0].decided_by}."
        )
    row = _verdict(conn, result_id)
    holding = _holding(conn, row)
    if granted and holding.flagged and holding.content_sha256 == row.content_sha256:
        settle(conn, [_pardoned(holding, appeal_id)])
    if row.user_id is not None:
        now = clock.select_now(conn)
        publish(
            conn,
            UpdateTrust(
                user_id=row.user_id,
                kind="appeal",
                source_id=appeal_id,
                value=GRANTED if granted else REJECTED,
                occurred_at=now,
                revision=now,
            ),
        )
    what = {
        "resultId": result_id,
        "before": row.action,
        "after": "allow" if granted else row.action,
    }
    audit.note(conn, f"appeal.{state}", "ModerationAppeal", appeal_id, what)


def _verdict(conn: Connection, result_id: str) -> VerdictRow:
    row = verdicts.select(conn, result_id)
    if row is None:
        raise VerdictNotFound(f"The tenant has no verdict {result_id}.")
    return row


def _holding(conn: Connection, row: VerdictRow) -> VerdictRow:
    """Return the current verdict on the content of a possibly outdated one."""
    moderations.lock_contents(conn, [row.content_id])
    held = moderations.select_standing(conn, [row.content_id])[row.content_id].result_id
    return row if held is None else _verdict(conn, held)


def _pardoned(row: VerdictRow, appeal_id: str) -> Verdict:
    pardon = {"action": row.action, "categories": row.categories, "appealId": appeal_id}
    return Verdict(
        content_type=row.content_type,
        content_id=row.content_id,
        content_sha256=row.content_sha256 or "",
        user_id=row.user_id,
        occurred_at=row.created_at,
        decision=Decision("allow", [], row.scores.get("thresholds", {})),
        scores=dict(row.scores) | {"pardoned": pardon},
        engine=row.engine or "",
        policy_version=row.policy_version or 0,
        before=row.action,
    )
