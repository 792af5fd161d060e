"""Queue `moderation`: judge texts, and judge them again under a new policy."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared import db
from shared.contracts import ModerateContent, RemoderateContent
from shared.db import Connection
from shared.errors import ContentGone
from shared.ids import UserId
from shared.judgement import moderation_policy, trust
from shared.judgement.moderation_policy import Decision, ModerationPolicy
from shared.judgement.verdicts import Verdict, settle
from shared.ledger.outbox import Lease, effect, effects, publish, publish_many
from shared.models import providers
from shared.queries.judgement import moderations, trust_scores, verdicts
from shared.queries.judgement.moderations import Content, ExistingContent, ModerationState
from shared.queries.judgement.verdicts import VerdictRow
from shared.queries.ledger import outbox
from shared.queries.messages import semantic_entries
from workers.domain.judgement import moderation
from workers.domain.judgement.moderation import Findings
from workers.judgement import toxicity
from workers.process.broker import actor

SPANS_KEPT: Final = 100
PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class _Rules:
    """The policy in force and the trust scores of the authors."""

    version: int
    policy: ModerationPolicy
    trusted: Mapping[UserId, float]

    def decide(self, scores: Mapping[str, float], author: UserId | None) -> Decision:
        score = trust.NEUTRAL if author is None else self.trusted.get(author, trust.NEUTRAL)
        return moderation_policy.decide(scores, self.policy, strictness=trust.strictness(score))


@actor(ModerateContent)
def moderate_content(jobs: Sequence[tuple[ModerateContent, Lease]]) -> None:
    """Judge documents, messages and comments, and store the verdicts."""
    wanted = [(job.content_type, job.content_id) for job, _ in jobs]
    with db.transaction(jobs[0][1].tenant_id) as conn:
        contents = moderations.select_contents(conn, list(dict.fromkeys(wanted)))
    for kind, content_id in wanted:
        if (kind, content_id) not in contents:
            raise ContentGone(f"The {kind} {content_id} no longer exists.")
    # Think: no connection is held while the models judge.
    found = dict(zip(contents, _judged([one.text for one in contents.values()]), strict=True))
    with effects([lease for _, lease in jobs]) as conn:
        # Decided in the writing transaction: a policy or pardon that arrived meanwhile counts.
        ids = [content_id for _, content_id in contents]
        moderations.lock_contents(conn, ids)
        standing = moderations.select_standing(conn, ids)
        rules = _rules(conn, [one.user_id for one in contents.values()])
        judged = {
            key: _verdict(one, found[key], rules, standing[one.id]) for key, one in contents.items()
        }
        settle(conn, list(judged.values()))
        _forget_answers(conn, list(judged.values()))
        outcomes = [
            (lease.job_id, lease.fence, json.dumps(_outcome(judged[key])))
            for key, (_, lease) in zip(wanted, jobs, strict=True)
        ]
        outbox.set_outcomes(conn, outcomes)


@actor(RemoderateContent)
def remoderate_content(job: RemoderateContent, lease: Lease) -> None:
    """Decide older verdicts again under the policy in force, from the stored scores.

    Where that is impossible, because the text has changed or no scores were stored, the text is
    judged again by a job of its own.
    """
    with effect(lease) as conn:
        page = verdicts.select_older(conn, job.policy_version, after=job.after, limit=PAGE)
        ids = [one.content_id for one in page]
        moderations.lock_contents(conn, ids)
        standing = moderations.select_standing(conn, ids)
        older = [one for one in page if standing[one.content_id].result_id == one.id]
        present = moderations.select_present(conn, [_key(one) for one in older])
        rules = _rules(conn, [one.user_id for one in older])
        changed, same, unknown = [], [], []
        for one in older:
            there = present.get(_key(one))
            if there is not None and not _suffices(one, there):
                unknown.append(there)
            elif (again := _decided_again(one, there, rules)) is not None:
                changed.append(again)
            else:
                same.append(one.id)
        verdicts.confirm(conn, same, rules.version)
        settle(conn, changed)
        _forget_answers(conn, changed)
        publish_many(conn, [_judge_again(one, rules.version) for one in unknown])
        if len(page) == PAGE:
            publish(conn, RemoderateContent(policy_version=job.policy_version, after=page[-1].id))
        counts = {"looked": len(page), "changed": len(changed), "judgedAgain": len(unknown)}
        outbox.set_outcome(conn, lease.job_id, lease.fence, json.dumps(counts))


def _forget_answers(conn: Connection, given: Sequence[Verdict]) -> None:
    """Remove blocked answers from the cache; `settle` does it for those that cite documents."""
    blocked = [
        ("message", one.content_id)
        for one in given
        if one.content_type == "message" and one.decision.action == "block"
    ]
    if blocked:
        found = moderations.select_contents(conn, blocked)
        semantic_entries.forget_answers(conn, [one.text for one in found.values()])


def _key(row: VerdictRow) -> tuple[str, str]:
    return row.content_type.lower(), row.content_id


def _suffices(row: VerdictRow, there: ExistingContent) -> bool:
    return row.content_sha256 == there.sha256 and isinstance(row.scores.get("scores"), dict)


def _judge_again(there: ExistingContent, version: int) -> ModerateContent:
    return ModerateContent.model_validate(
        {
            "content_type": there.type,
            "content_id": there.id,
            "content_sha256": there.sha256,
            "policy_version": version,
        }
    )


def _rules(conn: Connection, authors: Sequence[UserId | None]) -> _Rules:
    held = moderations.select_policy(conn)
    version, chosen = (0, moderation_policy.DEFAULT)
    if held is not None:
        version, chosen = held[0], moderation_policy.read(held[1])
    known = sorted({one for one in authors if one is not None})
    return _Rules(version, chosen, trust_scores.select_scores(conn, known) if known else {})


def _judged(texts: Sequence[str]) -> list[Findings]:
    """Findings of the local engine and, if configured, of a provider's model."""
    local = moderation.judge_many(texts, english=toxicity.probabilities)
    remote = providers.moderator()
    if remote is None:
        return local
    return [
        Findings(
            scores=dict(sorted((found.scores | _higher(remote_scores, found.scores)).items())),
            spans=found.spans,
            engine=f"{remote.model}+{found.engine}",
            blind=found.blind,
        )
        for found, remote_scores in zip(local, remote.scores(texts), strict=True)
    ]


def _higher(remote_scores: Mapping[str, float], found: Mapping[str, float]) -> dict[str, float]:
    return {name: max(score, found.get(name, 0.0)) for name, score in remote_scores.items()}


def _verdict(
    content: Content, found: Findings, rules: _Rules, standing: ModerationState
) -> Verdict:
    digest = hashlib.sha256(content.text.encode()).hexdigest()
    decision = rules.decide(found.scores, content.user_id)
    scores: dict[str, Any] = {
        "engine": found.engine,
        "blind": found.blind,
        "scores": found.scores,
        "thresholds": decision.thresholds,
        "spans": [[it.category, it.start, it.end] for it in found.spans[:SPANS_KEPT]],
    }
    if decision.is_flagged and digest in standing.pardoned:
        # An appeal was granted for exactly this text: what was found is kept, and it passes.
        scores["pardoned"] = {"action": decision.action, "categories": decision.categories}
        decision = Decision("allow", [], decision.thresholds)
    return Verdict(
        content_type=content.type,
        content_id=content.id,
        content_sha256=digest,
        user_id=content.user_id,
        occurred_at=content.created_at,
        decision=decision,
        scores=scores,
        engine=found.engine,
        policy_version=rules.version,
        before=standing.action,
    )


def _decided_again(row: VerdictRow, there: ExistingContent | None, rules: _Rules) -> Verdict | None:
    """The verdict by the policy in force, where it is another one; a pardon stands."""
    found = row.scores.get("scores")
    if not isinstance(found, dict) or "pardoned" in row.scores or row.content_sha256 is None:
        return None
    decision = rules.decide(found, row.user_id)
    if (decision.action, decision.categories) == (row.action, row.categories):
        return None
    return Verdict(
        content_type=row.content_type,
        content_id=row.content_id,
        content_sha256=row.content_sha256,
        user_id=row.user_id,
        # Evidence ages from when it was written, however often it is judged.
        occurred_at=row.created_at if there is None else there.created_at,
        decision=decision,
        scores=dict(row.scores) | {"thresholds": decision.thresholds},
        engine=row.engine or "",
        policy_version=rules.version,
        before=row.action,
    )


def _outcome(verdict: Verdict) -> dict[str, object]:
    return {
        "flagged": verdict.decision.is_flagged,
        "blocked": verdict.decision.action == "block",
        "action": verdict.decision.action,
        "categories": verdict.decision.categories,
        "scores": verdict.scores["scores"],
        "engine": verdict.engine,
        "blind": verdict.scores["blind"],
    }
