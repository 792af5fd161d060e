"""A walker's calls to the workflow engine.

Each returns what the engine says of the next step, JSON text, or None where the job is done. The
engine recognises a call that it has done: one whose answer was lost is repeated.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

import psycopg
import structlog

from shared import db
from shared.contracts import Contract
from shared.db import Connection
from shared.errors import (
    LeaseLost,
    OutputTooLarge,
    PermanentError,
    ServerUnavailable,
    StepCancelled,
)
from shared.ids import JobId, TenantId
from shared.ledger.outbox import payload_of, raise_refusal
from shared.queries.workflow import workflow_steps
from shared.queries.workflow.workflow_steps import Finished, StepJob, StepWait
from shared.workflow import runs
from shared.workflow.limits import OUTPUT_BYTES_MAX
from workers.steps.step import Step

log = structlog.get_logger()
Answer = TypeVar("Answer")

PROGRESS_EVERY_S = 0.5
CALL_TRIES = 5
_AGAIN_S = 0.2
# What cannot be taken back is on the disk before the next step begins.
_DURABLE = frozenset({"http", "complete"})


def begin(tenant_id: TenantId, job_id: JobId, fence: int) -> str | None:
    """Begin the step that a walker's job is at."""
    return _repeated(lambda: workflow_steps.begin(tenant_id, job_id, fence))


def skip(step: Step) -> str | None:
    """End a step that is passed over, and begin the next."""
    end = Finished("skipped", None, None, None, step.lease_s)
    return _repeated(lambda: workflow_steps.finish(step, end))


def complete(step: Step, output: object) -> str | None:
    """End a step with its output, and begin the next."""
    end = _completed(step, output, durable=step.uses in _DURABLE)
    return _repeated(lambda: workflow_steps.finish(step, end))


def expand(step: Step, items: list[Any], parallel: int) -> str | None:
    """Turn a mapped step into its items, of which `parallel` run at once, and begin one."""
    text = _json(step, items)
    return _repeated(
        lambda: workflow_steps.expand(step, text, parallel=parallel, lease_s=step.lease_s)
    )


def enter(step: Step, key: str) -> bool:
    """Whether no other step holds this concurrency key; otherwise the step waits its turn."""
    slot_key = runs.slot_key(f"step/{key}")
    return _repeated(lambda: workflow_steps.queue(step, slot_key))


def suspend(
    step: Step, what: str, name: str, wait_s: float | None, until: datetime | None = None
) -> str | None:
    """Let a step wait; a walker goes on at once where the signal had come before."""
    wait = StepWait(what, name, wait_s, step.kept, until)
    return _repeated(lambda: workflow_steps.suspend(step, wait, lease_s=step.lease_s))


def delegate(step: Step, job: Contract) -> None:
    """Let the actor of a contract do a step: its job's end is the step's."""
    new = StepJob(
        job=job.actor_name,
        queue=job.queue_name,
        payload=payload_of(job),
        version=job.schema_version,
        attempts_max=(step.spec.get("retry") or {}).get("attempts") or job.attempts_max,
        limit_key=job.limit_key(),
        cost=job.cost(),
    )
    _repeated(lambda: workflow_steps.delegate(step, new))


def start_run(step: Step, name: str, given: Mapping[str, Any]) -> None:
    """Start a run of another workflow, and let a step wait for its end."""
    with _held(step) as conn:
        child = runs.start(conn, name, given, parent=runs.Parent(step.step_id, step.depth))
        wait = StepWait("run", child.id, step.timeout_s, step.kept)
        workflow_steps.suspend_within(conn, step, wait)


def progress(step: Step, part: float, note: str) -> None:
    """Tell how far a step is, twice a second at most.

    Raises:
        StepCancelled: Its run was stopped, or a newer attempt does it.
    """
    now = time.monotonic()
    if now - step.state.told_at < PROGRESS_EVERY_S and part < 1.0:
        return
    step.state.told_at = now
    if not workflow_steps.tell_progress(step, part, note):
        raise StepCancelled(f"Step {step.name} was stopped, or a newer attempt does it.")


@contextmanager
def transaction(step: Step) -> Iterator[Connection]:
    """Open the transaction in which a step writes; it ends the step as well, and begins the next.

    Raises:
        LeaseLost: The step was stopped; nothing was written.
    """
    with _held(step) as conn:
        yield conn
        answer = workflow_steps.finish_within(conn, step, _completed(step, step.output))
    step.state.answer = None if answer is None else json.dumps(answer)


@contextmanager
def _held(step: Step) -> Iterator[Connection]:
    """A transaction that has the step's job locked."""
    try:
        with db.transaction(step.tenant_id, durable=False) as conn:
            if not workflow_steps.is_held(conn, step):
                raise LeaseLost(f"Step {step.name} was stopped.")
            yield conn
    except psycopg.DatabaseError as error:
        raise_refusal(error)


def _completed(step: Step, output: object, *, durable: bool = False) -> Finished:
    text = _json(step, output)
    return Finished("completed", text, step.kept, None, step.lease_s, durable)


def _json(step: Step, value: object) -> str:
    """A value as JSON text that Postgres can store."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise PermanentError(
            f"Step {step.name}: its output is not a JSON value: {error}."
        ) from error
    if size > OUTPUT_BYTES_MAX:
        raise OutputTooLarge(
            f"Step {step.name}: its output is {size:,} bytes, at most {OUTPUT_BYTES_MAX:,} fit; "
            f"keep the bytes in a table and return their id."
        )
    if "\\u0000" in text:
        raise PermanentError(
            f"Step {step.name}: its output holds NUL, which Postgres cannot store."
        )
    return text


def _repeated(call: Callable[[], Answer]) -> Answer:
    """Make a call to the engine, and repeat it where its answer was lost."""
    for left in reversed(range(CALL_TRIES)):
        try:
            return call()
        except ServerUnavailable as error:
            if not left:
                raise
            log.warning("step.call_repeated", error=db.sentence(error))
            time.sleep(_AGAIN_S)
        except psycopg.DatabaseError as error:
            raise_refusal(error)
    raise AssertionError("the last try returns or raises")
