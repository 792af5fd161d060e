"""/v1/runs: start, list, show, and act on runs."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from producers.accounts import tenants
from producers.accounts.scopes import Scope
from producers.json_rows import as_document
from producers.queries.workflow import workflow_lists
from producers.queries.workflow.workflow_lists import ListedRun, RunFilters
from producers.web import answers, lists, routes
from producers.web.access import Acting, needs
from producers.web.answers import Answer
from producers.web.bodies import Body
from producers.web.lists import Cursor, Limit, Moment
from producers.web.problems import Refused
from producers.web.routes import NO_NUL
from producers.web.workflow.run_models import Run, RunStepState
from producers.workflow import run_view, workflows
from shared import db
from shared.db import Connection
from shared.ids import RunId
from shared.observability import tracing
from shared.workflow.runs import StartedRun

router = routes.router("runs")

RunState = Literal[
    "queued", "running", "paused", "compensating", "completed", "failed", "cancelled"
]
Id = Annotated[str, Path(max_length=64, pattern=NO_NUL, description="Id of a run.")]
StepName = Annotated[
    str,
    Field(min_length=1, max_length=100, examples=["review"], description="step[3] is an item."),
]
Writing = Annotated[Acting, needs(Scope.RUNS_WRITE)]


class RunRequest(Body):
    """A run to start."""

    workflow: str = Field(min_length=1, max_length=64, examples=["answer-question"])
    input: dict[str, Any] = Field(
        default_factory=dict, examples=[{"question": "When does the sea rise?"}]
    )
    key: str | None = Field(
        None, min_length=1, max_length=255, description="The same key starts no second run."
    )
    version: int | None = Field(None, ge=1, le=2**31 - 1, description="Unset: the latest.")


class SignalRequest(Body):
    """A signal; it is stored until a step waits for it."""

    name: str = Field(min_length=1, max_length=100, examples=["paid"])
    payload: Any = Field(None, description="JSON, up to 64 kB.", examples=[{"sum": 7}])


class DecisionRequest(Body):
    """The answer to a step that waits for an approval."""

    step: StepName
    comment: str | None = Field(None, max_length=10_000)


class StepRequest(Body):
    """A step of the run."""

    step: StepName


class ActedRun(Body):
    """A run and its state after the act; of a fork, the new run."""

    id: str
    state: RunState


class RunQuery(BaseModel):
    """Which runs; unset means any."""

    workflow: str | None = Field(None, max_length=100, pattern=NO_NUL)
    state: RunState | None = None
    since: Moment | None = Field(None, description="Started since then.")
    until: Moment | None = Field(None, description="Started before then.")
    fingerprint: str | None = Field(None, max_length=100, pattern=NO_NUL)
    where: list[str] = Field(
        default_factory=list,
        max_length=20,
        description="field=value of the input, also outer.inner=value; all must match.",
    )


Started = answers.model_of(StartedRun, name="StartedRun")
RunSummary = answers.model_of(ListedRun, name="RunSummary")
RunList = answers.page_of(RunSummary, name="RunList")


@router.post("", status_code=HTTPStatus.ACCEPTED, response_model=Started)
def start_run(request: Request, body: RunRequest, acting: Writing) -> Response:
    """Start a run. When this answers 202, it is committed."""

    def do(conn: Connection) -> Answer:
        with tracing.continued(request.headers.get("traceparent")):
            done = workflows.start(
                conn, body.workflow, body.input, key=body.key, version=body.version
            )
        headers = {"Location": f"/v1/runs/{done.id}"}
        return Answer(as_document(done), HTTPStatus.ACCEPTED, headers)

    return answers.once(request, acting, do)


@router.get("", response_model=RunList)
def list_runs(
    acting: Annotated[Acting, needs(Scope.RUNS_READ)],
    filters: Annotated[RunQuery, Query()],
    after: Cursor = None,
    limit: Limit = 100,
) -> Response:
    """List runs, newest first."""
    wanted = RunFilters(
        workflow=filters.workflow,
        state=filters.state,
        since=filters.since,
        until=filters.until,
        fingerprint=filters.fingerprint,
        where=dict(map(_condition, filters.where)),
        before=lists.read(after),
    )
    with db.transaction(acting.tenant) as conn:
        rows = workflow_lists.select_runs(conn, acting.tenant, wanted, limit=limit)
    return answers.page(rows, limit=limit, place=lambda row: (row.started_at, row.id))


def _condition(text: str) -> tuple[str, str]:
    path, equals, value = text.partition("=")
    if not equals or not path.strip() or "\0" in text or len(text) > lists.CONDITION_CHARS_MAX:
        raise Refused(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "invalid_request",
            "Invalid query/where: use field=value or outer.inner=value, at most "
            f"{lists.CONDITION_CHARS_MAX:,} characters.",
        )
    return path.strip(), value


@router.get("/{run_id}", response_model=Run)
def show_run(
    run_id: Id,
    acting: Annotated[Acting, needs(Scope.RUNS_READ)],
    items: Annotated[bool, Query(description="Include the items of mapped steps.")] = False,
    limit: Limit = 200,
) -> Response:
    """Show a run: its first steps, their waits and failures, and a few that are notable."""
    view = run_view.read(acting.tenant, run_id, tenants.slug_of(acting.tenant), limit=limit)
    if items:
        view = run_view.with_items(acting.tenant, view, limit=limit)
    return answers.ok(run_view.document(view))


@router.get("/{run_id}/steps/{step}", response_model=RunStepState)
def show_step(
    run_id: Id,
    step: Annotated[str, Path(max_length=100, pattern=NO_NUL, examples=["review"])],
    acting: Annotated[Acting, needs(Scope.RUNS_READ)],
) -> Response:
    """Show a step of a run in full; `step[3]` is an item."""
    slug = tenants.slug_of(acting.tenant)
    return answers.ok(run_view.named_step(acting.tenant, run_id, slug, step))


@router.post("/{run_id}/cancel", response_model=ActedRun)
def cancel_run(request: Request, run_id: Id, acting: Writing) -> Response:
    """Cancel a run: its running steps and child runs are stopped."""
    return _act(request, run_id, acting, workflows.cancel)


@router.post("/{run_id}/pause", response_model=ActedRun)
def pause_run(request: Request, run_id: Id, acting: Writing) -> Response:
    """Pause a run: no further step starts, running steps finish."""
    return _act(request, run_id, acting, workflows.pause)


@router.post("/{run_id}/resume", response_model=ActedRun)
def resume_run(request: Request, run_id: Id, acting: Writing) -> Response:
    """Resume a paused run."""
    return _act(request, run_id, acting, workflows.resume)


@router.post("/{run_id}/retry", response_model=ActedRun)
def retry_run(request: Request, run_id: Id, acting: Writing) -> Response:
    """Retry a failed or cancelled run from where it failed."""
    return _act(request, run_id, acting, workflows.retry)


@router.post("/{run_id}/fork", response_model=ActedRun)
def fork_run(request: Request, run_id: Id, body: StepRequest, acting: Writing) -> Response:
    """Start a new run at a step, with the outputs of all earlier steps; the old one stays."""
    return _act(
        request,
        run_id,
        acting,
        lambda conn, run: workflows.retry(conn, run, from_step=body.step),
    )


@router.post("/{run_id}/skip", response_model=ActedRun)
def skip_step(request: Request, run_id: Id, body: StepRequest, acting: Writing) -> Response:
    """Skip an unfinished step; the steps after it continue."""
    return _act(request, run_id, acting, lambda conn, run: workflows.skip(conn, run, body.step))


@router.post("/{run_id}/signal", response_model=ActedRun)
def signal_run(request: Request, run_id: Id, body: SignalRequest, acting: Writing) -> Response:
    """Send a signal to a run."""
    return _act(
        request,
        run_id,
        acting,
        lambda conn, run: workflows.signal(conn, run, body.name, body.payload),
    )


@router.post("/{run_id}/approve", response_model=ActedRun)
def approve_step(request: Request, run_id: Id, body: DecisionRequest, acting: Writing) -> Response:
    """Approve a waiting step."""
    return _decide(request, run_id, acting, body, approved=True)


@router.post("/{run_id}/reject", response_model=ActedRun)
def reject_step(request: Request, run_id: Id, body: DecisionRequest, acting: Writing) -> Response:
    """Reject a waiting step: it fails."""
    return _decide(request, run_id, acting, body, approved=False)


def _decide(
    request: Request, run_id: str, acting: Acting, body: DecisionRequest, *, approved: bool
) -> Response:
    def decide(conn: Connection, run: RunId) -> None:
        workflows.approve(conn, run, body.step, approved=approved, comment=body.comment)

    return _act(request, run_id, acting, decide)


def _act(
    request: Request,
    run_id: str,
    acting: Acting,
    act: Callable[[Connection, RunId], RunId | None],
) -> Response:
    """Act on a run of the tenant, and answer its state, or that of its fork."""
    slug = tenants.slug_of(acting.tenant)

    def do(conn: Connection) -> Answer:
        run = run_view.find(conn, run_id, slug)
        after = run_view.find(conn, act(conn, run.id) or run.id, slug)
        headers = {"Location": f"/v1/runs/{after.id}"}
        return Answer({"id": after.id, "state": after.state}, headers=headers)

    return answers.once(request, acting, do)
