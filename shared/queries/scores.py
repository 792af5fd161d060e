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


def apply_ratings(conn: Connection, message_id: MessageId) -> bool:
    """Carry the ratings of a message over to its quality score. Returns whether it has one."""
    return conn.execute(APPLY_RATINGS, {"message_id": message_id}).rowcount == 1
