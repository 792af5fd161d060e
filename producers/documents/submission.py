"""Submitting and deleting documents."""

import hashlib
import uuid
from dataclasses import dataclass
from typing import BinaryIO, Final, Literal

from producers.documents import listing
from producers.queries.documents import uploads
from shared.contracts import DeleteDocument, FetchDocument, IngestDocument
from shared.db import Connection
from shared.egress import targets
from shared.ids import DocumentId, JobId
from shared.ledger.outbox import Published, publish
from shared.operations import audit
from shared.queries.documents import documents
from shared.settings import settings

DOCUMENT_BYTES_MAX: Final = 128 * 1024 * 1024  # what the parsers take
ENDED = frozenset({"COMPLETED", "DEAD", "CANCELLED"})
_PIECE_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class HashedFile:
    """A file whose bytes need not be in memory at once, and the SHA-256 of all of them."""

    file: BinaryIO
    sha256: str


@dataclass(frozen=True, slots=True)
class Submitted:
    """The result of a submission: a job, or none because nothing changed."""

    state: Literal["PUBLISHED", "UNCHANGED"]
    job_id: JobId | None
    document_id: DocumentId | None
    chunks: int = 0


def submit_document(
    conn: Connection,
    content: bytes | str | HashedFile,
    *,
    source: str | None = None,
    title: str | None = None,
    lossy: bool = False,
) -> Submitted:
    """Submit a document for ingestion, in the caller's transaction.

    A document is identified by its source if given, else by its content: the same source with
    other bytes is a new version, the same bytes again do nothing.

    Args:
        conn: A connection inside `db.transaction(tenant_id)`.
        content: The file's bytes, or text, or a file that is stored piece by piece.
        source: Its path or URL, which identifies it.
        title: Its title. Default: from its content.
        lossy: Accept an ambiguous encoding; undecodable bytes become U+FFFD.

    Raises:
        QueueFull: Back-pressure; nothing was accepted.
        PayloadRefused: The source or the title is empty, too long (2,000 characters) or no Unicode.
    """
    content = content.encode() if isinstance(content, str) else content
    if isinstance(content, HashedFile):
        digest = content.sha256
    else:
        digest = hashlib.sha256(content).hexdigest()
    name = IngestDocument.ingest_key(source, digest)
    current = documents.select_current(conn, name)
    coming = documents.select_newest_upload(conn, name)
    if coming is None and current is not None and current.upload_sha256 == digest:
        return Submitted("UNCHANGED", None, current.id, current.chunks)
    job = IngestDocument.from_payload(
        {
            "content_sha256": digest,
            "source": source,
            "title": title,
            "upload_id": _store(conn, name, digest, content),
            "lossy": lossy,
            "replaces_version": current.version if current else 0,
        },
        IngestDocument.schema_version,
    )
    # While other bytes are being ingested, the bytes of before are a new version.
    after = coming[0] if coming is not None and coming[1] != digest else None
    published = publish(conn, job, key=job.key() if after is None else f"{job.key()}\n{after}")
    if published.duplicate and published.state in ENDED:
        # It was done, and its document deleted since; or it was refused, and is to be tried again.
        published = publish(conn, job, key=f"{job.key()}\n{job.upload_id}")
    if published.duplicate and job.upload_id is not None:
        documents.delete_upload(conn, job.upload_id)
    return Submitted("PUBLISHED", published.id, current.id if current else None)


def _store(conn: Connection, name: str, digest: str, content: bytes | HashedFile) -> str:
    if not isinstance(content, HashedFile):
        return documents.insert_upload(conn, name, digest, content)
    staged = f"staged:{uuid.uuid4()}"
    content.file.seek(0)
    number = 0
    while piece := content.file.read(_PIECE_BYTES):
        uploads.insert_piece(conn, staged, number, piece)
        number += 1
    return uploads.join_pieces(conn, staged, name, digest)


def submit_url(conn: Connection, url: str, *, title: str | None = None) -> Published:
    """Publish the fetching of a document, which its URL identifies, by the rules of egress.

    Raises:
        AddressRefused: The URL is invalid, or not allowed whatever its name resolves to.
        PayloadRefused: The URL or the title is empty, too long (2,000 characters) or no Unicode.
    """
    targets.check_text(url, targets.policy_of(settings()))
    payload = {"url": url, "title": title, "request_id": str(uuid.uuid4())}
    return publish(conn, FetchDocument.from_payload(payload, FetchDocument.schema_version))


def delete_document(conn: Connection, document_id: DocumentId, slug: str) -> Published:
    """Publish the deletion of a document with its chunks, vectors and index entries.

    Raises:
        DocumentNotFound: The tenant of this slug, the transaction's, has none of this id.
    """
    found = listing.found(conn, document_id, slug)
    published = publish(conn, DeleteDocument(document_id=found.id))
    audit.note(conn, "document.delete", "Document", found.id)
    return published
