"""Feedback: ratings of messages, and their effects."""

import json
from collections.abc import Mapping
from typing import Final

from shared.contracts import ApplyFeedback, UpdateTrust
from shared.db import Connection
from shared.ids import UserId
from shared.judgement import trust
from shared.ledger.outbox import Lease, effect, publish_many
from shared.queries.judgement import training_examples, trust_scores
from shared.queries.judgement.training_examples import NewExample, RatedRow
from shared.queries.ledger import clock, outbox
from shared.queries.models import model_routes
from shared.queries.models.model_routes import Reward
from workers.domain.judgement import training
from workers.domain.judgement.training import Example, Rated
from workers.process.broker import actor
from workers.queries.judgement import quality_scores

OTHERS_MAX: Final = 100
ANSWER: Final = "ASSISTANT"


@actor(ApplyFeedback)
def apply_feedback(job: ApplyFeedback, lease: Lease) -> None:
    """Apply the ratings of a message to its score, its model, its author and training.

    Everything is computed from the current ratings, so late, repeated and concurrent jobs end in
    the same rows.
    """
    with effect(lease) as conn:
        training_examples.lock_question(conn, job.message_id)
        ratings = quality_scores.apply_ratings(conn, job.message_id)
        rows = training_examples.select_answers(conn, job.message_id, limit=OTHERS_MAX)
        rated = next((row for row in rows if row.id == job.message_id), None)
        taught: list[Example] = []
        if rated is not None and rated.role == ANSWER:
            others = [_rated(row) for row in rows if row is not rated and row.worth is not None]
            if rated.worth is not None:
                taught = list(training.taught(rated.question or "", _rated(rated), others))
            training_examples.replace(conn, job.message_id, [_row(one) for one in taught])
        elif rated is not None:
            publish_many(conn, _author_trust(conn, rated, ratings))
        outcome = {"ratings": len(ratings), "examples": len(taught)}
        outbox.set_outcome(conn, lease.job_id, lease.fence, json.dumps(outcome))
        if ratings:
            model_routes.reward(conn, [_reward(conn, job, ratings)])


def _reward(conn: Connection, job: ApplyFeedback, ratings: Mapping[str, float]) -> Reward:
    """The mean rating, weighted by the trust of each rater; its weight is the sum of theirs."""
    known = trust_scores.select_scores(conn, [UserId(name) for name in ratings])
    weights = {
        name: trust.reward_weight(known.get(UserId(name), trust.NEUTRAL)) for name in ratings
    }
    total = sum(weights.values())
    value = sum(weights[name] * worth for name, worth in ratings.items()) / total
    return Reward(job.message_id, value, min(total, 1.0))


def _author_trust(
    conn: Connection, rated: RatedRow, ratings: Mapping[str, float]
) -> list[UpdateTrust]:
    """Trust events for the author from others' ratings of their message, one a rater."""
    now = clock.select_now(conn)
    return [
        UpdateTrust(
            user_id=rated.author_id,
            kind="feedback",
            source_id=f"{rated.id}/{rater}",
            value=2 * worth - 1,
            occurred_at=now,
            revision=now,
        )
        for rater, worth in ratings.items()
        if rater != rated.author_id
    ]


def _rated(row: RatedRow) -> Rated:
    worth = 0.5 if row.worth is None else row.worth
    return Rated(row.id, row.content, worth, row.is_clean, row.author_id)


def _row(example: Example) -> NewExample:
    return NewExample(
        prompt=example.prompt,
        completion=example.completion,
        rating=example.rating,
        source=example.source,
        digest=example.digest,
        message_id=example.message_id,
        user_id=example.user_id,
        rejected=example.rejected,
        rejected_id=example.rejected_id,
    )
