"""A tenant's documents, and how far the ingestion of one is."""

from collections.abc import Sequence
from dataclasses import dataclass

from producers.queries.documents import document_lists
from producers.queries.documents.document_lists import DocumentRow
from producers.queries.ledger.jobs import Progress
from shared.db import Connection
from shared.errors import DocumentNotFound
from shared.ids import DocumentId


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
