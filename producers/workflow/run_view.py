"""A view of one run: read in one transaction, bounded in size, convertible to JSON."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from producers.json_rows import as_document
from producers.queries.workflow import workflow_runs as queries
from producers.queries.workflow.workflow_runs import Count, FailedAttempt, RunRow, StepRow
from shared import db
from shared.db import Connection
from shared.errors import RunNotFound
from shared.ids import RunId, StepId, TenantId

LIVE = frozenset({"queued", "running", "paused", "compensating"})
# States shown beside the first steps, in this order, and how many of them.
NOTABLE = ("failed", "running", "waiting")
NOTABLE_MAX = 20
ATTEMPTS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class ChildRun:
    """A run that a step started."""

    id: RunId
    workflow: str
    state: str


@dataclass(frozen=True, slots=True)
class View:
    """A run and the steps that are shown.

    Attributes:
        run: The run.
        steps: Its first steps in topological order.
        further: A few more items and steps that failed or are running.
        counts: Steps, and items of each mapped step, by state.
        attempts: The attempts that failed, by step.
        children: The runs that were started, by step.
        parent: The run whose step started this one, if one did and is there still.
    """

    run: RunRow
    steps: Sequence[StepRow]
    further: Sequence[StepRow]
    counts: Sequence[Count]
    attempts: dict[StepId, list[FailedAttempt]]
    children: dict[StepId, list[ChildRun]]
    parent: RunId | None = None

    @property
    def is_live(self) -> bool:
        """Whether the run has not ended."""
        return self.run.state in LIVE

    @property
    def progress(self) -> float:
        """Progress in [0, 1]; all steps have equal weight."""
        return progress(self.run, self.counts)

    @property
    def ends_at(self) -> datetime:
        """Return the end time of the run, or now."""
        return self.run.completed_at or max(self.run.now, self.run.started_at)

    def items(self, position: int) -> dict[str, int]:
        """State -> number of the items of a mapped step."""
        return {one.state: one.count for one in self.counts if one.position == position}


def progress(run: RunRow, counts: Sequence[Count]) -> float:
    """Return progress in [0, 1]; all steps have equal weight."""
    if run.state == "completed":
        return 1.0
    done = sum(one.done for one in counts if one.position is None)
    return min(1.0, done / max(1, run.steps_total))


def find(conn: Connection, run_id: str, slug: str) -> RunRow:
    """Return a run of the transaction's tenant.

    Raises:
        RunNotFound: The tenant has no such run.
    """
    run = queries.select_run(conn, RunId(run_id))
    if run is None:
        raise RunNotFound(
            f"Tenant {slug} has no run {run_id!r}: see `ailydian workflow list --tenant {slug}`."
        )
    return run


def read(tenant_id: TenantId, run_id: str, slug: str, *, limit: int) -> View:
    """Read a run, its first `limit` steps and a few relevant others.

    Raises:
        RunNotFound: The tenant has no such run.
    """
    with db.transaction(tenant_id) as conn:
        run = find(conn, run_id, slug)
        steps = queries.select_steps(conn, run, queries.first_steps(run, limit))
        notable = queries.select_notable(conn, run.id, NOTABLE, first=limit, limit=NOTABLE_MAX)
        further = queries.select_steps(conn, run, notable)
        shown = [*steps, *further]
        attempts = defaultdict(list)
        for attempt in queries.select_attempts(conn, shown, limit=ATTEMPTS_MAX):
            attempts[attempt.step_id].append(attempt)
        children = defaultdict(list)
        parents = [step.id for step in shown if step.uses == "workflow"]
        for one in queries.select_children(conn, parents):
            children[one.parent_step_id].append(ChildRun(one.id, one.workflow, one.state))
        counts = queries.count_states(conn, run.id)
        parent_step = run.parent_step_id
        parent = None if parent_step is None else queries.select_run_of_step(conn, parent_step)
    return View(run, steps, further, counts, dict(attempts), dict(children), parent)


def with_items(tenant_id: TenantId, view: View, *, limit: int) -> View:
    """The view with the items of its mapped steps behind the steps, up to `limit` of them."""
    with db.transaction(tenant_id) as conn:
        items = queries.select_steps(
            conn, view.run, queries.select_items(conn, view.run.id, limit=limit)
        )
    return replace(view, steps=[*view.steps, *items], further=())


def read_step(tenant_id: TenantId, run: RunRow, step_id: StepId) -> dict[str, Any]:
    """Return a step or item of a run as `--json` prints it."""
    with db.transaction(tenant_id) as conn:
        steps = queries.select_steps(conn, run, [step_id])
        attempts = queries.select_attempts(conn, steps, limit=ATTEMPTS_MAX)
        children = [
            ChildRun(one.id, one.workflow, one.state)
            for one in queries.select_children(conn, [step_id])
        ]
        counts = queries.count_states(conn, run.id) if steps[0].items is not None else []
    view = View(run, steps, (), counts, {step_id: attempts}, {step_id: children})
    return _step(view, steps[0])


def named_step(tenant_id: TenantId, run_id: str, slug: str, name: str) -> dict[str, Any]:
    """Return a step of a run by its name, in full, as `--json` prints it; step[3] is an item.

    Raises:
        RunNotFound: The tenant has no such run, or the run no such step.
    """
    with db.transaction(tenant_id) as conn:
        run = find(conn, run_id, slug)
        named = queries.select_named(conn, run.id, name)
        if named is None:
            raise RunNotFound(f"The run {run_id} has no step {name!r}.")
        step_id, whole = named
    shown = read_step(tenant_id, run, step_id)
    if whole is not None:
        shown["output"] = whole
    return shown


def document(view: View) -> dict[str, Any]:
    """Return a run as `--json` prints it."""
    run = view.run
    found = as_document(run)
    del found["versionId"], found["now"], found["stepsTotal"]
    states = {one.state: one.count for one in view.counts if one.position is None}
    shown = {step.id for step in view.steps}
    further = [step for step in view.further if step.id not in shown]
    return found | {
        "progress": round(view.progress, 4),
        "stepsTotal": run.steps_total,
        "states": states,
        "steps": [_step(view, step) for step in view.steps],
        "further": [_step(view, step) for step in further],
    }


def _step(view: View, step: StepRow) -> dict[str, Any]:
    found = as_document(step)
    for name in (
        "dependents",
        "waitsFor",
        "waitName",
        "waitUntil",
        "compensates",
        "jobState",
        "jobQueue",
    ):
        del found[name]
    waits = None
    if step.waits_for is not None:
        waits = {"for": step.waits_for, "name": step.wait_name, "until": step.wait_until}
    return found | {
        "waits": waits,
        "itemStates": view.items(step.position) if step.items is not None else None,
        "attempts": [_attempt(one) for one in view.attempts.get(step.id, ())],
        "runs": [as_document(one) for one in view.children.get(step.id, ())],
    }


def _attempt(attempt: FailedAttempt) -> dict[str, Any]:
    found = as_document(attempt)
    del found["stepId"]
    return found
