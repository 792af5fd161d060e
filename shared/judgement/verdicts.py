"""Store verdicts with all their effects, in one transaction.

A verdict that replaces another undoes its effects: the author's trust is recomputed from the same
event, training on the answer is allowed or stopped (it checks the flag at that moment), and a
blocked document removes the answers that cite it from the cache.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from shared.contracts import UpdateTrust
from shared.db import Connection
from shared.ids import DocumentId, UserId
from shared.judgement.moderation_policy import Decision
from shared.ledger.outbox import publish_many
from shared.operations import audit
from shared.queries.judgement import moderations
from shared.queries.judgement.moderations import NewResult
from shared.queries.ledger import clock
from shared.queries.messages import semantic_entries

# Trust event of a verdict for its author, in [-1, 1].
TRUST_VALUES: Final = {"block": -1.0, "flag": -0.5, "allow": 0.0}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision about a content.

    Attributes:
        scores: The findings: {engine, blind, scores, spans, ...}; never the text itself.
        before: The previous action; None before the first verdict.
    """

    content_type: str
    content_id: str
    content_sha256: str
    user_id: UserId | None
    occurred_at: datetime
    decision: Decision
    scores: Mapping[str, Any]
    engine: str
    policy_version: int
    before: str | None


def settle(conn: Connection, verdicts: Sequence[Verdict]) -> list[str]:
    """Make verdicts the current ones, with all effects. Returns their ids, in order."""
    if not verdicts:
        return []
    ids = moderations.insert_results(conn, [_row(one) for one in verdicts])
    # Not the start of the transaction: of two that wait for each other the later one wins.
    now = clock.select_moment(conn)
    publish_many(conn, [_trust(one, now) for one in verdicts if _concerns_author(one)])
    for result_id, one in zip(ids, verdicts, strict=True):
        if one.decision.action == "block" and one.before != "block":
            what = {
                "categories": one.decision.categories,
                "engine": one.engine,
                "policyVersion": one.policy_version,
                "resultId": result_id,
                "before": one.before,
            }
            audit.note(
                conn, "moderation.block", one.content_type.capitalize(), one.content_id, what
            )
    blocked = [
        DocumentId(one.content_id)
        for one in verdicts
        if one.content_type == "document" and one.decision.action == "block"
    ]
    if blocked:
        semantic_entries.forget_documents(conn, blocked)
    return ids


def _row(verdict: Verdict) -> NewResult:
    return NewResult(
        content_type=verdict.content_type,
        content_id=verdict.content_id,
        content_sha256=verdict.content_sha256,
        user_id=verdict.user_id,
        flagged=verdict.decision.is_flagged,
        categories=verdict.decision.categories,
        scores=json.dumps(verdict.scores),
        action=verdict.decision.action,
        engine=verdict.engine,
        policy_version=verdict.policy_version,
    )


def _concerns_author(verdict: Verdict) -> bool:
    if verdict.user_id is None:
        return False
    return verdict.decision.is_flagged or verdict.before not in {None, "allow"}


def _trust(verdict: Verdict, now: datetime) -> UpdateTrust:
    assert verdict.user_id is not None, "somebody wrote it"
    return UpdateTrust(
        user_id=verdict.user_id,
        kind="moderation",
        source_id=verdict.content_id,
        value=TRUST_VALUES[verdict.decision.action],
        occurred_at=verdict.occurred_at,
        revision=now,
        withdrawn=not verdict.decision.is_flagged,
    )
