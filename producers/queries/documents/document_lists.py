"""Lists of a tenant's documents and chunks, in the application's role."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from shared.db import Connection
from shared.ids import ChunkId, DocumentId


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """A document without its text; `embedded` counts the chunks that have a vector."""

    id: DocumentId
    title: str
    source: str | None
    kind: str | None
    language: str | None
    characters: int
    chunks: int
    embedded: int
    created_at: datetime
    ingested_at: datetime | None
    metadata: dict[str, Any] | None


SELECT_DOCUMENTS: Final = """
    SELECT d."id", d."title", d."source", d."kind", d."language",
           length(d."content") AS "characters",
           (SELECT count(*) FROM "DocumentChunk" c WHERE c."documentId" = d."id") AS "chunks",
           (SELECT count(*) FROM "DocumentChunk" c
            JOIN "ChunkEmbedding" e ON e."chunkId" = c."id" WHERE c."documentId" = d."id")
               AS "embedded",
           d."createdAt" AT TIME ZONE 'UTC' AS "createdAt", d."ingestedAt", d."metadata"
    FROM "Document" d
    WHERE d."tenantId" = current_setting('app.tenant_id')
      AND (%(id)s::text IS NULL OR d."id" = %(id)s)
      AND (%(before)s::timestamptz IS NULL
           OR (d."createdAt", d."id")
              < (%(before)s::timestamptz AT TIME ZONE 'UTC', %(before_id)s::text))
    ORDER BY d."createdAt" DESC, d."id" DESC LIMIT %(limit)s
"""


def select_documents(
    conn: Connection,
    document_id: DocumentId | None = None,
    *,
    before: tuple[datetime, str] | None = None,
    limit: int = 1,
) -> list[DocumentRow]:
    """Return the tenant's documents, newest first, or the one with this id.

    Args:
        conn: A connection inside `db.transaction(tenant_id)`.
        document_id: The only one.
        before: Time and id of the one that the list goes on after.
        limit: Maximum rows.
    """
    values = {
        "id": document_id,
        "before": before and before[0],
        "before_id": before and before[1],
        "limit": limit,
    }
    return [DocumentRow(*row) for row in conn.execute(SELECT_DOCUMENTS, values)]


@dataclass(frozen=True, slots=True)
class ListedChunk:
    """A chunk; `start` and `end` are code points of the document's content."""

    id: ChunkId
    chunk_index: int
    start: int | None
    end: int | None
    token_count: int | None
    headings: list[str] | None
    model: str | None
    content: str


SELECT_CHUNKS: Final = """
    SELECT c."id", c."chunkIndex", c."startOffset" AS "start", c."endOffset" AS "end",
           c."tokenCount", c."headings", e."model", c."content"
    FROM "DocumentChunk" c LEFT JOIN "ChunkEmbedding" e ON e."chunkId" = c."id"
    WHERE c."documentId" = %(id)s AND c."chunkIndex" >= %(since)s
    ORDER BY c."chunkIndex", c."id" LIMIT %(limit)s
"""


def select_chunks(
    conn: Connection, document_id: DocumentId, *, since: int = 0, limit: int
) -> list[ListedChunk]:
    """Return the chunks of a document, in order, from an index on."""
    values = {"id": document_id, "since": since, "limit": limit}
    return [ListedChunk(*row) for row in conn.execute(SELECT_CHUNKS, values)]
