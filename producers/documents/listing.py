"""A tenant's documents, and how far the ingestion of one is."""

from collections.abc import Sequence
from dataclasses import dataclass

from producers.errors import JobNotFound
from producers.ledger import cancellation
from producers.queries.documents import document_lists
from producers.queries.documents.document_lists import DocumentRow
from producers.queries.ledger import jobs
from producers.queries.ledger.jobs import Progress
from shared import db
from shared.contracts import FetchDocument, IngestDocument
from shared.db import Connection, Role
from shared.errors import DocumentNotFound
from shared.ids import DocumentId, JobId, TenantId

_INGESTING = frozenset({IngestDocument.actor_name, FetchDocument.actor_name})
_ENDED = frozenset({"COMPLETED", "DEAD", "CANCELLED"})


@dataclass(frozen=True, slots=True)
class Ingested:
    """How an ingestion ended.

    Attributes:
        document_id: None where there is no document.
        status: INGESTED; UNCHANGED where a later submission of the same source was faster; REFUSED
            where the document is at fault; DEAD.
        chunks: Of the document.
        error: Why it failed.
    """

    document_id: DocumentId | None
    status: str
    chunks: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class IngestionRow:
    """An ingestion by the id of its job; `status` is PENDING or as in `Ingested`."""

    id: JobId
    source: str | None
    document_id: DocumentId | None
    status: str
    chunks: int | None
    error: str | None


def found(conn: Connection, document_id: DocumentId, slug: str) -> DocumentRow:
    """Return a document of the transaction's tenant.

    Raises:
        DocumentNotFound: The tenant of this slug has none of this id.
    """
    rows = document_lists.select_documents(conn, document_id)
    if not rows:
        raise DocumentNotFound(f"The tenant {slug} has no document with the id {document_id!r}.")
    return rows[0]


def ingested(family: Sequence[Progress]) -> Ingested:
    """Return how an ingestion ended.

    Args:
        family: The job and its follow-ups, the job first; all have ended.
    """
    own = family[0]
    failed = next((one for one in family if one.state != "COMPLETED"), None)
    made = own.outcome or {}
    document_id, chunks = made.get("documentId"), made.get("chunks")
    if failed is None:
        status = made.get("status", "INGESTED")
        return Ingested(
            document_id, "UNCHANGED" if status == "SUPERSEDED" else status, chunks, None
        )
    status = "REFUSED" if failed.error_type == "DocumentRefused" else "DEAD"
    error = failed.error or f"The job {failed.id} is {failed.state}."
    return Ingested(document_id, status, chunks, error)


def ingestion(tenant_id: TenantId, job_id: JobId) -> IngestionRow:
    """Return how far the ingestion of a submitted document is.

    Raises:
        JobNotFound: The tenant has no ingestion of this id.
    """
    with db.transaction(None, role=Role.RELAY) as conn:
        job = cancellation.found(conn, job_id, tenant_id)
        rows = jobs.select_progress(conn, [job.id])
    if job.job not in _INGESTING:
        raise JobNotFound(f"The job {job_id} is none of ingestion, but {job.job}.")
    family = sorted(rows, key=lambda row: row.id != row.root_id)
    source = job.payload.get("source") or job.payload.get("url")
    if all(one.state in _ENDED for one in family):
        done = ingested(family)
        return IngestionRow(job.id, source, done.document_id, done.status, done.chunks, done.error)
    made = family[0].outcome or {}
    return IngestionRow(job.id, source, made.get("documentId"), "PENDING", made.get("chunks"), None)
