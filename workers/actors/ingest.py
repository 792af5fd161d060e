"""Queue `ingest`: bytes in, a document with its chunks in Postgres out."""

import atexit
import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus

from shared import db
from shared.contracts import (
    DeleteDocument,
    EmbedChunks,
    FetchDocument,
    IngestDocument,
    PruneUploads,
)
from shared.db import Connection
from shared.egress import fetching
from shared.egress.fetching import FetchLimits, FetchRequest
from shared.egress.targets import policy_of
from shared.errors import DocumentNotFound
from shared.ids import ChunkId, DocumentId
from shared.ledger.outbox import Lease, effect, publish_many
from shared.models.embedding_model import live_model
from shared.queries.documents import documents
from shared.queries.documents.documents import DocumentVersion, NewChunk
from shared.queries.ledger import outbox
from shared.settings import settings
from shared.text import language, tokens
from workers import sandbox
from workers.domain.documents import chunking
from workers.parsers import KindName, Parsed
from workers.process.broker import actor
from workers.queries.documents import embeddings
from workers.steps import http

EMBED_CHUNKS_MAX = 64
UPLOAD_KEPT_S = 7 * 86_400.0
TITLE_CHARS_MAX = 300
FETCHED_BYTES_MAX = 32 * 1024 * 1024  # of a URL: unlike an upload it is held in memory
FETCH_S = 60.0
# Documents as large as this are parsed one at a time, so that a worker holds one of 128 MB, not one
# a thread. It costs nothing: what may be that large is read by the one parser process.
LARGE_BYTES = 16 * 1024 * 1024
LOOK_S = 1.0

_large = threading.Lock()


@dataclass(frozen=True, slots=True)
class _Made:
    """The parsed and chunked document, before it is written."""

    version: DocumentVersion
    chunks: list[NewChunk]


@cache
def _parsers() -> sandbox.Sandbox:
    parsers = sandbox.Sandbox()
    atexit.register(parsers.close)
    return parsers


@actor(IngestDocument)
def ingest_document(job: IngestDocument, lease: Lease) -> None:
    """Parse, chunk and store one document, and request vectors for its new chunks."""
    with _room_for(job, lease):
        # Read
        with db.transaction(lease.tenant_id) as conn:
            content, title = _content(conn, job)
        # Think: the parser may take seconds, and no connection waits for it.
        made = _make(job, lease, content, title)
        del content
    _write(job, lease, made)


@contextmanager
def _room_for(job: IngestDocument, lease: Lease) -> Iterator[None]:
    """Wait until no other large upload is in this process's memory."""
    size = 0
    if job.upload_id is not None:
        with db.transaction(lease.tenant_id) as conn:
            size = documents.select_upload_size(conn, job.upload_id)
    if size <= LARGE_BYTES:
        yield
        return
    while not _large.acquire(timeout=LOOK_S):  # a time limit ends the wait as well
        pass
    try:
        yield
    finally:
        _large.release()


@actor(FetchDocument)
def fetch_document(job: FetchDocument, lease: Lease) -> None:
    """Fetch a document by the rules of egress, then ingest it under its URL."""
    content = _fetched(job.url)
    digest = hashlib.sha256(content).hexdigest()
    found = IngestDocument(content_sha256=digest, source=job.url, title=job.title, lossy=job.lossy)
    _write(found, lease, _make(found, lease, content, job.title))


def _fetched(url: str) -> bytes:
    limits = FetchLimits(bytes_max=FETCHED_BYTES_MAX, timeout_s=FETCH_S)
    reply = fetching.fetch(FetchRequest("GET", url), limits, policy=policy_of(settings()))
    if reply.status != HTTPStatus.OK:
        http.refuse("GET", reply)
    return reply.body


def _write(job: IngestDocument, lease: Lease, made: _Made) -> None:
    with effect(lease) as conn:
        if job.document_id is None:
            stored = documents.put_version(conn, made.version)
        else:
            kept = documents.mark_ingested(conn, job.document_id, made.version)
            stored = (job.document_id, False) if kept else None
        if job.upload_id is not None:
            documents.delete_upload(conn, job.upload_id)
        if stored is None:
            _note(conn, lease, job.document_id, "SUPERSEDED", 0)
            return
        document_id, is_new = stored
        added = _put_chunks(conn, document_id, made, is_new=is_new)
        _ask_for_vectors(conn, document_id, added)
        _note(conn, lease, document_id, "INGESTED", len(made.chunks))


@actor(PruneUploads)
def prune_uploads(job: PruneUploads, lease: Lease) -> None:  # noqa: ARG001 - the day names the fact
    """Delete uploads that no job has taken within a week."""
    with effect(lease) as conn:
        removed = documents.delete_old_uploads(conn, older_s=UPLOAD_KEPT_S)
        outcome = json.dumps({"removed": removed})
        outbox.set_outcome(conn, lease.job_id, lease.fence, outcome)


@actor(DeleteDocument)
def delete_document(job: DeleteDocument, lease: Lease) -> None:
    """Delete a document and everything derived from it."""
    with effect(lease) as conn:
        found = documents.delete(conn, job.document_id)
        _note(conn, lease, job.document_id, "DELETED" if found else "ABSENT", 0)


def _content(conn: Connection, job: IngestDocument) -> tuple[bytes, str | None]:
    if job.document_id is not None:
        written = documents.select_written(conn, job.document_id)
        if written is None:
            raise DocumentNotFound(f"The document {job.document_id} no longer exists.")
        return written.content.encode(), written.title
    content = documents.select_upload(conn, job.upload_id or "")
    if content is None:
        raise DocumentNotFound(
            f"The upload {job.upload_id} no longer exists: submit the document again."
        )
    return content, job.title


def _make(job: IngestDocument, lease: Lease, content: bytes, title: str | None) -> _Made:
    if job.document_id is None:
        parsed = _parsers().parse(content, name=job.source, lossy=job.lossy)
        title = title or parsed.title
    else:
        # The platform's own text: it is quoted by offsets, so it stays as it is.
        parsed = Parsed(text=content.decode(), kind=KindName("md"), structure="markdown")
    text = parsed.text
    pieces = chunking.chunk(
        text,
        tokens_max=settings().chunk_tokens,
        count_many=tokens.count_many,
        kind=parsed.structure,
    )
    chunks = [
        NewChunk(
            content=piece.content,
            chunk_index=piece.index,
            start=piece.start,
            end=piece.end,
            token_count=piece.token_count,
            content_sha256=piece.sha256,
            headings=piece.headings,
        )
        for piece in pieces
    ]
    version = DocumentVersion(
        ingest_key=IngestDocument.ingest_key(job.source, job.content_sha256),
        title=_first_line(title or job.source or text),
        content=text,
        source=job.source,
        kind=parsed.kind,
        language=language.detect(text),
        upload_sha256=job.content_sha256,
        content_sha256=hashlib.sha256(text.encode()).hexdigest(),
        submitted_at=lease.created_at,
        submitted_job_id=lease.job_id,
    )
    return _Made(version, chunks)


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ["untitled"])[0][:TITLE_CHARS_MAX]


def _put_chunks(
    conn: Connection, document_id: DocumentId, made: _Made, *, is_new: bool
) -> list[ChunkId]:
    """Keep the chunks whose text is unchanged, replace the others. Returns those added."""
    old: dict[str, list[ChunkId]] = defaultdict(list)
    if not is_new:
        for chunk_id, sha256 in documents.select_chunk_hashes(conn, document_id):
            old[sha256].append(chunk_id)
    kept: list[tuple[ChunkId, NewChunk]] = []
    new: list[NewChunk] = []
    for chunk in made.chunks:
        same = old.get(chunk.content_sha256)
        if same:
            kept.append((same.pop(0), chunk))
        else:
            new.append(chunk)
    documents.delete_chunks(conn, [chunk_id for ids in old.values() for chunk_id in ids])
    documents.move_chunks(conn, made.version.language, kept)
    return documents.insert_chunks(conn, document_id, made.version.language, new)


def _ask_for_vectors(conn: Connection, document_id: DocumentId, added: Sequence[ChunkId]) -> None:
    model = live_model(conn)
    reused = embeddings.reuse(conn, added, model)
    missing = [chunk_id for chunk_id in added if chunk_id not in reused]
    publish_many(
        conn,
        [
            EmbedChunks(
                document_id=document_id,
                chunk_ids=missing[start : start + EMBED_CHUNKS_MAX],
                model=model,
            )
            for start in range(0, len(missing), EMBED_CHUNKS_MAX)
        ],
    )


def _note(
    conn: Connection, lease: Lease, document_id: DocumentId | None, status: str, chunks: int
) -> None:
    outcome = {"documentId": document_id, "status": status, "chunks": chunks}
    outbox.set_outcome(conn, lease.job_id, lease.fence, json.dumps(outcome))
