"""Counts of a tenant's documents, chunks and vectors, and their consistency."""

from dataclasses import dataclass
from typing import Final

from shared.db import Connection

SELECT_HOLDINGS: Final = """
    SELECT (SELECT count(*) FROM "Document" WHERE "ingestedAt" IS NOT NULL) AS "documents",
           (SELECT count(*) FROM "DocumentChunk") AS "chunks",
           (SELECT count(*) FROM "ChunkEmbedding" WHERE "model" = %(model)s) AS "embeddings",
           (SELECT count(*) FROM "DocumentChunk" c WHERE NOT EXISTS (
                SELECT 1 FROM "ChunkVector" v WHERE v."tenantId" = c."tenantId"
                    AND v."model" = %(model)s AND v."chunkId" = c."id")) AS "unsearchable",
           (SELECT count(*) FROM "DocumentChunk" c JOIN "Document" d ON d."id" = c."documentId"
            WHERE substr(d."content", c."startOffset" + 1, c."endOffset" - c."startOffset")
                  <> c."content") AS "misquoted"
"""


@dataclass(frozen=True, slots=True)
class Holdings:
    """Counts of a tenant's rows; the last two are zero when all is well."""

    documents: int
    chunks: int
    embeddings: int
    unsearchable: int
    misquoted: int


def select_holdings(conn: Connection, model: str) -> Holdings:
    """Count the rows of the transaction's tenant, with the vectors of one model."""
    row = conn.execute(SELECT_HOLDINGS, {"model": model}).fetchone()
    assert row is not None, "aggregates yield a row"
    return Holdings(*row)
