"""Checks that the chunks of a document are in the search indexes."""

from dataclasses import dataclass
from typing import Final

from shared.db import Connection
from shared.ids import DocumentId, TenantId


@dataclass(frozen=True, slots=True)
class Indexed:
    """Counts for a document: its chunks, and their rows for vector and text search.

    Attributes:
        opening: The content of its first chunk, "" if it has none.
    """

    title: str
    opening: str
    chunks: int
    vectors: int
    texts: int


# Every join names the tenant, as the statements of search do: the planner needs it for the keys.
SELECT_INDEXED: Final = """
    SELECT d."title",
           coalesce((SELECT o."content" FROM "DocumentChunk" o WHERE o."documentId" = d."id"
                     ORDER BY o."chunkIndex" LIMIT 1), '') AS "opening",
           count(c."id") AS "chunks", count(v."chunkId") AS "vectors", count(t."chunkId") AS "texts"
    FROM "Document" d
    LEFT JOIN "DocumentChunk" c ON c."documentId" = d."id"
    LEFT JOIN "ChunkVector" v ON v."tenantId" = %(tenant_id)s AND v."model" = %(model)s
                             AND v."chunkId" = c."id"
    LEFT JOIN "ChunkText" t ON t."tenantId" = %(tenant_id)s AND t."chunkId" = c."id"
    WHERE d."id" = %(document_id)s
    GROUP BY d."id"
"""


def select_indexed(
    conn: Connection, tenant_id: TenantId, document_id: DocumentId, model: str
) -> Indexed | None:
    """Count what search would read of a document; None if the tenant has no such document."""
    values = {"tenant_id": tenant_id, "document_id": document_id, "model": model}
    row = conn.execute(SELECT_INDEXED, values).fetchone()
    return Indexed(*row) if row else None
