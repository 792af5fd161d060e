"""/v1/jobs: publish, list, show and cancel."""

from collections import defaultdict
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from producers.accounts.scopes import Scope
from producers.json_rows import as_document
from producers.ledger import cancellation
from producers.ledger.cancellation import Cancelled
from producers.queries.ledger import jobs as queries
from producers.queries.ledger.jobs import JobFilters, JobRow
from producers.web import answers, bodies, lists, routes
from producers.web.access import Acting, needs
from producers.web.answers import Answer
from producers.web.bodies import NDJSON
from producers.web.ledger.publications import JobRequest, contract_of, read_lines
from producers.web.lists import Cursor, Limit, Moment
from producers.web.routes import NO_NUL
from shared import db
from shared.contracts import Contract
from shared.db import Connection, Role
from shared.ids import JobId
from shared.ledger import outbox
from shared.ledger.outbox import Published
from shared.observability import tracing

router = routes.router("jobs")

State = Literal["PENDING", "QUEUED", "RUNNING", "COMPLETED", "DEAD", "CANCELLED"]
Id = Annotated[
    str,
    Path(max_length=64, pattern=NO_NUL, examples=["01a22cb1-5b28-74bb-843b-5b9d39e959c9"]),
]


class JobQuery(BaseModel):
    """Which jobs; unset means any."""

    queue: str | None = Field(None, max_length=100, pattern=NO_NUL)
    job: str | None = Field(None, max_length=100, pattern=NO_NUL)
    state: State | None = None
    since: Moment | None = Field(None, description="Published since then.")


class Accepted(BaseModel):
    """A job that is committed: whatever crashes from here on, it is done."""

    id: str
    state: State
    duplicate: bool = Field(description="Whether it had been published before.")


Job = answers.model_of(JobRow)
Cancellation = answers.model_of(Cancelled, name="Cancellation")
JobList = answers.page_of(Job, name="JobList")
AcceptedList = answers.list_of(Accepted, name="AcceptedList")


@router.post(
    "",
    status_code=HTTPStatus.ACCEPTED,
    response_model=Accepted | AcceptedList,
    dependencies=[answers.REPEATABLE],
    openapi_extra=bodies.described(JobRequest, lines_of=JobRequest),
)
def publish_jobs(
    request: Request,
    body: Annotated[bytes, bodies.RAW],
    acting: Annotated[Acting, needs(Scope.JOBS_WRITE)],
) -> Response:
    """Publish one job, or with NDJSON up to 10,000: all of them, or none if a line is invalid.

    When this answers 202, they are committed in Postgres. Many are answered as `items`, in the
    order of their lines.
    """
    if bodies.media_type(request) == NDJSON:
        return _publish_lines(request, body, acting)
    wanted = bodies.read(JobRequest, body)
    job = contract_of(wanted.job, wanted.payload, acting)

    def do(conn: Connection) -> Answer:
        with tracing.continued(request.headers.get("traceparent")):
            one = outbox.publish(
                conn, job, key=wanted.key, delay_s=wanted.delay_s, priority=wanted.priority
            )
        headers = {"Location": f"/v1/jobs/{one.id}"}
        return Answer(as_document(one), HTTPStatus.ACCEPTED, headers)

    return answers.once(request, acting, do)


def _publish_lines(request: Request, body: bytes, acting: Acting) -> Response:
    lines = read_lines(body, lambda line: _read(line, acting))

    def do(conn: Connection) -> Answer:
        published: dict[int, Published] = {}
        alike = defaultdict(list)  # one statement for all with the same delay and priority
        for number, (line, _) in enumerate(lines):
            alike[line.delay_s, line.priority].append(number)
        with tracing.continued(request.headers.get("traceparent")):
            for (delay_s, priority), numbers in alike.items():
                keys = [lines[one][0].key or lines[one][1].key() for one in numbers]
                jobs = [lines[one][1] for one in numbers]
                done = outbox.publish_many(
                    conn, jobs, keys=keys, delay_s=delay_s, priority=priority
                )
                published |= zip(numbers, done, strict=True)
        documents = [as_document(published[number]) for number in range(len(lines))]
        return Answer({"items": documents}, HTTPStatus.ACCEPTED)

    return answers.once(request, acting, do)


@router.get("", response_model=JobList)
def list_jobs(
    acting: Annotated[Acting, needs(Scope.JOBS_READ)],
    filters: Annotated[JobQuery, Query()],
    after: Cursor = None,
    limit: Limit = 100,
) -> Response:
    """List jobs, newest first."""
    before = lists.read(after)
    wanted = JobFilters(
        queue=filters.queue,
        job=filters.job,
        state=filters.state,
        tenant_id=acting.tenant_id,
        since=filters.since,
        before=before and (before[0], JobId(before[1])),
    )
    with db.transaction(None, role=Role.RELAY) as conn:
        rows = queries.select_jobs(conn, wanted, limit=limit)
    return answers.page(rows, limit=limit, place=lambda row: (row.created_at, row.id))


@router.get("/{job_id}", response_model=Job)
def show_job(job_id: Id, acting: Annotated[Acting, needs(Scope.JOBS_READ)]) -> Response:
    """Show a job."""
    with db.transaction(None, role=Role.RELAY) as conn:
        row = cancellation.found(conn, job_id, acting.tenant_id)
    return answers.ok(as_document(row))


@router.post("/{job_id}/cancel", response_model=Cancellation)
def cancel_job(job_id: Id, acting: Annotated[Acting, needs(Scope.JOBS_WRITE)]) -> Response:
    """Cancel an unfinished job. A running attempt cannot commit any more."""
    with acting.named():
        done = cancellation.cancel_one(job_id, acting.tenant_id)
    return answers.ok(as_document(done))


def _read(line: object, acting: Acting) -> tuple[JobRequest, Contract]:
    wanted = JobRequest.model_validate(line)
    return wanted, contract_of(wanted.job, wanted.payload, acting)
