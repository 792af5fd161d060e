"""A person's trust: the score, what it is made of, and what it does."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.db import Connection
from shared.ids import UserId
from shared.judgement import trust
from shared.queries.judgement import trust_scores
from shared.queries.judgement.trust_scores import EventRow

EVENTS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class TrustDetail:
    """A person's score with its factors, its effects on limits, rewards and moderation."""

    id: UserId
    score: float
    factors: dict[str, float]
    rate_weight: int
    reward_weight: float
    strictness: float
    events: Sequence[EventRow]


def show(conn: Connection, user_id: UserId) -> TrustDetail:
    """Return the trust of a user of the transaction's tenant."""
    known = trust_scores.select_trust(conn, user_id)
    score = known[0].score if known else trust.NEUTRAL
    return TrustDetail(
        user_id,
        score,
        known[0].factors if known else {"base": trust.NEUTRAL},
        trust.rate_weight(score),
        trust.reward_weight(score),
        trust.strictness(score),
        trust_scores.select_events(conn, user_id, limit=EVENTS_SHOWN),
    )
