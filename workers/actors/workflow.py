"""Queue `workflow`: walkers, which take runs from step to step.

A walker begins the step that its job is at, does it, and finishes it in one round trip that also
gives it the next step that became ready. Other steps that became ready are jobs of their own.
"""

import json
import time
from dataclasses import replace
from typing import Final

import structlog

from shared.contracts import RunStep, StartWorkflow
from shared.errors import LeaseLost
from shared.ledger.outbox import Lease, effect
from shared.observability import telemetry
from shared.queries.ledger import outbox
from shared.queries.workflow import workflow_steps
from shared.workflow import runs
from shared.workflow.decisions import Do, Expand, Skip, decide
from shared.workflow.expressions.evaluation import render
from workers.process.broker import actor, goes_on, lease_s, worker_id
from workers.steps import engine
from workers.steps.outcomes import Deferred
from workers.steps.step import Step
from workers.steps.table import lookup

log = structlog.get_logger()

# For how long a walker goes on before it stands in line again, behind the other runs.
WALK_S: Final = 1.0


@actor(RunStep)
def run_step(job: RunStep, lease: Lease) -> None:  # noqa: ARG001 - where it is stands in its row
    """Walk: begin, do and finish steps until none is ready, or others should have a turn."""
    until = time.monotonic() + WALK_S
    step = _begin(lease, lease.fence)
    while step is not None:
        _note(lease, step)
        try:
            answer = _take(replace(step, lease_s=lease_s() if time.monotonic() < until else 0.0))
        except LeaseLost:
            fence = _fence_before_crash(step)
            if fence is None:
                raise
            _note(lease, replace(step, fence=fence))
            step = _begin(lease, fence)
        else:
            step = None if answer is None else step.following(answer)
    lease.receipted = True


@actor(StartWorkflow)
def start_workflow(job: StartWorkflow, lease: Lease) -> None:
    """Start a run; its id is the job's outcome."""
    with effect(lease) as conn:
        started = runs.start(conn, job.name, job.input, key=job.run_key or lease.job_id)
        outcome = json.dumps({"runId": started.id, "duplicate": started.duplicate})
        outbox.set_outcome(conn, lease.job_id, lease.fence, outcome)


def _begin(lease: Lease, fence: int) -> Step | None:
    answer = engine.begin(lease.tenant_id, lease.job_id, fence)
    if answer is None:
        return None
    return Step.first(lease, answer, progress=engine.progress, transaction=engine.transaction)


def _note(lease: Lease, step: Step) -> None:
    """Let the process, and what this thread logs, know which step it does now."""
    goes_on(lease, step.leased(lease), limit_s=step.timeout_s or RunStep.time_limit_s)
    doing = telemetry.doing.get() or {}
    telemetry.doing.set({**doing, "run_id": step.run_id, "step": step.name})


def _fence_before_crash(step: Step) -> int | None:
    """The fence that a crash of Postgres has set our job back to; None if it is not ours now."""
    fence = workflow_steps.fence_before_crash(step.tenant_id, step.job_id, step.fence, worker_id())
    if fence is not None:
        log.warning("walker.set_back", job_id=step.job_id, fence=fence, was=step.fence)
    return fence


def _take(step: Step) -> str | None:
    """Do one step. Returns what the engine says of the next."""
    scope = step.scope()
    match decide(step.spec, scope, expands=step.expand, all_needs_skipped=step.skip):
        case Skip():
            return engine.skip(step)
        case Expand(items, parallel):
            return engine.expand(step, items, parallel)
        case Do(key):
            if key is not None and not engine.enter(step, key):
                return None
            return _do(replace(step, given=render(step.spec.get("with") or {}, scope)))


def _do(step: Step) -> str | None:
    """Call the function of a step's kind, and tell the engine what came of it."""
    given = step.given or {}
    outcome = given["value"] if step.uses == "outputs" else lookup(step.uses)(given, step)
    if isinstance(outcome, Deferred):
        return outcome.tell(step)
    return step.state.answer if step.is_done else engine.complete(step, outcome)
