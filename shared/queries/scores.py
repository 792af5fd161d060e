"""Quality scores: what was estimated for a message, and what its readers said."""

from typing import Final

from shared.db import Connection
from shared.ids import MessageId

# A user's last rating counts, the mean of the users is the score; ratings are 1 to 5, or -1 and 1.
APPLY_RATINGS: Final = """
    WITH last AS (
        SELECT DISTINCT ON (f."userId") f."rating" FROM "Feedback" f
        WHERE f."messageId" = %(message_id)s
        ORDER BY f."userId", f."createdAt" DESC, f."id" DESC
    )
    UPDATE "QualityScore" q
    SET "actualScore" = (SELECT avg(CASE WHEN "rating" <= 0 THEN 0.0
                                         WHEN "rating" = 1 AND (SELECT min("rating") FROM last) < 1
                                         THEN 1.0
                                         ELSE (least("rating", 5) - 1) / 4.0 END) FROM last)
    WHERE q."messageId" = %(message_id)s
"""


SELECT_ANSWER: Final = """
    SELECT "content" FROM "Message" WHERE "id" = %(message_id)s
"""


def select_answer(conn: Connection, message_id: MessageId) -> str | None:
    """What a message says; None where it is gone."""
    row = conn.execute(SELECT_ANSWER, {"message_id": message_id}).fetchone()
    return None if row is None else str(row[0])


UPSERT_ESTIMATE: Final = """
    INSERT INTO "QualityScore" ("messageId", "estimatedScore", "metrics")
    VALUES (%(message_id)s, %(score)s, %(metrics)s::jsonb)
    ON CONFLICT ("messageId") DO UPDATE
    SET "estimatedScore" = excluded."estimatedScore", "metrics" = excluded."metrics"
"""


def upsert_estimate(conn: Connection, message_id: MessageId, score: float, metrics: str) -> None:
    """Keep an estimate in [0, 1] and, as JSON text, its factors."""
    values = {"message_id": message_id, "score": score, "metrics": metrics}
    conn.execute(UPSERT_ESTIMATE, values)


def apply_ratings(conn: Connection, message_id: MessageId) -> bool:
    """Carry the ratings of a message over to its quality score. Returns whether it has one."""
    return conn.execute(APPLY_RATINGS, {"message_id": message_id}).rowcount == 1
