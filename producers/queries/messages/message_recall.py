"""Recall: past messages similar to a query."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pgvector import Bit, Vector

from shared.db import Connection
from shared.ids import MessageId, UserId


@dataclass(frozen=True, slots=True)
class Remembered:
    """A message of the past, with its cosine to the question, in [-1, 1]."""

    message_id: MessageId
    conversation_id: str
    role: str
    content: str
    created_at: datetime
    cosine: float


@dataclass(frozen=True, slots=True)
class RecallQuery:
    """A query: a vector (1536,) float32 of a model, its bits (192,) uint8, and a user."""

    model: str
    vector: NDArray[np.float32]
    bits: NDArray[np.uint8]
    user_id: UserId | None


# As search does it: bits first, by Hamming distance, over all vectors of the tenant and model; then
# the best by cosine. What was blocked is not brought up again.
SELECT_NEAREST: Final = """
    WITH near AS MATERIALIZED (
        SELECT e."messageId", e."embedding" FROM "MessageEmbedding" e
        WHERE e."tenantId" = current_setting('app.tenant_id') AND e."model" = %(model)s
          AND e."bits" IS NOT NULL
          AND (%(user_id)s::text IS NULL OR EXISTS (
              SELECT FROM "Message" m JOIN "Conversation" c ON c."id" = m."conversationId"
              WHERE m."id" = e."messageId" AND c."userId" = %(user_id)s::text))
        ORDER BY e."bits" <~> %(bits)b::bit(1536) LIMIT %(scanned)s
    )
    SELECT m."id" AS "messageId", m."conversationId", m."role"::text, m."content",
           m."createdAt" AT TIME ZONE 'UTC' AS "createdAt",
           1 - (n."embedding" <=> %(vector)b::vector) AS "cosine"
    FROM near n JOIN "Message" m ON m."id" = n."messageId"
    WHERE NOT EXISTS (SELECT FROM "ModerationResult" r
                      WHERE r."tenantId" = current_setting('app.tenant_id')
                        AND r."contentId" = m."id" AND NOT r."superseded" AND r."action" = 'block')
    ORDER BY n."embedding" <=> %(vector)b::vector, m."id" LIMIT %(hits_max)s
"""


def select_nearest(
    conn: Connection, wanted: RecallQuery, *, scanned: int, hits_max: int
) -> list[Remembered]:
    """Return the nearest messages, best first, of the `scanned` nearest by bits."""
    rows = conn.execute(
        SELECT_NEAREST,
        {
            "model": wanted.model,
            "user_id": wanted.user_id,
            "bits": Bit(wanted.bits.tobytes()),
            "vector": Vector(wanted.vector),
            "scanned": scanned,
            "hits_max": hits_max,
        },
    )
    return [Remembered(*row) for row in rows]
