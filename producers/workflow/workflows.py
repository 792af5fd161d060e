"""Workflow actions: put, start, cancel, pause, signal, approve, retry, ...

Each runs in the caller's transaction of the tenant, which also writes the audit entry of actions
on runs.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg

from producers.queries.workflow import run_actions
from producers.queries.workflow.run_actions import RunSignal
from shared.db import Connection
from shared.errors import DefinitionRefused, SignalRefused
from shared.ids import RunId
from shared.ledger.outbox import raise_refusal
from shared.operations.audit import note, who
from shared.workflow import runs
from shared.workflow.plan import compile_plan
from shared.workflow.reading import read
from shared.workflow.runs import StartedRun, StoredWorkflow

SIGNAL_BYTES_MAX = 64 * 1024
Answer = TypeVar("Answer")
_ITEM = re.compile(r"^(.*)\[(\d{1,6})\]$")


@dataclass(frozen=True, slots=True)
class Validation:
    """What a definition is worth; of an invalid one only `faults`, each with line and column."""

    ok: bool
    name: str | None
    steps: int | None
    faults: list[str]
    digest: str | None


def validate(text: str, *, source: str) -> Validation:
    """Check a definition without storing it."""
    try:
        definition = read(text, source=source)
        plan = compile_plan(definition)
    except DefinitionRefused as refused:
        return Validation(False, None, None, str(refused).splitlines(), None)
    return Validation(True, definition.name, len(definition.steps), [], plan.digest)


def put(conn: Connection, text: str, *, source: str = "workflow") -> StoredWorkflow:
    """Validate a definition and store it as the latest version of the tenant's workflow.

    Raises:
        DefinitionRefused: Lists every error with its line and column.
    """
    made = runs.put(conn, read(text, source=source))
    if made.changed:
        what = {"name": made.name, "version": made.version, "steps": made.steps}
        note(conn, "workflow.put", "Workflow", made.name, what)
    return made


def start(
    conn: Connection,
    name: str,
    given: Mapping[str, Any],
    *,
    key: str | None = None,
    version: int | None = None,
) -> StartedRun:
    """Start a run; see `shared.workflow.runs.start`."""
    return runs.start(conn, name, given, key=key, version=version)


def cancel(conn: Connection, run_id: RunId, *, why: str = "cancelled") -> None:
    """Cancel a run, its steps, their jobs and its child runs.

    Raises:
        RunNotFound: The tenant has none of this id.
        RunRefused: It has ended.
    """
    _act(conn, "cancel", run_id, lambda: run_actions.cancel(conn, run_id, why))


def pause(conn: Connection, run_id: RunId) -> None:
    """Pause a run: no further step starts, running ones finish. Raises as `cancel`."""
    _act(conn, "pause", run_id, lambda: run_actions.pause(conn, run_id))


def resume(conn: Connection, run_id: RunId) -> None:
    """Resume a paused run. Raises as `cancel`."""
    _act(conn, "resume", run_id, lambda: run_actions.resume(conn, run_id))


def skip(conn: Connection, run_id: RunId, step: str) -> None:
    """Skip an unfinished step; its dependents continue. Raises as `cancel`."""
    _act(conn, "skip", run_id, lambda: run_actions.skip(conn, run_id, step), step=step)


def retry(conn: Connection, run_id: RunId, *, from_step: str | None = None) -> RunId:
    """Retry a failed or cancelled run, or fork an ended run from a step.

    Returns:
        The continued run: the same, or with `from_step` the fork. The fork takes over the outputs
        of steps that do not depend on that step; the old run stays unchanged.

    Raises:
        RunRefused: Wrong state, steps already compensated, or no such step.
    """
    if from_step is None:
        _act(conn, "retry", run_id, lambda: run_actions.retry(conn, run_id))
        return run_id
    return _act(
        conn,
        "retry",
        run_id,
        lambda: run_actions.fork(conn, run_id, from_step, who()),
        step=from_step,
    )


def signal(conn: Connection, run_id: RunId, name: str, payload: object) -> None:
    """Send a signal to a run. It is stored until a step waits for it.

    Raises:
        SignalRefused: Too large, or a thousand signals wait already.
        RunNotFound: The tenant has none of this id.
        RunRefused: It has ended.
    """
    sent = RunSignal("signal", name, _payload(payload), who())
    _act(conn, "signal", run_id, lambda: run_actions.signal(conn, run_id, sent), name=name)


def approve(
    conn: Connection, run_id: RunId, step: str, *, approved: bool, comment: str | None = None
) -> None:
    """Approve or reject a waiting step; `step[3]` is an item of a mapped step.

    Raises:
        RunRefused: No such step waits for an approval.
    """
    item = _ITEM.match(step)
    name, index = (item[1], int(item[2])) if item is not None else (step, None)
    answer = _payload({"approved": approved, "by": who(), "comment": comment})
    sent = RunSignal("approval", name, answer, who(), index)
    verb = "approve" if approved else "reject"
    _act(conn, verb, run_id, lambda: run_actions.signal(conn, run_id, sent), step=step)


def _payload(payload: object) -> str:
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False)
    if len(text.encode()) > SIGNAL_BYTES_MAX or "\\u0000" in text:
        raise SignalRefused(f"A signal must be at most {SIGNAL_BYTES_MAX:,} bytes, without NUL.")
    return text


def _act(
    conn: Connection, verb: str, run_id: RunId, do: Callable[[], Answer], **what: object
) -> Answer:
    try:
        answer = do()
    except psycopg.Error as error:
        raise_refusal(error)
    note(conn, f"workflow.{verb}", "WorkflowRun", run_id, what)
    return answer
