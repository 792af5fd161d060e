"""/v1/jobs: publish, list, show and cancel."""

from collections import defaultdict
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from producers.accounts.scopes import Scope
from producers.json_rows import as_document
from producers.ledger import cancellation, job_history
from producers.ledger.bulk_actions import BulkChoice
from producers.ledger.cancellation import Cancelled
from producers.queries.ledger import jobs as queries
from producers.queries.ledger.dead_letters import DeadLetterFilters
from producers.queries.ledger.job_history import Descendant, JobAction, Origin
from producers.queries.ledger.jobs import JobFilters, JobRow
from producers.web import answers, bodies, lists, routes
from producers.web.access import Acting, needs
from producers.web.answers import Answer
from producers.web.bodies import NDJSON, Body
from producers.web.ledger import bulk
from producers.web.ledger.publications import JobRequest, contract_of, note_operators, read_lines
from producers.web.ledger.rows import DeadLetter, JobAttempt
from producers.web.lists import Cursor, Limit, Moment
from producers.web.routes import NO_NUL
from shared import db
from shared.contracts import Contract
from shared.db import Connection, Role
from shared.ids import JobId, TenantId
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


class CancelRequest(bulk.QueueAndJob, Body):
    """Unfinished jobs to cancel; they must match all."""

    batch: str | None = Field(None, max_length=64, pattern=NO_NUL, description="Of this batch.")
    every: bool = Field(False, alias="all", description="All; needed where nothing is chosen.")
    dry_run: bool = Field(False, alias="dryRun", description="Only count.")

    def chosen(self, tenant_id: TenantId | None) -> BulkChoice:
        """Return what is chosen.

        Raises:
            Refused: Nothing is chosen.
        """
        if not (self.every or self.queue or self.job or self.batch):
            raise bulk.nothing_chosen("Give queue, job, batch")
        filters = DeadLetterFilters(queue=self.queue, job=self.job, tenant_id=tenant_id)
        return BulkChoice(filters=filters, batch_id=self.batch)


class Accepted(BaseModel):
    """A job that is committed: whatever crashes from here on, it is done."""

    id: str
    state: State
    duplicate: bool = Field(description="Whether it had been published before.")


Job = answers.model_of(JobRow)
Related = answers.model_of(Descendant, name="RelatedJob")
Cancellation = answers.model_of(Cancelled, name="Cancellation")
JobExplanation = answers.made(
    "JobExplanation",
    job=Job,
    publishedBy=str,
    origin=answers.extended(answers.model_of(Origin), name="JobOrigin", traceId=str | None),
    waits=str | None,
    parent=Job | None,
    attempts=list[JobAttempt],  # type: ignore[valid-type]
    acts=list[answers.model_of(JobAction)],  # type: ignore[misc]
    deadLetter=DeadLetter | None,
    children=list[Related],  # type: ignore[valid-type]
    descendants=list[Related],  # type: ignore[valid-type]
)
JobList = answers.page_of(Job, name="JobList")
AcceptedList = answers.list_of(Accepted, name="AcceptedList")


@router.post(
    "",
    status_code=HTTPStatus.ACCEPTED,
    response_model=Accepted | AcceptedList,
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
        note_operators(conn, acting, [(job, one)])
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
        note_operators(conn, acting, ((lines[number][1], one) for number, one in published.items()))
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


@router.post("/cancel", **bulk.ANSWERS)
def cancel_jobs(
    request: Request, body: CancelRequest, acting: Annotated[Acting, needs(Scope.JOBS_WRITE)]
) -> Response:
    """Cancel all unfinished jobs that match; those published meanwhile are not cancelled."""
    choice = body.chosen(acting.tenant_id)
    return bulk.answer(request, acting, "jobs.cancel", choice, dry_run=body.dry_run)


bulk.add_status_routes(router, of="jobs", read=Scope.JOBS_READ, write=Scope.JOBS_WRITE)


@router.get("/{job_id}", response_model=Job)
def show_job(job_id: Id, acting: Annotated[Acting, needs(Scope.JOBS_READ)]) -> Response:
    """Show a job."""
    with db.transaction(None, role=Role.RELAY) as conn:
        row = cancellation.found(conn, job_id, acting.tenant_id)
    return answers.ok(as_document(row))


@router.get("/{job_id}/why", response_model=JobExplanation)
def explain_job(job_id: Id, acting: Annotated[Acting, needs(Scope.JOBS_READ)]) -> Response:
    """Explain a job: its publisher, what it waits for, its attempts and follow-ups."""
    with db.transaction(None, role=Role.RELAY) as conn:
        row = cancellation.found(conn, job_id, acting.tenant_id)
    return answers.ok(job_history.document(job_history.read(row)))


@router.post("/{job_id}/cancel", response_model=Cancellation)
def cancel_job(
    request: Request, job_id: Id, acting: Annotated[Acting, needs(Scope.JOBS_WRITE)]
) -> Response:
    """Cancel an unfinished job. A running attempt cannot commit any more."""

    def do(conn: Connection) -> Answer:
        return Answer(as_document(cancellation.cancel_one(conn, job_id, acting.tenant_id)))

    return answers.once(request, acting, do, role=Role.RELAY)


def _read(line: object, acting: Acting) -> tuple[JobRequest, Contract]:
    wanted = JobRequest.model_validate(line)
    return wanted, contract_of(wanted.job, wanted.payload, acting)
