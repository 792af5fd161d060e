"""/v1/queues: counts, pauses, drains and limits."""

import asyncio
import time
from http import HTTPStatus
from typing import Annotated, Final, Literal

from fastapi import Path, Query, Request
from fastapi.responses import Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from producers.accounts.scopes import Scope
from producers.ledger import limits, pausing
from producers.ledger.pausing import queue_named
from producers.queries.ledger import events, pauses, queue_figures
from producers.queries.ledger.job_limits import Limit
from producers.queries.ledger.pauses import Left, Pause, PauseRow
from producers.queries.ledger.queue_figures import QueueFigures
from producers.web import answers, routes
from producers.web.access import Acting, needs
from producers.web.answers import Answer
from producers.web.bodies import Body
from producers.web.problems import Refused
from producers.web.routes import NO_NUL
from shared import db
from shared.contracts import QUEUES, contract_named
from shared.db import Connection, Role

router = routes.router("queues")

LOOK_S: Final = 0.5
# Less than a server that ends lets its requests go on: server.DRAIN_S.
WAIT_S_MAX: Final = 4.0
QueueName = Annotated[str | None, Query(max_length=100, pattern=NO_NUL, examples=["maintenance"])]
JobName = Annotated[str | None, Query(max_length=100, pattern=NO_NUL, examples=["probe"])]
LimitId = Annotated[str, Path(max_length=64, pattern=NO_NUL, description="Of the limit.")]
Wait = Annotated[
    float,
    Query(ge=0, le=WAIT_S_MAX, alias="waitSeconds", description="Answer when nothing is left."),
]


class PauseRequest(Body):
    """What is paused or resumed; with `?tenant=`, of that tenant alone."""

    queue: str | None = Field(None, max_length=100, pattern=NO_NUL, examples=["maintenance"])
    job: str | None = Field(None, max_length=100, pattern=NO_NUL, examples=["probe"])


class LimitRequest(Body):
    """A limit of a tenant (`?tenant=`), of each tenant of a tier, or of a kind of job."""

    tier: Literal["FREE", "PRO", "ENTERPRISE"] | None = None
    job: str | None = Field(
        None, max_length=100, pattern=NO_NUL, description="Unset: all kinds.", examples=["probe"]
    )
    per_key: bool = Field(False, alias="perKey", description="Each limit key separately.")
    concurrency_max: int | None = Field(
        None, ge=1, le=2**31 - 1, alias="concurrencyMax", description="Jobs in flight."
    )
    rate_per_s: float | None = Field(
        None, ge=0.001, le=1e6, alias="ratePerS", description="Average starts a second."
    )
    burst: float = Field(1.0, ge=1, le=1e9, description="After an idle period.")
    unit: Literal["jobs", "cost"] = Field("jobs", description="What the rate counts.")


Queue = answers.model_of(QueueFigures, name="Queue")
QueueList = answers.list_of(Queue, name="QueueList")
PauseList = answers.list_of(answers.model_of(PauseRow, name="Pause"), name="PauseList")
_SCOPE: Final = {"queue": str | None, "tenant": str | None, "job": str | None}
Paused = answers.made("Paused", **_SCOPE, paused=bool)
Drain = answers.made("Drain", **_SCOPE, ready=int, running=int, delayed=int, drained=bool)
JobLimit = answers.made(
    "JobLimit",
    id=str,
    tenant=str | None,
    tier=str | None,
    job=str | None,
    perKey=bool,
    concurrencyMax=int | None,
    ratePerS=float | None,
    burst=float,
    unit=str,
)
LimitList = answers.list_of(JobLimit, name="LimitList")
LimitDeleted = answers.made("LimitDeleted", id=str, deleted=bool)


@router.get("", response_model=QueueList)
def list_queues(acting: Annotated[Acting, needs(Scope.QUEUES_READ)]) -> Response:
    """Show the current counts of each queue; a key of a tenant sees that tenant's jobs."""
    with db.transaction(None, role=Role.RELAY) as conn:
        if acting.tenant_id is None:
            rows = queue_figures.select_figures(conn, QUEUES, rate_s=events.RATE_S)
        else:
            rows = queue_figures.select_tenant_figures(conn, QUEUES, acting.tenant_id)
    return answers.ok_list(rows)


@router.get("/pauses", response_model=PauseList)
def list_pauses(acting: Annotated[Acting, needs(Scope.QUEUES_READ)]) -> Response:
    """List what is paused, by whom and since when; a key of a tenant sees that tenant's."""
    with db.transaction(None, role=Role.RELAY) as conn:
        rows = pauses.list_pauses(conn, acting.tenant_id)
    return answers.ok_list(rows)


@router.post("/pause", response_model=Paused)
def pause_jobs(
    request: Request, body: PauseRequest, acting: Annotated[Acting, needs(Scope.QUEUES_WRITE)]
) -> Response:
    """Pause jobs: none is started, publishing continues, running jobs finish."""
    return _change(request, body, acting, paused=True)


@router.post("/resume", response_model=Paused)
def resume_jobs(
    request: Request, body: PauseRequest, acting: Annotated[Acting, needs(Scope.QUEUES_WRITE)]
) -> Response:
    """Resume what was paused with the same body and `?tenant=`."""
    return _change(request, body, acting, paused=False)


@router.get("/drain", response_model=Drain)
async def await_drain(
    acting: Annotated[Acting, needs(Scope.QUEUES_READ)],
    queue: QueueName = None,
    job: JobName = None,
    wait_s: Wait = 0.0,
) -> Response:
    """Count the jobs that are ready or running, and wait until there are none.

    Delayed jobs are not waited for. It answers after `waitSeconds` at the latest: ask again until
    `drained` is true.
    """
    scope = _scope(acting, queue, job)
    deadline = time.monotonic() + wait_s
    while True:
        named, left = await run_in_threadpool(_left, scope)
        drained = left.ready + left.running == 0
        rest_s = deadline - time.monotonic()
        if drained or rest_s <= 0:
            found = {"ready": left.ready, "running": left.running, "delayed": left.delayed}
            return answers.ok(named | found | {"drained": drained})
        await asyncio.sleep(min(LOOK_S, rest_s))


@router.get("/limits", response_model=LimitList)
def list_limits(acting: Annotated[Acting, needs(Scope.QUEUES_READ)]) -> Response:
    """List limits, oldest first; a key of a tenant sees that tenant's own."""
    with db.transaction(None, role=Role.RELAY) as conn:
        found = limits.of_tenant(conn, acting.tenant_id)
        return answers.ok({"items": [limits.document(conn, limit) for limit in found]})


@router.put("/limits", response_model=JobLimit)
def put_limit(
    request: Request, body: LimitRequest, acting: Annotated[Acting, needs(Scope.QUEUES_WRITE)]
) -> Response:
    """Set a limit, replacing an existing one with the same scope."""
    if acting.tenant_id is not None and body.tier is not None:
        raise _invalid("Give a tenant or a tier, not both.")
    if acting.tenant_id is None and body.tier is None and body.job is None:
        raise _invalid("Give a scope: ?tenant=, tier or job.")
    if body.concurrency_max is None and body.rate_per_s is None:
        raise _invalid("Give concurrencyMax, ratePerS or both.")
    if body.job is not None:
        contract_named(body.job)
    wanted = Limit(id="", tenant_id=acting.tenant_id, **body.model_dump())

    def do(conn: Connection) -> Answer:
        return Answer(limits.document(conn, limits.put(conn, wanted)))

    return answers.once(request, acting, do, role=Role.RELAY)


@router.delete("/limits/{limit_id}", response_model=LimitDeleted)
def delete_limit(
    request: Request, limit_id: LimitId, acting: Annotated[Acting, needs(Scope.QUEUES_WRITE)]
) -> Response:
    """Delete a limit."""

    def do(conn: Connection) -> Answer:
        limits.delete(conn, limit_id, acting.tenant_id)
        return Answer({"id": limit_id, "deleted": True})

    return answers.once(request, acting, do, role=Role.RELAY)


def _change(request: Request, body: PauseRequest, acting: Acting, *, paused: bool) -> Response:
    scope = _scope(acting, body.queue, body.job)

    def do(conn: Connection) -> Answer:
        (pausing.pause if paused else pausing.resume)(conn, scope)
        return Answer(pausing.document(conn, scope) | {"paused": paused})

    return answers.once(request, acting, do, role=Role.RELAY)


def _scope(acting: Acting, queue: str | None, job: str | None) -> Pause:
    if acting.tenant_id is None and queue is None and job is None:
        raise _invalid("Give a queue, a job or ?tenant=.")
    if queue is not None:
        queue_named(queue)
    if job is not None:
        contract_named(job)
    return Pause(queue, acting.tenant_id, job)


def _left(scope: Pause) -> tuple[dict[str, str | None], Left]:
    with db.transaction(None, role=Role.RELAY) as conn:
        return pausing.document(conn, scope), pauses.count_left(conn, scope)


def _invalid(sentence: str) -> Refused:
    return Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_request", sentence)
