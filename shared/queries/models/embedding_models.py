"""The live embedding model of a tenant, and switching it without downtime."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from pgvector import Vector

from shared.db import Connection
from shared.ids import ChunkId

SELECT_LIVE: Final = """
    SELECT "model" FROM "LiveModel" WHERE "tenantId" = current_setting('app.tenant_id')
"""


def select_live(conn: Connection) -> str | None:
    """The tenant's own live model; None means that of the settings."""
    row = conn.execute(SELECT_LIVE).fetchone()
    return None if row is None else str(row[0])


FLIP: Final = """
    INSERT INTO "LiveModel" ("model") VALUES (%(model)s)
    ON CONFLICT ("tenantId") DO UPDATE SET "model" = excluded."model", "flippedAt" = now()
"""


def flip(conn: Connection, model: str) -> None:
    """Switch the tenant's search to another model's vectors, from this commit on."""
    conn.execute(FLIP, {"model": model})


SELECT_SAMPLE: Final = """
    SELECT c."id", left(c."content", %(chars)s) AS "content" FROM (
        SELECT v."chunkId" FROM "ChunkVector" v
        WHERE v."tenantId" = current_setting('app.tenant_id') AND v."model" = %(model)s
        ORDER BY md5(v."chunkId") LIMIT %(limit)s
    ) s
    JOIN "DocumentChunk" c ON c."id" = s."chunkId"
"""


def select_sample(
    conn: Connection, model: str, *, limit: int, chars: int
) -> list[tuple[ChunkId, str]]:
    """Some of the tenant's chunks, always the same ones, and how their texts begin."""
    rows = conn.execute(SELECT_SAMPLE, {"model": model, "limit": limit, "chars": chars})
    return [(id_, content) for id_, content in rows]


SELECT_NEAREST: Final = """
    SELECT v."chunkId" FROM "ChunkVector" v
    WHERE v."tenantId" = current_setting('app.tenant_id') AND v."model" = %(model)s
    ORDER BY v."embedding" <=> %(vector)b::vector::halfvec(1536), v."chunkId" LIMIT %(limit)s
"""


def select_nearest(
    conn: Connection, model: str, vector: NDArray[np.float32], *, limit: int
) -> list[str]:
    """The chunks nearest to a vector, by exact cosine distance over all of the tenant's."""
    values = {"model": model, "vector": Vector(vector), "limit": limit}
    return [row[0] for row in conn.execute(SELECT_NEAREST, values)]


FOLLOW: Final = """
    WITH behind AS (
        SELECT v."chunkId", v."embedding" FROM "ChunkVector" v
        LEFT JOIN "ChunkEmbedding" e ON e."chunkId" = v."chunkId"
        WHERE v."tenantId" = current_setting('app.tenant_id') AND v."model" = %(model)s
          AND e."model" IS DISTINCT FROM %(model)s
        ORDER BY v."chunkId" LIMIT %(limit)s
    )
    INSERT INTO "ChunkEmbedding" ("chunkId", "embedding", "model")
    SELECT b."chunkId", b."embedding"::vector(1536), %(model)s FROM behind b
    ON CONFLICT ("chunkId") DO UPDATE
    SET "embedding" = excluded."embedding", "model" = excluded."model"
"""


def follow(conn: Connection, model: str, *, limit: int) -> int:
    """Copy some of a model's vectors to the platform's table. Returns how many."""
    return conn.execute(FOLLOW, {"model": model, "limit": limit}).rowcount
