"""Queue `scoring`: what people said about answers, carried to the scores."""

from shared.contracts import ApplyFeedback
from shared.outbox import Lease, effect
from shared.queries import scores
from workers.broker import actor


@actor(ApplyFeedback)
def apply_feedback(job: ApplyFeedback, lease: Lease) -> None:
    """Carry the ratings of a message over to its quality score, where one was estimated."""
    with effect(lease) as conn:
        scores.apply_ratings(conn, job.message_id)
