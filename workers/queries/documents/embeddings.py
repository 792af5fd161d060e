"""Vectors of chunks and messages: which are missing, which can be reused, and storing them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pgvector import Bit, Vector

from shared.db import Connection
from shared.ids import ChunkId, DocumentId, MessageId

# Equal text elsewhere in the tenant has its vector already: the live rows are the cache.
# Sub-selects with OFFSET 0 or LIMIT 1 are looked up one by one, by their whole key: under row level
# security the planner, without statistics, would as soon read all the rows of the tenant.
REUSE: Final = """
    WITH found AS (
        SELECT c."id" AS "chunkId", c."documentId", v."model", v."bits", v."embedding" AS "half",
               e."embedding"
        FROM "DocumentChunk" c CROSS JOIN LATERAL (
            SELECT o."id" FROM "DocumentChunk" o
            WHERE o."tenantId" = c."tenantId" AND o."contentSha256" = c."contentSha256"
              AND o."id" <> c."id"
              AND (SELECT x."model" FROM "ChunkEmbedding" x WHERE x."chunkId" = o."id" LIMIT 1)
                  = %(model)s
            LIMIT 1
        ) o
        CROSS JOIN LATERAL (
            SELECT e."embedding" FROM "ChunkEmbedding" e WHERE e."chunkId" = o."id" OFFSET 0
        ) e
        CROSS JOIN LATERAL (
            SELECT * FROM "ChunkVector" v
            WHERE v."tenantId" = c."tenantId" AND v."model" = %(model)s AND v."chunkId" = o."id"
            OFFSET 0
        ) v
        WHERE c."id" = ANY(%(ids)s::text[])
    ), live AS (
        INSERT INTO "ChunkEmbedding" ("chunkId", "embedding", "model")
        SELECT "chunkId", "embedding", "model" FROM found
        ON CONFLICT ("chunkId") DO UPDATE
        SET "embedding" = excluded."embedding", "model" = excluded."model"
    )
    INSERT INTO "ChunkVector" ("tenantId", "model", "chunkId", "documentId", "bits", "embedding")
    SELECT current_setting('app.tenant_id'), "model", "chunkId", "documentId", "bits", "half"
    FROM found
    ON CONFLICT ("tenantId", "model", "chunkId") DO NOTHING
    RETURNING "chunkId"
"""


def reuse(conn: Connection, chunk_ids: Sequence[ChunkId], model: str) -> set[ChunkId]:
    """Give chunks the vector that equal text elsewhere in the tenant has. Returns which got one."""
    if not chunk_ids:
        return set()
    return {row[0] for row in conn.execute(REUSE, {"ids": list(chunk_ids), "model": model})}


@dataclass(frozen=True, slots=True)
class TextToEmbed:
    """A text without a vector; `name` tells a person which it is."""

    id: str
    content: str
    token_count: int | None
    name: str


SELECT_UNEMBEDDED: Final = """
    SELECT c."id", c."content", c."tokenCount",
           format('chunk %%s of document %%s', c."chunkIndex", c."documentId") AS "name"
    FROM "DocumentChunk" c
    WHERE c."id" = ANY(%(ids)s::text[])
      AND (SELECT v."chunkId" FROM "ChunkVector" v WHERE v."tenantId" = c."tenantId"
           AND v."model" = %(model)s AND v."chunkId" = c."id" LIMIT 1) IS NULL
"""


def select_unembedded(
    conn: Connection, chunk_ids: Sequence[ChunkId], model: str
) -> list[TextToEmbed]:
    """Those of the chunks that are still there and have no vector of this model."""
    rows = conn.execute(SELECT_UNEMBEDDED, {"ids": list(chunk_ids), "model": model})
    return [TextToEmbed(*row) for row in rows]


SELECT_MISSING: Final = """
    SELECT c."documentId", c."id" FROM "DocumentChunk" c
    WHERE NOT EXISTS (SELECT FROM "ChunkVector" v WHERE v."tenantId" = c."tenantId"
                      AND v."model" = %(model)s AND v."chunkId" = c."id")
    ORDER BY c."documentId", c."chunkIndex" LIMIT %(limit)s
"""


def select_missing(conn: Connection, model: str, *, limit: int) -> list[tuple[DocumentId, ChunkId]]:
    """Chunks of the tenant without a vector of this model, by document."""
    rows = conn.execute(SELECT_MISSING, {"model": model, "limit": limit})
    return [(document_id, id_) for document_id, id_ in rows]


# A chunk that was deleted meanwhile is left out, and one being deleted is waited for.
STORE: Final = """
    WITH made AS (
        SELECT c."id", c."documentId", m."bits", m."embedding"
        FROM unnest(%(ids)s::text[], %(bits)b::bit(1536)[], %(vectors)b::vector[])
             AS m("id", "bits", "embedding")
        JOIN "DocumentChunk" c ON c."id" = m."id"
        FOR KEY SHARE OF c
    ), live AS (
        INSERT INTO "ChunkEmbedding" ("chunkId", "embedding", "model")
        SELECT "id", "embedding", %(model)s FROM made WHERE %(live)s::bool
        ON CONFLICT ("chunkId") DO UPDATE
        SET "embedding" = excluded."embedding", "model" = excluded."model"
    )
    INSERT INTO "ChunkVector" ("tenantId", "model", "chunkId", "documentId", "bits", "embedding")
    SELECT current_setting('app.tenant_id'), %(model)s, "id", "documentId", "bits",
           "embedding"::halfvec(1536)
    FROM made
    ON CONFLICT ("tenantId", "model", "chunkId") DO UPDATE
    SET "bits" = excluded."bits", "embedding" = excluded."embedding"
"""


@dataclass(frozen=True, slots=True)
class Vectors:
    """Vectors of one model, a row a text: rows (n, 1536) float32, their bits (n, 192) uint8."""

    model: str
    ids: Sequence[str]
    rows: NDArray[np.float32]
    bits: NDArray[np.uint8]


def store(conn: Connection, vectors: Vectors, *, live: bool) -> int:
    """Store the vectors of chunks; with `live`, for the platform to read too.

    Returns:
        How many of the chunks were still there.
    """
    values: dict[str, object] = {
        "ids": list(vectors.ids),
        "bits": [Bit(row.tobytes()) for row in vectors.bits],
        "vectors": [Vector(row) for row in vectors.rows],
        "model": vectors.model,
        "live": live,
    }
    return conn.execute(STORE, values).rowcount


SELECT_MESSAGES: Final = """
    SELECT "id", "content", NULL::int AS "tokenCount", 'message ' || "id" AS "name"
    FROM "Message" WHERE "id" = ANY(%(ids)s::text[])
"""


def select_messages(conn: Connection, message_ids: Sequence[MessageId]) -> list[TextToEmbed]:
    """Those of the messages that are still there; a vector they have may be of an older text."""
    rows = conn.execute(SELECT_MESSAGES, {"ids": list(message_ids)})
    return [TextToEmbed(*row) for row in rows]


STORE_MESSAGES: Final = """
    INSERT INTO "MessageEmbedding" ("messageId", "embedding", "model", "bits")
    SELECT m."id", v."embedding", %(model)s, v."bits"
    FROM unnest(%(ids)s::text[], %(vectors)b::vector[], %(bits)b::bit(1536)[])
         AS v("id", "embedding", "bits")
    JOIN "Message" m ON m."id" = v."id" FOR KEY SHARE OF m
    ON CONFLICT ("messageId") DO UPDATE
    SET "embedding" = excluded."embedding", "model" = excluded."model", "bits" = excluded."bits"
"""


def store_messages(conn: Connection, vectors: Vectors) -> int:
    """Store the vectors of messages. Returns how many of them were still there."""
    values: dict[str, object] = {
        "ids": list(vectors.ids),
        "bits": [Bit(row.tobytes()) for row in vectors.bits],
        "vectors": [Vector(row) for row in vectors.rows],
        "model": vectors.model,
    }
    return conn.execute(STORE_MESSAGES, values).rowcount
