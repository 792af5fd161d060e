"""Documents for tests: made of paragraphs that are a chunk each, and what became of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from shared import db
from shared.contracts import DeleteDocument
from shared.ids import DocumentId, TenantId
from shared.ledger.outbox import publish
from tests.support.factories import do_all, environment, job, rows, submit
from tests.support.stub_openai import StubOpenAI

MODEL = "text-embedding-3-small"
TABLES = ("Document", "DocumentChunk", "ChunkEmbedding", "ChunkVector", "ChunkText", "Upload")


@contextmanager
def stubbed() -> Iterator[StubOpenAI]:
    """A provider that this process's settings name, and chunks of one paragraph each."""
    with StubOpenAI() as running, provided_by(running):
        yield running


@contextmanager
def provided_by(stub: StubOpenAI) -> Iterator[None]:
    """Have this process's settings name the provider, with chunks of one paragraph each."""
    with environment(OPENAI_BASE_URL=stub.url, AILYDIAN_CHUNK_TOKENS="64"):
        yield


def paragraph(number: int) -> str:
    """About 45 tokens that no other number has."""
    return " ".join(f"harbour {number * 100 + step} lights;" for step in range(9)) + " end."


def article(*numbers: int, heading: str = "The Coast") -> str:
    """A heading and paragraphs."""
    return "\n\n".join([f"# {heading}", *(paragraph(number) for number in numbers)]) + "\n"


def ingested(tenant: TenantId, content: bytes | str, **options: Any) -> DocumentId:
    """Submit a document and do everything that follows. Returns its id."""
    submitted = submit(tenant, content, **options)
    do_all()
    assert submitted.job_id is not None
    return DocumentId(job(submitted.job_id)["outcome"]["documentId"])


def delete(tenant: TenantId, document_id: DocumentId) -> dict[str, Any]:
    """Delete a document and do everything that follows. Returns the outcome."""
    with db.transaction(tenant) as conn:
        published = publish(conn, DeleteDocument(document_id=document_id))
    do_all()
    outcome: dict[str, Any] = job(published.id)["outcome"]
    return outcome


def content_of(document_id: DocumentId) -> str:
    """A document's text."""
    [(content,)] = rows('SELECT "content" FROM "Document" WHERE "id" = %s', document_id)
    return str(content)


def chunks_of(document_id: DocumentId) -> list[tuple[str, int, int]]:
    """A document's chunks in order, as (content, start, end)."""
    return rows(
        """SELECT "content", "startOffset", "endOffset" FROM "DocumentChunk"
           WHERE "documentId" = %s ORDER BY "chunkIndex" ASC""",
        document_id,
    )


def counts() -> dict[str, int]:
    """How many rows each of the documents' tables has."""
    return {table: rows(f'SELECT count(*) FROM "{table}"')[0][0] for table in TABLES}
