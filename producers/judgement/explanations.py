"""Requesting explanations of scores; a score is explained once until it changes."""

import hashlib
import json
from collections.abc import Sequence

from shared.contracts import ExplainScore
from shared.db import Connection
from shared.errors import NothingToExplain
from shared.ledger.outbox import Published, publish_many
from shared.queries.judgement import explanations
from shared.queries.judgement.explanations import KINDS, ScoreSubject


def explain(
    conn: Connection, subject_id: str, kinds: Sequence[str] = KINDS
) -> dict[str, Published]:
    """Request explanations of the scores of a message, a verdict, a user or a route.

    An unchanged score is not explained again: the job is a duplicate.

    Args:
        conn: A connection inside `db.transaction(tenant_id)`.
        subject_id: A message, a document, a score's own id, a person's id or e-mail, MODEL/INTENT.
        kinds: Which scores, of `shared.queries.judgement.explanations.KINDS`.

    Returns:
        The jobs, by the kind of score.

    Raises:
        NothingToExplain: The subject has no such score.
    """
    found = {kind: explanations.select_subject(conn, kind, subject_id) for kind in kinds}
    jobs = {}
    for kind, subject in found.items():
        if subject is not None and (kinds != KINDS or _has_parts(subject)):
            stands = json.dumps([subject.score, subject.made_of, subject.text], sort_keys=True)
            revision = hashlib.sha256(stands.encode()).hexdigest()
            jobs[kind] = ExplainScore(subject=kind, subject_id=subject.id, revision=revision)
    if not jobs:
        raise NothingToExplain(
            f"{subject_id} has no score of {' or '.join(kinds)}: name a message, a verdict, a "
            f"user, or a route as MODEL/INTENT."
        )
    return dict(zip(jobs, publish_many(conn, list(jobs.values())), strict=True))


def _has_parts(subject: ScoreSubject) -> bool:
    """Whether a score can be explained; a verdict that found nothing cannot."""
    return subject.kind != "moderation" or bool(subject.made_of.get("scores"))
