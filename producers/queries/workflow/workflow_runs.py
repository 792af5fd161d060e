"""A run and its steps, in the tenant's role.

Results are bounded whatever the size of the run: the first steps by their ids, which are made of
positions, counts of the others, and the relevant ones of them by name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from shared.db import Connection
from shared.ids import RunId, StepId


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run. `behind` is the run whose turn it is before this one's, where this one waits."""

    id: RunId
    workflow: str
    version: int
    version_id: str
    status: str
    state: str
    key: str | None
    input: Any
    output: Any
    error: str | None
    fingerprint: str | None
    failed_step_id: StepId | None
    parent_step_id: StepId | None
    fork_of: RunId | None
    producer: str | None
    steps_total: int
    started_at: datetime
    completed_at: datetime | None
    deadline: datetime | None
    behind: str | None
    now: datetime


SELECT_RUN: Final = """
    SELECT r."id", w."name" AS "workflow", v."version", v."id" AS "versionId", r."status"::text,
           r."state", r."key", r."input",
           r."output", r."error", r."fingerprint", r."failedStepId", r."parentStepId", r."forkOf",
           r."producer", v."steps" AS "stepsTotal", r."startedAt" AT TIME ZONE 'UTC' AS "startedAt",
           r."completedAt" AT TIME ZONE 'UTC' AS "completedAt",
           (SELECT x."dueAt" FROM "WorkflowWait" x WHERE x."id" = r."id") AS "deadline",
           CASE WHEN r."state" = 'queued' THEN (
               SELECT s."runId" FROM "WorkflowSlot" s
               WHERE s."tenantId" = r."tenantId" AND s."key" = r."concurrencyKey"
               ORDER BY s."seq" LIMIT 1) END AS "behind",
           clock_timestamp() AS "now"
    FROM "WorkflowRun" r JOIN "Workflow" w ON w."id" = r."workflowId"
    JOIN "WorkflowVersion" v ON v."id" = r."versionId"
    WHERE r."id" = %(run_id)s
"""


def select_run(conn: Connection, run_id: RunId) -> RunRow | None:
    """A run of the tenant."""
    row = conn.execute(SELECT_RUN, {"run_id": run_id}).fetchone()
    return None if row is None else RunRow(*row)


SELECT_RUN_OF_STEP: Final = """
    SELECT s."runId" FROM "WorkflowStep" s WHERE s."id" = %(step_id)s
"""


def select_run_of_step(conn: Connection, step_id: StepId) -> RunId | None:
    """The run that a step is of; None where it is there no more."""
    row = conn.execute(SELECT_RUN_OF_STEP, {"step_id": step_id}).fetchone()
    return None if row is None else row[0]


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step, one item of a mapped step, or (`item_index` None) the mapped step itself.

    One that is a job of another kind, in a queue of its own, has that job's attempts.
    """

    id: StepId
    position: int
    item_index: int | None
    name: str
    uses: str
    status: str
    state: str
    attempt: int
    attempts_max: int
    input: Any
    output: Any
    error: str | None
    fingerprint: str | None
    job_id: str | None
    items: int | None
    progress: float | None
    note: str | None
    started_at: datetime | None
    completed_at: datetime | None
    dependents: Sequence[int]
    compensates: int | None
    waits_for: str | None
    wait_name: str | None
    wait_until: datetime | None
    job_queue: str | None
    job_state: str | None


# A step that has not begun has a time of its own row only, which says nothing.
SELECT_STEPS: Final = """
    SELECT s."id", s."position", nullif(s."itemIndex", -1) AS "itemIndex", s."stepName" AS "name",
           n."uses", s."status"::text, s."state", coalesce(j."attempt", s."attempt") AS "attempt",
           coalesce(j."attemptsMax", n."attemptsMax") AS "attemptsMax", s."input", s."output",
           s."error", s."fingerprint", s."jobId", s."items", s."progress", s."note",
           CASE WHEN s."attempt" > 0 THEN s."startedAt" AT TIME ZONE 'UTC' END AS "startedAt",
           s."completedAt" AT TIME ZONE 'UTC' AS "completedAt", n."dependents", n."compensates",
           x."what" AS "waitsFor", x."name" AS "waitName", x."dueAt" AS "waitUntil",
           j."queue" AS "jobQueue", j."state" AS "jobState"
    FROM unnest(%(ids)s::text[]) WITH ORDINALITY AS i("id", "n")
    JOIN "WorkflowStep" s ON s."id" = i."id"
    JOIN "WorkflowNode" n ON n."versionId" = %(version_id)s AND n."position" = s."position"
    LEFT JOIN "WorkflowWait" x ON x."id" = s."id"
    LEFT JOIN "Job" j ON j."id" = s."jobId" AND j."job" <> 'run_step'
    ORDER BY i."n"
"""


def select_steps(conn: Connection, run: RunRow, ids: Sequence[StepId]) -> list[StepRow]:
    """These steps and items of a run, in the order given; unknown ids are left out."""
    values = {"ids": list(ids), "version_id": run.version_id}
    return [StepRow(*row) for row in conn.execute(SELECT_STEPS, values)]


def first_steps(run: RunRow, limit: int) -> list[StepId]:
    """The ids of a run's first steps in topological order, items left out."""
    return [StepId(f"{run.id}/{position}") for position in range(limit)]


# The relevant ones, wherever they are: failed or running.
SELECT_NOTABLE: Final = """
    SELECT s."id" FROM "WorkflowStep" s
    WHERE s."runId" = %(run_id)s AND s."state" = ANY(%(states)s::text[])
      AND (s."itemIndex" >= 0 OR s."position" >= %(first)s)
    ORDER BY array_position(%(states)s::text[], s."state"), s."position", s."itemIndex"
    LIMIT %(limit)s
"""


def select_notable(
    conn: Connection, run_id: RunId, states: Sequence[str], *, first: int, limit: int
) -> list[StepId]:
    """Items, and steps from the position `first` on, that are in these states, in their order."""
    values = {"run_id": run_id, "states": list(states), "first": first, "limit": limit}
    return [row[0] for row in conn.execute(SELECT_NOTABLE, values)]


SELECT_ITEMS: Final = """
    SELECT s."id" FROM "WorkflowStep" s WHERE s."runId" = %(run_id)s AND s."itemIndex" >= 0
    ORDER BY s."position", s."itemIndex" LIMIT %(limit)s
"""


def select_items(conn: Connection, run_id: RunId, *, limit: int) -> list[StepId]:
    """The items of a run's mapped steps."""
    return [row[0] for row in conn.execute(SELECT_ITEMS, {"run_id": run_id, "limit": limit})]


SELECT_NAMED: Final = """
    SELECT s."id", o."output" FROM "WorkflowStep" s
    LEFT JOIN "WorkflowOutput" o ON o."stepId" = s."id"
    WHERE s."runId" = %(run_id)s AND s."stepName" = %(name)s ORDER BY s."itemIndex" LIMIT 1
"""


def select_named(conn: Connection, run_id: RunId, name: str) -> tuple[StepId, Any] | None:
    """The id of a step, or of `step[3]`, and its output where that is too large for its row."""
    row = conn.execute(SELECT_NAMED, {"run_id": run_id, "name": name}).fetchone()
    if row is None:
        return None
    id_, output = row
    return id_, output


@dataclass(frozen=True, slots=True)
class Count:
    """Count of steps (`position` None), or of a mapped step's items, in one state."""

    position: int | None
    state: str
    count: int
    done: float


COUNT_STATES: Final = """
    SELECT CASE WHEN s."itemIndex" >= 0 THEN s."position" END AS "position", s."state", count(*),
           sum(CASE WHEN s."state" IN ('completed', 'skipped', 'failed') THEN 1
                    WHEN s."state" = 'cancelled' THEN 0 ELSE coalesce(s."progress", 0) END)::float8
               AS "done"
    FROM "WorkflowStep" s JOIN "WorkflowRun" r ON r."id" = s."runId"
    JOIN "WorkflowVersion" v ON v."id" = r."versionId"
    WHERE s."runId" = %(run_id)s AND s."position" < v."steps"
    GROUP BY 1, 2
"""


def count_states(conn: Connection, run_id: RunId) -> list[Count]:
    """Count a run's steps by state, compensations left out; `done` sums their progress."""
    return [Count(*row) for row in conn.execute(COUNT_STATES, {"run_id": run_id})]


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """A failed attempt at a step."""

    step_id: StepId
    attempt: int
    verdict: str
    error_type: str | None
    error: str | None
    fingerprint: str | None
    worker: str | None
    started_at: datetime | None
    ended_at: datetime


# A walker's attempts are of many steps; another kind's job is of one.
SELECT_ATTEMPTS: Final = """
    SELECT s."id" AS "stepId", a."attempt", a."verdict", a."errorType", a."error", a."fingerprint",
           a."worker", a."startedAt", a."endedAt"
    FROM unnest(%(step_ids)s::text[], %(job_ids)s::text[]) AS s("id", "jobId")
    JOIN "JobAttempt" a ON a."jobId" = s."jobId" AND coalesce(a."stepId", s."id") = s."id"
    ORDER BY s."id", a."fence" LIMIT %(limit)s
"""


def select_attempts(
    conn: Connection, steps: Sequence[StepRow], *, limit: int
) -> list[FailedAttempt]:
    """The attempts at these steps that failed, by their last jobs, oldest first."""
    known = [(step.id, step.job_id) for step in steps if step.job_id is not None]
    values = {
        "step_ids": [step_id for step_id, _ in known],
        "job_ids": [job_id for _, job_id in known],
        "limit": limit,
    }
    return [FailedAttempt(*row) for row in conn.execute(SELECT_ATTEMPTS, values)]


@dataclass(frozen=True, slots=True)
class ChildRow:
    """A run that a step started."""

    parent_step_id: StepId
    id: RunId
    workflow: str
    state: str


SELECT_CHILDREN: Final = """
    SELECT r."parentStepId", r."id", w."name" AS "workflow", r."state"
    FROM "WorkflowRun" r JOIN "Workflow" w ON w."id" = r."workflowId"
    WHERE r."parentStepId" = ANY(%(step_ids)s::text[]) ORDER BY r."startedAt"
"""


def select_children(conn: Connection, step_ids: Sequence[StepId]) -> list[ChildRow]:
    """The runs that these steps started, oldest first."""
    if not step_ids:
        return []
    rows = conn.execute(SELECT_CHILDREN, {"step_ids": list(step_ids)})
    return [ChildRow(*row) for row in rows]


SELECT_STATES: Final = """
    SELECT s."stepName", s."state" FROM "WorkflowStep" s
    WHERE s."runId" = %(run_id)s AND s."itemIndex" = -1 LIMIT %(limit)s
"""


def select_states(conn: Connection, run_id: RunId, *, limit: int) -> dict[str, str]:
    """Name -> state of a run's steps, for its graph."""
    rows = conn.execute(SELECT_STATES, {"run_id": run_id, "limit": limit})
    return {step_name: state for step_name, state in rows}
