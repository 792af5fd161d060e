"""/v1/batches: jobs published together, with progress and a follow-up."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import Path, Query, Request
from fastapi.responses import Response
from pydantic import Field

from producers.accounts.scopes import Scope
from producers.json_rows import as_document
from producers.ledger import batches
from producers.ledger.bulk_actions import BulkChoice
from producers.queries.ledger import batches as queries
from producers.queries.ledger.batches import BatchRow
from producers.queries.ledger.dead_letters import DeadLetterFilters
from producers.web import answers, bodies, lists, routes
from producers.web.access import Acting, needs
from producers.web.answers import Answer
from producers.web.bodies import NDJSON, Body
from producers.web.ledger import bulk
from producers.web.ledger.publications import (
    LINES_MAX,
    contract_of,
    note_operators_batch,
    read_lines,
)
from producers.web.lists import Cursor, Limit
from producers.web.problems import Refused
from producers.web.routes import NO_NUL
from shared import db
from shared.contracts import Contract
from shared.db import Connection, Role
from shared.observability import tracing

router = routes.router("batches")

Id = Annotated[str, Path(max_length=200, pattern=NO_NUL, description="Of the batch.")]
JOBS_MAX: Final = LINES_MAX


class BatchJob(Body):
    """One job of a batch."""

    job: str | None = Field(None, max_length=100, description="Unset: the batch's.")
    payload: dict[str, Any] = Field(default_factory=dict, examples=[{"n": 1}])

    def contract(self, default: str | None, acting: Acting) -> Contract:
        """Return the job that is asked for.

        Raises:
            Refused: Neither it nor the batch names its kind.
        """
        name = self.job or default
        if name is None:
            raise Refused(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "invalid_request",
                "Name the kind of job, in the batch or with each of its jobs.",
            )
        return contract_of(name, self.payload, acting)


class FollowUp(Body):
    """The job that is published when all jobs of a batch have ended, failed ones included."""

    job: str = Field(max_length=100, examples=["probe"])
    payload: dict[str, Any] = Field(default_factory=dict, examples=[{"n": 2}])


class BatchHead(Body):
    """A batch without its jobs."""

    name: str = Field(min_length=1, max_length=200, pattern=NO_NUL, examples=["nightly"])
    job: str | None = Field(
        None, max_length=100, description="Kind of those jobs that name none.", examples=["probe"]
    )
    then: FollowUp | None = None
    id: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        pattern=r"^[^\u0000-\u001f\u007f/?#]*$",
        description="An id of your own; publishing it again does nothing.",
    )
    delay_s: float = Field(0, ge=0, le=366 * 86_400, alias="delaySeconds")
    priority: int = Field(0, ge=-9, le=9, description="Higher goes first.")
    stays_open: bool = Field(
        False, alias="open", description="More jobs are added later, then it is sealed."
    )


class BatchJobs(Body):
    """Jobs of a batch."""

    jobs: list[BatchJob] = Field(
        max_length=JOBS_MAX, examples=[[{"job": "probe", "payload": {"n": 1}}]]
    )


class BatchRequest(BatchHead, BatchJobs):
    """A batch to publish, with its jobs."""


@dataclass(frozen=True, slots=True)
class BatchAccepted:
    """A batch with what its publication found."""

    row: BatchRow
    duplicates: int
    existed: bool = False

    def answer(self, status: HTTPStatus) -> Answer:
        """Return what its publisher is answered."""
        found = {"duplicates": self.duplicates, "existed": self.existed}
        headers = {"Location": f"/v1/batches/{quote(self.row.id, safe='')}"}
        return Answer(as_document(self.row) | found, status, headers)


BatchDocument = answers.model_of(BatchRow, name="Batch")
BatchPublished = answers.extended(
    BatchDocument, name="BatchPublished", duplicates=int, existed=bool
)
BatchList = answers.page_of(BatchDocument, name="BatchList")


@router.post(
    "",
    status_code=HTTPStatus.ACCEPTED,
    response_model=BatchPublished,
    openapi_extra=bodies.described(BatchRequest, lines_of=BatchJob),
)
def publish_batch(
    request: Request,
    body: Annotated[bytes, bodies.RAW],
    acting: Annotated[Acting, needs(Scope.JOBS_WRITE)],
) -> Response:
    """Publish up to 10,000 jobs as one batch, all or none, with a follow-up.

    With NDJSON the first line is the batch, and each other line a job.
    """
    head, jobs = _batch(request, body, acting)
    then = None
    if head.then is not None:
        then = contract_of(head.then.job, head.then.payload, acting)
    wanted = batches.NewBatch(
        head.name, then, head.id, head.delay_s, head.priority, head.stays_open
    )

    def do(conn: Connection) -> Answer:
        with tracing.continued(request.headers.get("traceparent")):
            done = batches.publish_new(conn, wanted, jobs)
        note_operators_batch(conn, done.id, [*jobs, *([then] if then else [])])
        row = batches.found(conn, done.id, acting.tenant)
        return BatchAccepted(row, done.duplicates, done.existed).answer(HTTPStatus.ACCEPTED)

    return answers.once(request, acting, do)


@router.get("", response_model=BatchList)
def list_batches(
    acting: Annotated[Acting, needs(Scope.JOBS_READ)],
    unfinished: Annotated[bool, Query(description="Only unfinished ones.")] = False,
    after: Cursor = None,
    limit: Limit = 100,
) -> Response:
    """List batches, newest first."""
    before = lists.read(after)
    with db.transaction(None, role=Role.RELAY) as conn:
        rows = queries.select_batches(
            conn, acting.tenant_id, unfinished=unfinished, before=before, limit=limit
        )
    return answers.page(rows, limit=limit, place=lambda row: (row.created_at, row.id))


@router.get("/{batch_id}", response_model=BatchDocument)
def show_batch(batch_id: Id, acting: Annotated[Acting, needs(Scope.JOBS_READ)]) -> Response:
    """Show a batch and its progress, as of the last second."""
    with db.transaction(None, role=Role.RELAY) as conn:
        return answers.ok(as_document(batches.found(conn, batch_id, acting.tenant_id)))


@router.post(
    "/{batch_id}/jobs",
    status_code=HTTPStatus.ACCEPTED,
    response_model=BatchPublished,
    openapi_extra=bodies.described(BatchJobs, lines_of=BatchJob),
)
def add_batch_jobs(
    request: Request,
    batch_id: Id,
    body: Annotated[bytes, bodies.RAW],
    acting: Annotated[Acting, needs(Scope.JOBS_WRITE)],
) -> Response:
    """Add up to 10,000 jobs to an open batch, all or none; with NDJSON, a line for each."""
    if bodies.media_type(request) == NDJSON:
        jobs = read_lines(body, lambda line: _job(line, None, acting))
    else:
        jobs = [one.contract(None, acting) for one in bodies.read(BatchJobs, body).jobs]

    def do(conn: Connection) -> Answer:
        batches.found(conn, batch_id, acting.tenant)
        with tracing.continued(request.headers.get("traceparent")):
            duplicates = batches.add_all(conn, batch_id, jobs)
        note_operators_batch(conn, batch_id, jobs)
        row = batches.found(conn, batch_id, acting.tenant)
        return BatchAccepted(row, duplicates).answer(HTTPStatus.ACCEPTED)

    return answers.once(request, acting, do)


@router.post("/{batch_id}/seal", response_model=BatchDocument)
def seal_batch(
    request: Request, batch_id: Id, acting: Annotated[Acting, needs(Scope.JOBS_WRITE)]
) -> Response:
    """Seal an open batch: it takes no more jobs, and finishes when they have ended."""

    def do(conn: Connection) -> Answer:
        batches.found(conn, batch_id, acting.tenant)
        batches.seal(conn, batch_id)
        return Answer(as_document(batches.found(conn, batch_id, acting.tenant)))

    return answers.once(request, acting, do)


@router.post("/{batch_id}/cancel", **bulk.ANSWERS)
def cancel_batch(
    request: Request, batch_id: Id, acting: Annotated[Acting, needs(Scope.JOBS_WRITE)]
) -> Response:
    """Cancel the unfinished jobs of a batch; its follow-up is published all the same."""
    with db.transaction(None, role=Role.RELAY) as conn:
        batches.found(conn, batch_id, acting.tenant)
    wanted = DeadLetterFilters(tenant_id=acting.tenant)
    choice = BulkChoice(filters=wanted, batch_id=batch_id)
    return bulk.answer(request, acting, "jobs.cancel", choice, dry_run=False)


def _batch(request: Request, body: bytes, acting: Acting) -> tuple[BatchHead, Sequence[Contract]]:
    if bodies.media_type(request) != NDJSON:
        wanted = bodies.read(BatchRequest, body)
        return wanted, [one.contract(wanted.job, acting) for one in wanted.jobs]
    heads: list[BatchHead] = []
    first = True

    def read(line: object) -> Contract | None:
        nonlocal first
        if first:
            first = False
            heads.append(BatchHead.model_validate(line))
            return None
        return _job(line, heads[0].job, acting) if heads else None

    jobs = [job for job in read_lines(body, read) if job is not None]
    return heads[0], jobs


def _job(line: object, default: str | None, acting: Acting) -> Contract:
    return BatchJob.model_validate(line).contract(default, acting)
