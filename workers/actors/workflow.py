"""Queue `workflow`: walkers, which take runs from step to step.

A walker begins the step that its job is at, does it, and finishes it in one round trip that also
gives it the next step that became ready. Other steps that became ready are jobs of their own.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import psycopg
import structlog

from shared import db
from shared.contracts import Contract, RunStep, StartWorkflow
from shared.db import Connection
from shared.errors import (
    LeaseLost,
    OutputTooLarge,
    PermanentError,
    ServerUnavailable,
    StepCancelled,
)
from shared.ids import RunId, StepId
from shared.ledger.outbox import Lease, effect, payload_of, refusal
from shared.observability import telemetry
from shared.queries.ledger import outbox
from shared.queries.workflow import workflow_steps
from shared.queries.workflow.workflow_steps import Finished, Hold, StepJob, Wait
from shared.workflow import runs
from shared.workflow.decisions import is_skipped, items_of
from shared.workflow.durations import seconds
from shared.workflow.expressions.evaluation import render
from workers.process.broker import actor, lease_s, moved, worker_id
from workers.steps.outcomes import AwaitSignal, Delegate, Sleep, StartRun
from workers.steps.step import Step
from workers.steps.table import lookup

log = structlog.get_logger()
Answer = TypeVar("Answer")

# For how long a walker goes on before it stands in line again, behind the other runs.
WALK_S = 1.0
OUTPUT_BYTES_MAX = 16 * 1024 * 1024
INPUT_KEPT_BYTES = 16 * 1024
PROGRESS_EVERY_S = 0.5
PARALLEL_DEFAULT = 32
# A call whose answer was lost is made again: the engine knows one that it has done.
CALL_TRIES = 5
_AGAIN_S = 0.2
# What cannot be taken back is on the disk before the next step begins.
_DURABLE = frozenset({"http", "complete"})


@dataclass(frozen=True, slots=True)
class At:
    """The step that a walker is at, as `ailydian_step_context` describes it."""

    hold: Hold
    run_id: RunId
    position: int
    index: int | None
    item: object
    attempt: int
    attempts_max: int
    name: str
    uses: str
    spec: Mapping[str, Any]
    steps: Mapping[str, Any]
    inputs: object
    workflow: str
    depth: int
    started_at: str
    timeout_s: float | None
    expand: bool
    skip: bool

    def scope(self) -> dict[str, Any]:
        """What the step's expressions may name."""
        run = {"id": self.run_id, "workflow": self.workflow, "started_at": self.started_at}
        known: dict[str, Any] = {"inputs": self.inputs, "steps": self.steps, "run": run}
        if self.index is not None:
            known |= {"item": self.item, "index": self.index}
        return known


@actor(RunStep)
def run_step(job: RunStep, lease: Lease) -> None:  # noqa: ARG001 - where it is stands in its row
    """Walk: begin, do and finish steps until none is ready, or others should have a turn."""
    until = time.monotonic() + WALK_S
    answer, at = _begin(lease), None
    while answer is not None:
        at = _arrive(lease, json.loads(answer), at)
        try:
            answer = _take(at, lease, goes_on_s=lease_s() if time.monotonic() < until else 0.0)
        except LeaseLost:
            if not _set_back(lease):
                raise
            answer, at = _begin(lease), None
    lease.receipted = True


@actor(StartWorkflow)
def start_workflow(job: StartWorkflow, lease: Lease) -> None:
    """Start a run; its id is the job's outcome."""
    with effect(lease) as conn:
        started = runs.start(conn, job.name, job.input, key=job.run_key or lease.job_id)
        outcome = json.dumps({"runId": started.id, "duplicate": started.duplicate})
        outbox.set_outcome(conn, lease.job_id, lease.fence, outcome)


def _begin(lease: Lease) -> str | None:
    return _again(lambda: workflow_steps.begin(lease.tenant_id, lease.job_id, lease.fence))


def _set_back(lease: Lease) -> bool:
    """Whether a crash of Postgres has taken back our last steps, and nothing else has happened."""
    fence = workflow_steps.fence_before_crash(
        lease.tenant_id, lease.job_id, lease.fence, worker_id()
    )
    if fence is None:
        return False
    log.warning("walker.set_back", job_id=lease.job_id, fence=fence, was=lease.fence)
    moved(lease, fence, limit_s=lease.time_limit_s or RunStep.time_limit_s)
    return True


def _arrive(lease: Lease, told: dict[str, Any], before: At | None) -> At:
    """Read where the walker is. What it knows from the step before is not told again."""
    known = {} if before is None else _known(before)
    here = known | told
    index = here["index"] if here["index"] >= 0 else None
    lease.attempt, lease.attempts_max = told["attempt"], told["attemptsMax"]
    lease.step_id, lease.time_limit_s = StepId(here["stepId"]), here["timeoutS"]
    backoff = (here["spec"].get("retry") or {}).get("backoff")
    lease.backoff_s = runs.BACKOFF_DEFAULT_S if backoff is None else seconds(backoff)
    if told["fence"] != lease.fence:
        lease.crashes = 0
        moved(lease, told["fence"], limit_s=lease.time_limit_s or RunStep.time_limit_s)
    telemetry.doing.set(
        {**(telemetry.doing.get() or {}), "run_id": here["runId"], "step": here["name"]}
    )
    return At(
        hold=Hold(lease.tenant_id, lease.job_id, told["fence"], StepId(here["stepId"])),
        run_id=RunId(here["runId"]),
        position=here["position"],
        index=index,
        item=here["item"],
        attempt=told["attempt"],
        attempts_max=told["attemptsMax"],
        name=here["name"],
        uses=here["uses"],
        spec=here["spec"],
        steps=here["steps"],
        inputs=here["inputs"],
        workflow=here["workflow"],
        depth=here["depth"],
        started_at=_rfc3339(here["startedAt"]),
        timeout_s=here["timeoutS"],
        expand=here["expand"],
        skip=here["skip"],
    )


def _known(at: At) -> dict[str, Any]:
    return {
        "inputs": at.inputs,
        "workflow": at.workflow,
        "depth": at.depth,
        "startedAt": at.started_at,
        "name": at.name,
        "uses": at.uses,
        "spec": at.spec,
        "steps": at.steps,
        "timeoutS": at.timeout_s,
        "expand": False,
        "skip": False,
    }


def _rfc3339(at: str) -> str:
    return at if at.endswith("Z") else f"{at}Z"


def _take(at: At, lease: Lease, *, goes_on_s: float) -> str | None:
    """Do one step. Returns what the engine says of the next."""
    scope = at.scope()
    if at.expand:
        # An `if` of a mapped step is asked of each item; that it has one lets it begin at all.
        if at.skip and at.spec.get("if") is None:
            return _end(at, Finished("skipped", None, None, None, goes_on_s))
        parallel = at.spec.get("max_parallel") or PARALLEL_DEFAULT
        items = _json(at, items_of(at.spec, scope))
        return _again(
            lambda: workflow_steps.expand(at.hold, items, parallel=parallel, lease_s=goes_on_s)
        )
    if is_skipped(at.spec, scope, all_needs_skipped=at.skip):
        return _end(at, Finished("skipped", None, None, None, goes_on_s))
    if at.spec.get("concurrency") is not None and not _may_enter(at, scope):
        return None
    given = render(at.spec.get("with") or {}, scope)
    return _do(at, lease, given, goes_on_s)


def _do(at: At, lease: Lease, given: dict[str, Any], goes_on_s: float) -> str | None:
    step = _Doing(at, lease, given, goes_on_s)
    outcome = given["value"] if at.uses == "outputs" else lookup(at.uses)(given, step.step)
    kept = _kept(given)
    match outcome:
        case Sleep():
            wait = Wait("timer", "", outcome.for_s, kept, outcome.until)
        case AwaitSignal():
            wait_s = at.timeout_s if outcome.timeout_s is None else outcome.timeout_s
            wait = Wait(outcome.what, outcome.name, wait_s, kept)
        case Delegate():
            _again(partial(workflow_steps.delegate, at.hold, _step_job(at, outcome.job)))
            return None
        case StartRun():
            _start_child(at, outcome, kept)
            return None
        case _:
            if step.step.is_done:
                return step.answer
            end = Finished(
                "completed", _json(at, outcome), kept, None, goes_on_s, at.uses in _DURABLE
            )
            return _end(at, end)
    return _again(lambda: workflow_steps.suspend(at.hold, wait, lease_s=goes_on_s))


class _Doing:
    """What a step's function may do before it ends: tell its progress, or write."""

    def __init__(self, at: At, lease: Lease, given: dict[str, Any], goes_on_s: float) -> None:
        self._at = at
        self._given = given
        self._goes_on_s = goes_on_s
        self._told_at = 0.0
        self.answer: str | None = None
        self.step = Step(
            tenant_id=lease.tenant_id,
            run_id=at.run_id,
            step_id=at.hold.step_id,
            name=at.name,
            workflow=at.workflow,
            attempt=at.attempt,
            item=at.item,
            index=at.index,
            traceparent=lease.traceparent,
            _progress=self._progress,
            _transaction=self._transaction,
        )

    def _progress(self, part: float, note: str) -> None:
        now = time.monotonic()
        if now - self._told_at < PROGRESS_EVERY_S and part < 1.0:
            return
        self._told_at = now
        if not workflow_steps.tell_progress(self._at.hold, part, note):
            raise StepCancelled(f"Step {self._at.name} is no longer ours: its run was stopped.")

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with db.transaction(self._at.hold.tenant_id, durable=False) as conn:
                if not workflow_steps.is_held(conn, self._at.hold):
                    raise LeaseLost(f"Step {self._at.name} was stopped.")
                yield conn
                output = _json(self._at, self.step.output)
                end = Finished("completed", output, _kept(self._given), None, self._goes_on_s)
                answer = workflow_steps.finish_within(conn, self._at.hold, end)
        except psycopg.DatabaseError as error:
            raise refusal(error) from error
        self.answer = None if answer is None else json.dumps(answer)


def _end(at: At, end: Finished) -> str | None:
    return _again(lambda: workflow_steps.finish(at.hold, end))


def _may_enter(at: At, scope: dict[str, Any]) -> bool:
    key = runs.slot_key(f"step/{render(at.spec['concurrency'], scope)}")
    return _again(lambda: workflow_steps.queue(at.hold, key))


def _step_job(at: At, job: Contract) -> StepJob:
    return StepJob(
        job=job.actor_name,
        queue=job.queue_name,
        payload=payload_of(job),
        version=job.schema_version,
        attempts_max=(at.spec.get("retry") or {}).get("attempts") or job.attempts_max,
        limit_key=job.limit_key(),
        cost=job.cost(),
    )


def _start_child(at: At, asked: StartRun, kept: str | None) -> None:
    parent = runs.Parent(at.hold.step_id, at.depth)
    try:
        with db.transaction(at.hold.tenant_id, durable=False) as conn:
            if not workflow_steps.is_held(conn, at.hold):
                raise LeaseLost(f"Step {at.name} was stopped.")
            child = runs.start(conn, asked.name, asked.input, parent=parent)
            wait = Wait("run", child.id, at.timeout_s, kept)
            workflow_steps.suspend_within(conn, at.hold, wait)
    except psycopg.DatabaseError as error:
        raise refusal(error) from error


def _json(at: At, value: object) -> str:
    """A value as JSON text, fit for Postgres."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise PermanentError(f"Step {at.name}: its output is no JSON value: {error}.") from error
    if size > OUTPUT_BYTES_MAX:
        raise OutputTooLarge(
            f"Step {at.name}: its output is {size:,} bytes, at most {OUTPUT_BYTES_MAX:,} fit; "
            f"keep the bytes in a table and return their id."
        )
    if "\\u0000" in text:
        raise PermanentError(f"Step {at.name}: its output holds NUL, which Postgres cannot store.")
    return text


def _kept(given: Mapping[str, Any]) -> str | None:
    """What the step was given, for who looks at the run, where it is small."""
    text = json.dumps(given, ensure_ascii=False, separators=(",", ":"))
    return text if len(text) <= INPUT_KEPT_BYTES and "\\u0000" not in text else None


def _again(call: Callable[[], Answer]) -> Answer:
    """Make a call to the engine, again where its answer was lost."""
    for left in reversed(range(CALL_TRIES)):
        try:
            return call()
        except (ServerUnavailable, psycopg.errors.DeadlockDetected) as error:
            if not left:
                raise
            log.warning("step.call_repeated", error=db.sentence(error))
            time.sleep(_AGAIN_S)
        except psycopg.DatabaseError as error:
            raise refusal(error) from error
    raise AssertionError("the last try returns or raises")
