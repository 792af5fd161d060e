"""Submitting feedback: a user rates a message, with an optional comment."""

import hashlib
from typing import Final

from producers.queries.judgement import feedback_entries
from shared.contract import Contract
from shared.contracts import ApplyFeedback, ModerateContent
from shared.db import Connection
from shared.errors import MessageNotFound, RatingRefused
from shared.ids import MessageId, UserId
from shared.ledger.outbox import Published, publish_many

RATINGS: Final = (1, 2, 3, 4, 5)
COMMENT_CHARS_MAX: Final = 10_000


def give(
    conn: Connection,
    message_id: MessageId,
    user_id: UserId,
    *,
    rating: int,
    comment: str | None = None,
) -> Published:
    """Store a user's rating of a message, replacing the earlier one, and publish its effects.

    Args:
        conn: A connection inside `db.transaction(tenant_id)`.
        message_id: The rated message.
        user_id: The rating user.
        rating: 1 to 5. (The platform's own rows may hold -1 and 1, down and up, instead.)
        comment: Optional comment; it is moderated like all user content.

    Returns:
        The job that carries the rating to the score, the model, the author and training.

    Raises:
        RatingRefused: Invalid rating, or the comment is too long.
        MessageNotFound: The tenant has no such message.
    """
    if rating not in RATINGS:
        raise RatingRefused(f"The rating must be 1 to 5 (got {rating}).")
    if comment is not None and len(comment) > COMMENT_CHARS_MAX:
        raise RatingRefused(
            f"The comment must be at most {COMMENT_CHARS_MAX:,} characters (got {len(comment):,})."
        )
    if not feedback_entries.has_message(conn, message_id):
        raise MessageNotFound(f"The tenant has no message {message_id}.")
    kept = feedback_entries.give(conn, message_id, user_id, rating=rating, comment=comment)
    jobs: list[Contract] = [
        ApplyFeedback(
            message_id=message_id,
            feedback_id=kept.id,
            changed_at=kept.changed_at.isoformat(),
        )
    ]
    if comment:
        digest = hashlib.sha256(comment.encode()).hexdigest()
        jobs.append(
            ModerateContent(
                content_type="feedback",
                content_id=kept.id,
                content_sha256=digest,
                changed_at=kept.changed_at.isoformat(),
            )
        )
    return publish_many(conn, jobs)[0]
