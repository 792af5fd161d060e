"""Feedback: users' ratings of messages. Only the latest of each user and message counts."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.db import Connection
from shared.ids import MessageId, UserId


@dataclass(frozen=True, slots=True)
class Given:
    """A stored rating; `changed_at` identifies this revision."""

    id: str
    changed_at: datetime


HAS_MESSAGE: Final = """
    SELECT 1 FROM "Message" WHERE "id" = %(message_id)s
"""


def has_message(conn: Connection, message_id: MessageId) -> bool:
    """Whether the tenant has a message with this id."""
    return conn.execute(HAS_MESSAGE, {"message_id": message_id}).fetchone() is not None


# A user's newest rating of a message is overwritten; the platform may have left older ones.
# A lock per user keeps two concurrent ratings from becoming two rows.
GIVE: Final = """
    WITH lock AS MATERIALIZED (
        SELECT pg_advisory_xact_lock(hashtextextended(%(message_id)s || chr(1) || %(user_id)s, 0))
    ), old AS (
        SELECT f."id" FROM "Feedback" f, lock
        WHERE f."messageId" = %(message_id)s AND f."userId" = %(user_id)s
        ORDER BY f."createdAt" DESC, f."id" DESC LIMIT 1
    ), changed AS (
        UPDATE "Feedback" f SET "rating" = %(rating)s, "comment" = %(comment)s::text,
            "createdAt" = greatest(now() AT TIME ZONE 'UTC', f."createdAt" + interval '1 ms')
        FROM old WHERE f."id" = old."id"
        RETURNING f."id", f."createdAt"
    ), made AS (
        INSERT INTO "Feedback" ("messageId", "userId", "rating", "comment")
        SELECT %(message_id)s, %(user_id)s, %(rating)s, %(comment)s::text
        FROM lock WHERE NOT EXISTS (SELECT FROM old)
        RETURNING "id", "createdAt"
    )
    SELECT "id", "createdAt" AT TIME ZONE 'UTC' AS "changedAt" FROM changed
    UNION ALL SELECT "id", "createdAt" AT TIME ZONE 'UTC' FROM made
"""


def give(
    conn: Connection, message_id: MessageId, user_id: UserId, *, rating: int, comment: str | None
) -> Given:
    """Store a user's rating of a message, replacing the earlier one."""
    values = {"message_id": message_id, "user_id": user_id, "rating": rating, "comment": comment}
    row = conn.execute(GIVE, values).fetchone()
    assert row is not None, "a rating is changed or made"
    return Given(*row)


@dataclass(frozen=True, slots=True)
class FeedbackRow:
    """A rating, with who gave it."""

    id: str
    message_id: MessageId
    user: str
    rating: int
    comment: str | None
    created_at: datetime


SELECT_FEEDBACK: Final = """
    SELECT f."id", f."messageId", coalesce(u."email", f."userId") AS "user", f."rating",
           f."comment", f."createdAt" AT TIME ZONE 'UTC' AS "createdAt"
    FROM "Feedback" f LEFT JOIN "User" u ON u."id" = f."userId"
    WHERE (%(message_id)s::text IS NULL OR f."messageId" = %(message_id)s::text)
      AND (%(before)s::timestamptz IS NULL
           OR (f."createdAt", f."id")
              < (%(before)s::timestamptz AT TIME ZONE 'UTC', %(before_id)s::text))
    ORDER BY f."createdAt" DESC, f."id" DESC LIMIT %(limit)s
"""


def select_feedback(
    conn: Connection,
    message_id: MessageId | None,
    *,
    before: tuple[datetime, str] | None = None,
    limit: int,
) -> list[FeedbackRow]:
    """Return ratings, newest first.

    Args:
        conn: A connection inside `db.transaction(tenant_id)`.
        message_id: Of the message; None for all of the tenant.
        before: Time and id of the rating that the list goes on after.
        limit: Maximum rows.
    """
    values = {
        "message_id": message_id,
        "before": before and before[0],
        "before_id": before and before[1],
        "limit": limit,
    }
    return [FeedbackRow(*row) for row in conn.execute(SELECT_FEEDBACK, values)]
