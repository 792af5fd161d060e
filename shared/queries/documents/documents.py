"""Documents, chunks and uploads: read, replace and delete them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.db import Connection
from shared.ids import ChunkId, DocumentId, JobId

INSERT_UPLOAD: Final = """
    INSERT INTO "Upload" ("ingestKey", "sha256", "content")
    VALUES (%(key)s, %(sha256)s, %(content)b) RETURNING "id"
"""


def insert_upload(conn: Connection, ingest_key: str, sha256: str, content: bytes) -> str:
    """Store an upload until it is ingested. Returns its id."""
    values = {"key": ingest_key, "sha256": sha256, "content": content}
    row = conn.execute(INSERT_UPLOAD, values).fetchone()
    assert row is not None, "INSERT .. RETURNING yields a row"
    return str(row[0])


SELECT_NEWEST_UPLOAD: Final = """
    SELECT "id", "sha256" FROM "Upload"
    WHERE "tenantId" = current_setting('app.tenant_id') AND "ingestKey" = %(key)s
    ORDER BY "createdAt" DESC, "id" DESC LIMIT 1
"""


def select_newest_upload(conn: Connection, ingest_key: str) -> tuple[str, str] | None:
    """The newest pending upload of a document, as (id, hash), or None."""
    row = conn.execute(SELECT_NEWEST_UPLOAD, {"key": ingest_key}).fetchone()
    if row is None:
        return None
    id_, sha256 = row
    return id_, sha256


RESTORE_UPLOAD: Final = """
    INSERT INTO "Upload" ("id", "ingestKey", "sha256", "content")
    VALUES (%(id)s, '', '', %(content)b)
"""


def restore_upload(conn: Connection, upload_id: str, content: bytes) -> None:
    """Restore a lost upload under the id that its job knows."""
    conn.execute(RESTORE_UPLOAD, {"id": upload_id, "content": content})


SELECT_UPLOAD: Final = """
    SELECT "content" FROM "Upload" WHERE "id" = %(id)s
        AND "tenantId" = current_setting('app.tenant_id')
"""


def select_upload(conn: Connection, upload_id: str) -> bytes | None:
    """The bytes of an upload, or None if it no longer exists."""
    row = conn.execute(SELECT_UPLOAD, {"id": upload_id}, binary=True).fetchone()
    return None if row is None else bytes(row[0])


SELECT_UPLOAD_SIZE: Final = """
    SELECT octet_length("content") FROM "Upload" WHERE "id" = %(id)s
        AND "tenantId" = current_setting('app.tenant_id')
"""


def select_upload_size(conn: Connection, upload_id: str) -> int:
    """The bytes of an upload; 0 if it no longer exists."""
    row = conn.execute(SELECT_UPLOAD_SIZE, {"id": upload_id}).fetchone()
    return 0 if row is None else int(row[0])


DELETE_UPLOAD: Final = """
    DELETE FROM "Upload" WHERE "id" = %(id)s AND "tenantId" = current_setting('app.tenant_id')
"""


def delete_upload(conn: Connection, upload_id: str) -> None:
    """Delete an upload that has been ingested."""
    conn.execute(DELETE_UPLOAD, {"id": upload_id})


DELETE_OLD_UPLOADS: Final = """
    DELETE FROM "Upload" WHERE "tenantId" = current_setting('app.tenant_id')
      AND "createdAt" < now() - %(older_s)s::float8 * interval '1 second'
"""


def delete_old_uploads(conn: Connection, *, older_s: float) -> int:
    """Remove the tenant's uploads of more than `older_s` seconds ago. Returns how many."""
    return conn.execute(DELETE_OLD_UPLOADS, {"older_s": older_s}).rowcount


@dataclass(frozen=True, slots=True)
class CurrentDocument:
    """A document as it stands: `upload_sha256` is of the bytes it was last made from."""

    id: DocumentId
    version: int
    upload_sha256: str | None
    chunks: int


SELECT_CURRENT: Final = """
    SELECT d."id", d."ingestVersion" AS "version", d."uploadSha256",
           (SELECT count(*) FROM "DocumentChunk" c WHERE c."documentId" = d."id") AS "chunks"
    FROM "Document" d
    WHERE d."tenantId" = current_setting('app.tenant_id') AND d."ingestKey" = %(key)s
"""


def select_current(conn: Connection, ingest_key: str) -> CurrentDocument | None:
    """The document that has this key, or None."""
    row = conn.execute(SELECT_CURRENT, {"key": ingest_key}).fetchone()
    return None if row is None else CurrentDocument(*row)


@dataclass(frozen=True, slots=True)
class PlatformDocument:
    """A document that the platform wrote."""

    id: DocumentId
    title: str
    content: str
    source: str | None
    version: int
    content_sha256: str | None


SELECT_WRITTEN: Final = """
    SELECT "id", "title", "content", "source", "ingestVersion" AS "version", "contentSha256"
    FROM "Document" WHERE "id" = %(id)s
"""


def select_written(conn: Connection, document_id: DocumentId) -> PlatformDocument | None:
    """A document by its id, or None."""
    row = conn.execute(SELECT_WRITTEN, {"id": document_id}).fetchone()
    return None if row is None else PlatformDocument(*row)


@dataclass(frozen=True, slots=True)
class DocumentVersion:
    """The version of a document that one ingest writes."""

    ingest_key: str
    title: str
    content: str
    source: str | None
    kind: str
    language: str
    upload_sha256: str
    content_sha256: str
    submitted_at: datetime
    submitted_job_id: JobId


# Of two versions on their way at once the one submitted later stays, whichever comes first.
PUT_VERSION: Final = """
    INSERT INTO "Document" AS d ("tenantId", "ingestKey", "title", "content", "source", "kind",
        "language", "uploadSha256", "contentSha256", "ingestedSha256", "ingestedAt",
        "submittedAt", "submittedJobId", "ingestVersion")
    VALUES (current_setting('app.tenant_id'), %(ingest_key)s, %(title)s, %(content)s, %(source)s,
        %(kind)s, %(language)s, %(upload_sha256)s, %(content_sha256)s, %(content_sha256)s, now(),
        %(submitted_at)s, %(submitted_job_id)s, 1)
    ON CONFLICT ("tenantId", "ingestKey") DO UPDATE
    SET "title" = excluded."title", "content" = excluded."content", "kind" = excluded."kind",
        "language" = excluded."language", "uploadSha256" = excluded."uploadSha256",
        "contentSha256" = excluded."contentSha256", "ingestedSha256" = excluded."ingestedSha256",
        "ingestedAt" = excluded."ingestedAt", "submittedAt" = excluded."submittedAt",
        "submittedJobId" = excluded."submittedJobId",
        "ingestVersion" = d."ingestVersion" + 1
    WHERE d."submittedAt" IS NULL OR (d."submittedAt", d."submittedJobId")
        <= (excluded."submittedAt", excluded."submittedJobId")
    RETURNING d."id", d."ingestVersion"
"""


def put_version(conn: Connection, version: DocumentVersion) -> tuple[DocumentId, bool] | None:
    """Write a document or its next version, and lock it.

    Returns:
        Its id and whether it is new; None when there is a later submission already.
    """
    values = {name: getattr(version, name) for name in DocumentVersion.__slots__}
    row = conn.execute(PUT_VERSION, values).fetchone()
    if row is None:
        return None
    id_, ingest_version = row
    return DocumentId(id_), ingest_version == 1


MARK_INGESTED: Final = """
    UPDATE "Document"
    SET "kind" = %(kind)s, "language" = %(language)s, "contentSha256" = %(content_sha256)s,
        "ingestedSha256" = %(content_sha256)s, "ingestedAt" = now(),
        "ingestVersion" = "ingestVersion" + 1
    WHERE "id" = %(id)s AND "content" = %(content)s
"""


def mark_ingested(conn: Connection, document_id: DocumentId, version: DocumentVersion) -> bool:
    """Note that the chunks of a document of the platform are those of this content.

    Returns:
        False when the platform has changed or deleted it since it was read.
    """
    values = {name: getattr(version, name) for name in DocumentVersion.__slots__}
    return conn.execute(MARK_INGESTED, values | {"id": document_id}).rowcount == 1


SELECT_CHUNK_HASHES: Final = """
    SELECT "id", "contentSha256" FROM "DocumentChunk"
    WHERE "documentId" = %(document_id)s ORDER BY "chunkIndex", "id"
"""


def select_chunk_hashes(conn: Connection, document_id: DocumentId) -> list[tuple[ChunkId, str]]:
    """The chunks that a document has, as (id, hash of the content)."""
    rows = conn.execute(SELECT_CHUNK_HASHES, {"document_id": document_id})
    return [(id_, content_sha256) for id_, content_sha256 in rows]


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A chunk to write; offsets are code points of the document's content."""

    content: str
    chunk_index: int
    start: int
    end: int
    token_count: int
    content_sha256: str
    headings: tuple[str, ...]


# The words go in by the same statement; headings come as one text, a line each.
INSERT_CHUNKS: Final = """
    WITH added AS (
        INSERT INTO "DocumentChunk" ("documentId", "content", "chunkIndex", "startOffset",
            "endOffset", "tokenCount", "contentSha256", "headings")
        SELECT %(document_id)s, c."content", c."index", c."start", c."end", c."tokens", c."hash",
               string_to_array(nullif(c."headings", ''), E'\\n')
        FROM unnest(%(contents)s::text[], %(indexes)s::int[], %(starts)s::int[], %(ends)s::int[],
                    %(tokens)s::int[], %(hashes)s::text[], %(headings)s::text[])
             AS c("content", "index", "start", "end", "tokens", "hash", "headings")
        RETURNING "id", "tenantId", "chunkIndex", "content", "headings"
    ), words AS (
        INSERT INTO "ChunkText" ("tenantId", "chunkId", "documentId", "language", "tsv")
        SELECT "tenantId", "id", %(document_id)s, %(language)s,
               ailydian_words(
                   %(language)s, coalesce(array_to_string("headings", ' '), ''), "content")
        FROM added
    )
    SELECT "id" FROM added ORDER BY "chunkIndex"
"""


def insert_chunks(
    conn: Connection, document_id: DocumentId, language: str, chunks: Sequence[NewChunk]
) -> list[ChunkId]:
    """Add chunks and their words. Returns their ids, in the order of their index."""
    if not chunks:
        return []
    values = {
        "document_id": document_id,
        "language": language,
        "contents": [chunk.content for chunk in chunks],
        "indexes": [chunk.chunk_index for chunk in chunks],
        "starts": [chunk.start for chunk in chunks],
        "ends": [chunk.end for chunk in chunks],
        "tokens": [chunk.token_count for chunk in chunks],
        "hashes": [chunk.content_sha256 for chunk in chunks],
        "headings": ["\n".join(chunk.headings) for chunk in chunks],
    }
    return [ChunkId(row[0]) for row in conn.execute(INSERT_CHUNKS, values)]


# A chunk's words hold those of its headings: under another heading, or in a document that now
# counts as another language, they are parsed again.
MOVE_CHUNKS: Final = """
    WITH kept AS (
        SELECT c.*, string_to_array(nullif(c."path", ''), E'\\n') AS "headings"
        FROM unnest(%(ids)s::text[], %(indexes)s::int[], %(starts)s::int[], %(ends)s::int[],
                    %(headings)s::text[]) AS c("id", "index", "start", "end", "path")
    ), words AS (
        UPDATE "ChunkText" t
        SET "language" = %(language)s,
            "tsv" = ailydian_words(
                %(language)s, coalesce(array_to_string(k."headings", ' '), ''), d."content")
        FROM kept k JOIN "DocumentChunk" d ON d."id" = k."id"
        WHERE t."tenantId" = d."tenantId" AND t."chunkId" = d."id"
          AND (d."headings" IS DISTINCT FROM k."headings" OR t."language" <> %(language)s)
    )
    UPDATE "DocumentChunk" d
    SET "chunkIndex" = k."index", "startOffset" = k."start", "endOffset" = k."end",
        "headings" = k."headings"
    FROM kept k WHERE d."id" = k."id"
"""


def move_chunks(conn: Connection, language: str, kept: Sequence[tuple[ChunkId, NewChunk]]) -> None:
    """Update the places of chunks that a new version keeps, and their words where they differ."""
    if not kept:
        return
    values = {
        "language": language,
        "ids": [chunk_id for chunk_id, _ in kept],
        "indexes": [chunk.chunk_index for _, chunk in kept],
        "starts": [chunk.start for _, chunk in kept],
        "ends": [chunk.end for _, chunk in kept],
        "headings": ["\n".join(chunk.headings) for _, chunk in kept],
    }
    conn.execute(MOVE_CHUNKS, values)


DELETE_CHUNKS: Final = """
    DELETE FROM "DocumentChunk" WHERE "id" = ANY(%(ids)s::text[])
"""


def delete_chunks(conn: Connection, ids: Sequence[ChunkId]) -> None:
    """Remove chunks; their vectors and words go with them."""
    if ids:
        conn.execute(DELETE_CHUNKS, {"ids": list(ids)})


DELETE: Final = """
    DELETE FROM "Document" WHERE "id" = %(id)s
"""


def delete(conn: Connection, document_id: DocumentId) -> bool:
    """Delete a document with everything derived from it. Returns whether it existed."""
    return conn.execute(DELETE, {"id": document_id}).rowcount == 1
