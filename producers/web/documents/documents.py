"""/v1/documents: upload, list, show and delete."""

from http import HTTPStatus
from typing import Annotated, Any, Final, Self

from fastapi import Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field, model_validator
from starlette.concurrency import run_in_threadpool

from producers.accounts import tenants
from producers.accounts.scopes import Scope
from producers.documents import listing, submission
from producers.documents.listing import IngestionRow
from producers.documents.submission import HashedFile, Submitted
from producers.json_rows import as_document, text
from producers.queries.documents import document_lists
from producers.queries.documents.document_lists import DocumentRow, ListedChunk
from producers.web import answers, bodies, lists, routes
from producers.web.access import Acting, needs
from producers.web.answers import Answer
from producers.web.bodies import Body
from producers.web.documents import uploads
from producers.web.lists import Cursor, Limit
from producers.web.problems import Refused
from producers.web.routes import NO_NUL
from shared import db
from shared.db import Connection
from shared.ids import DocumentId, JobId
from shared.ledger.outbox import Published
from shared.observability import tracing

router = routes.router("documents")

FORM: Final = "multipart/form-data"
Id = Annotated[str, Path(max_length=64, pattern=NO_NUL, description="Id of a document.")]
Name = Field(None, min_length=1, max_length=2_000)


class DocumentRequest(Body):
    """A document as text, or the URL that it is fetched from, which identifies it."""

    text: str | None = Field(None, min_length=1, examples=["# Tides\n\nThe sea rises twice a day."])
    url: str | None = Field(
        None,
        min_length=1,
        max_length=2_000,
        description="Of a public address, by https. A worker fetches it, up to 32 MB.",
    )
    source: str | None = Field(
        None,
        min_length=1,
        max_length=2_000,
        examples=["notes/tides.md"],
        description="Identifies the document: the same source again is a new version. Unset: its "
        "content does.",
    )
    title: str | None = Field(
        None, min_length=1, max_length=2_000, description="Unset: from its content."
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.text is None) == (self.url is None):
            raise ValueError("give either text or url")
        if self.url is not None and self.source is not None:
            raise ValueError("a URL is its own source")
        return self


class DocumentForm(BaseModel):
    """A document as a file."""

    file: str = Field(json_schema_extra={"format": "binary"})
    source: str | None = Field(
        None, min_length=1, max_length=2_000, description="As in JSON; unset: the file's name."
    )
    title: str | None = Field(None, min_length=1, max_length=2_000)
    lossy: bool = Field(
        False, description="Accept ambiguous encodings; undecodable bytes become U+FFFD."
    )


Document = answers.model_of(DocumentRow, name="Document")
DocumentList = answers.page_of(Document, name="DocumentList")
Chunk = answers.model_of(ListedChunk, name="Chunk")
ChunkList = answers.list_of(Chunk, name="ChunkList")
Submission = answers.model_of(Submitted, name="Submission")
Ingestion = answers.model_of(IngestionRow, name="Ingestion")
Deletion = answers.model_of(Published, name="Deletion")


def _described() -> dict[str, Any]:
    found = bodies.described(DocumentRequest)
    found["requestBody"]["content"][FORM] = {"schema": DocumentForm.model_json_schema()}
    return found


@router.post(
    "",
    status_code=HTTPStatus.ACCEPTED,
    response_model=Submission,
    responses={200: {"model": Submission, "description": "Nothing changed."}},
    openapi_extra=_described(),
    dependencies=[answers.STREAMED],
)
async def submit_document(
    request: Request,
    acting: Annotated[Acting, needs(Scope.DOCUMENTS_WRITE)],
) -> Response:
    """Submit a document: a file as multipart/form-data, up to 128 MB, or a text or a URL as JSON.

    `Location` of a 202 tells how far its ingestion is. 200: it was ingested before, unchanged.
    """
    if bodies.media_type(request) == FORM:
        async with uploads.received(request, acting.tenant) as form:
            assert form.content is not None, "a form without a file is refused"
            named = {name: form.fields[name] or None for name in form.fields if name != "lossy"}
            named = {"source": form.filename} | named
            lossy = _flag(form.fields.get("lossy", "false"))
            facts = named | {"sha256": form.content.sha256, "lossy": lossy}
            request.state.body = text(facts).encode()
            return await run_in_threadpool(_submit, request, acting, form.content, named, lossy)
    body = request.state.body = await request.body()
    wanted = await run_in_threadpool(bodies.read, DocumentRequest, body)
    named = {"source": wanted.source, "title": wanted.title}
    if wanted.text is not None:
        return await run_in_threadpool(_submit, request, acting, wanted.text, named, False)
    assert wanted.url is not None, "one of the two is given"
    return await run_in_threadpool(_submit_url, request, acting, wanted.url, wanted.title)


def _submit(
    request: Request,
    acting: Acting,
    content: HashedFile | str,
    named: dict[str, str | None],
    lossy: bool,
) -> Response:
    def do(conn: Connection) -> Answer:
        with tracing.continued(request.headers.get("traceparent")):
            done = submission.submit_document(conn, content, lossy=lossy, **named)
        if done.state == "UNCHANGED":
            place = f"/v1/documents/{done.document_id}"
            return Answer(as_document(done), headers={"Location": place})
        return _accepted(done, done.job_id)

    return answers.once(request, acting, do)


def _submit_url(request: Request, acting: Acting, url: str, title: str | None) -> Response:
    def do(conn: Connection) -> Answer:
        with tracing.continued(request.headers.get("traceparent")):
            job = submission.submit_url(conn, url, title=title)
        return _accepted(Submitted("PUBLISHED", job.id, None), job.id)

    return answers.once(request, acting, do)


def _accepted(done: Submitted, job_id: JobId | None) -> Answer:
    headers = {"Location": f"/v1/documents/ingestions/{job_id}"}
    return Answer(as_document(done), HTTPStatus.ACCEPTED, headers)


def _flag(given: str) -> bool:
    if given.lower() not in {"true", "false"}:
        raise Refused(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "invalid_request",
            "Invalid body/lossy: it must be true or false.",
        )
    return given.lower() == "true"


@router.get("", response_model=DocumentList)
def list_documents(
    acting: Annotated[Acting, needs(Scope.DOCUMENTS_READ)],
    after: Cursor = None,
    limit: Limit = 100,
) -> Response:
    """List documents, newest first."""
    before = lists.read(after)
    with db.transaction(acting.tenant) as conn:
        rows = document_lists.select_documents(conn, before=before, limit=limit)
    return answers.page(rows, limit=limit, place=lambda row: (row.created_at, row.id))


@router.get("/{document_id}", response_model=Document)
def show_document(
    document_id: Id, acting: Annotated[Acting, needs(Scope.DOCUMENTS_READ)]
) -> Response:
    """Show a document; `embedded` of its `chunks` have a vector."""
    slug = tenants.slug_of(acting.tenant)
    with db.transaction(acting.tenant) as conn:
        row = listing.found(conn, DocumentId(document_id), slug)
    return answers.ok(as_document(row))


@router.get("/{document_id}/chunks", response_model=ChunkList)
def list_chunks(
    document_id: Id,
    acting: Annotated[Acting, needs(Scope.DOCUMENTS_READ)],
    since: Annotated[int, Query(ge=0, le=2**31 - 1, description="The first index.")] = 0,
    limit: Limit = 100,
) -> Response:
    """List the chunks of a document in order, from an index on."""
    slug = tenants.slug_of(acting.tenant)
    with db.transaction(acting.tenant) as conn:
        row = listing.found(conn, DocumentId(document_id), slug)
        chunks = document_lists.select_chunks(conn, row.id, since=since, limit=limit)
    return answers.ok_list(chunks)


@router.get("/ingestions/{job_id}", response_model=Ingestion)
def show_ingestion(
    job_id: Annotated[str, Path(max_length=64, pattern=NO_NUL)],
    acting: Annotated[Acting, needs(Scope.DOCUMENTS_READ)],
) -> Response:
    """Show how far an ingestion is: PENDING until every chunk has its vector, or how it ended."""
    return answers.ok(as_document(listing.ingestion(acting.tenant, JobId(job_id))))


@router.delete("/{document_id}", status_code=HTTPStatus.ACCEPTED, response_model=Deletion)
def delete_document(
    request: Request,
    document_id: Id,
    acting: Annotated[Acting, needs(Scope.DOCUMENTS_WRITE)],
) -> Response:
    """Delete a document with its chunks and vectors, by a job that `Location` shows."""
    slug = tenants.slug_of(acting.tenant)

    def do(conn: Connection) -> Answer:
        job = submission.delete_document(conn, DocumentId(document_id), slug)
        headers = {"Location": f"/v1/jobs/{job.id}"}
        return Answer(as_document(job), HTTPStatus.ACCEPTED, headers)

    return answers.once(request, acting, do)
