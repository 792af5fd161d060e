"""A walker's calls of the workflow engine, each one round trip and one transaction.

The functions are documented in shared/schema/90_workflow. They return the context of the next step,
as JSON text, or None: the walker's job is then done.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared import db
from shared.db import Connection
from shared.ids import JobId, StepId, TenantId


@dataclass(frozen=True, slots=True)
class StepClaim:
    """A walker's claim on the step that it is at, proved by the fence of its job.

    `workers.steps.step.Step` is one; the calls below need no more of it.
    """

    tenant_id: TenantId
    job_id: JobId
    fence: int
    step_id: StepId

    def values(self) -> dict[str, object]:
        """The parameters of every call."""
        return {"job_id": self.job_id, "fence": self.fence, "step_id": self.step_id}


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a step; `output` and `given` are JSON text; `lease_s` to go on, 0 to stop."""

    verdict: str
    output: str | None
    given: str | None
    error: str | None
    lease_s: float
    durable: bool = False


BEGIN: Final = """
    SELECT ailydian_begin_step(%(job_id)s::text, %(fence)s::bigint)
"""


def begin(tenant_id: TenantId, job_id: JobId, fence: int) -> str | None:
    """Begin the step that a claimed `run_step` job is at."""
    return db.call(tenant_id, BEGIN, {"job_id": job_id, "fence": fence}, durable=False)


SELECT_FENCE: Final = """
    SELECT j."fence"::text FROM "Job" j
    WHERE j."id" = %(job_id)s::text AND j."state" = 'RUNNING' AND j."worker" = %(worker)s::text
      AND j."fence" <= %(fence)s::bigint
    UNION ALL SELECT NULL LIMIT 1
"""


def fence_before_crash(tenant_id: TenantId, job_id: JobId, fence: int, worker: str) -> int | None:
    """The fence that a crash of Postgres has set our job back to; None if the lease is lost.

    The last commits may be lost, because they do not wait for the disk. Another owner of the job
    would have raised its fence.
    """
    values = {"job_id": job_id, "fence": fence, "worker": worker}
    found = db.call(tenant_id, SELECT_FENCE, values, durable=False)
    return None if found is None else int(found)


FINISH: Final = """
    SELECT ailydian_finish_step(%(job_id)s::text, %(fence)s::bigint, %(step_id)s::text,
        %(verdict)s::text, %(output)s::jsonb, %(given)s::jsonb, %(error)s::text, NULL::text,
        %(lease_s)s::float8)
"""


def finish(hold: StepClaim, end: Finished) -> str | None:
    """Finish a step and begin the next."""
    values = _end_values(hold, end)
    return db.call(hold.tenant_id, FINISH, values, durable=end.durable)


def finish_within(conn: Connection, hold: StepClaim, end: Finished) -> object:
    """As `finish`, in the transaction in which the step's function has written."""
    row = conn.execute(FINISH, _end_values(hold, end)).fetchone()
    assert row is not None, "a function yields a row"
    return row[0]


def _end_values(hold: StepClaim, end: Finished) -> dict[str, object]:
    return hold.values() | {
        "verdict": end.verdict,
        "output": end.output,
        "given": end.given,
        "error": end.error,
        "lease_s": end.lease_s,
    }


EXPAND: Final = """
    SELECT ailydian_expand_step(%(job_id)s::text, %(fence)s::bigint, %(step_id)s::text,
        %(items)s::jsonb, %(parallel)s::int, %(lease_s)s::float8)
"""


def expand(hold: StepClaim, items: str, *, parallel: int, lease_s: float) -> str | None:
    """Turn a mapped step into one step an item; `items` is a JSON array."""
    values = hold.values() | {"items": items, "parallel": parallel, "lease_s": lease_s}
    return db.call(hold.tenant_id, EXPAND, values, durable=False)


DELEGATE: Final = """
    SELECT ailydian_delegate_step(%(job_id)s::text, %(fence)s::bigint, %(step_id)s::text,
        %(payload)s::jsonb, %(job)s::text, %(queue)s::text, %(version)s::int, %(attempts)s::int,
        %(limit_key)s::text, %(cost)s::int, 0::float8)
"""


@dataclass(frozen=True, slots=True)
class StepJob:
    """The job that a step becomes; `payload` is JSON text."""

    job: str
    queue: str
    payload: str
    version: int
    attempts_max: int
    limit_key: str
    cost: int


def delegate(hold: StepClaim, job: StepJob) -> None:
    """Let an actor do the step: its job's end is the step's."""
    values = hold.values() | {
        "payload": job.payload,
        "job": job.job,
        "queue": job.queue,
        "version": job.version,
        "attempts": job.attempts_max,
        "limit_key": job.limit_key,
        "cost": job.cost,
    }
    db.call(hold.tenant_id, DELEGATE, values, durable=False)


SUSPEND: Final = """
    SELECT ailydian_suspend_step(%(job_id)s::text, %(fence)s::bigint, %(step_id)s::text,
        %(what)s::text, %(name)s::text, %(wait_s)s::float8, %(until)s::timestamptz,
        %(given)s::jsonb, %(lease_s)s::float8)
"""


@dataclass(frozen=True, slots=True)
class StepWait:
    """A wait of a step, and its timeout in seconds; None for ever, or `until`."""

    what: str
    name: str
    wait_s: float | None
    given: str | None
    until: datetime | None = None


def suspend(hold: StepClaim, wait: StepWait, *, lease_s: float) -> str | None:
    """Let a step wait; the walker goes on only where a signal had come before."""
    values = _wait_values(hold, wait) | {"lease_s": lease_s}
    return db.call(hold.tenant_id, SUSPEND, values, durable=False)


def suspend_within(conn: Connection, hold: StepClaim, wait: StepWait) -> None:
    """As `suspend`, in the transaction that starts what the step waits for."""
    conn.execute(SUSPEND, _wait_values(hold, wait) | {"lease_s": 0.0})


def _wait_values(hold: StepClaim, wait: StepWait) -> dict[str, object]:
    return hold.values() | {
        "what": wait.what,
        "name": wait.name,
        "wait_s": wait.wait_s,
        "until": wait.until,
        "given": wait.given,
    }


QUEUE: Final = """
    SELECT ailydian_queue_step(%(job_id)s::text, %(fence)s::bigint, %(step_id)s::text,
                               %(key)s::text)
"""


def queue(hold: StepClaim, key: str) -> bool:
    """Return whether a step may go on now; otherwise it waits behind the others with its key."""
    return db.call(hold.tenant_id, QUEUE, hold.values() | {"key": key}, durable=False) == "t"


HOLD: Final = """
    SELECT ailydian_hold_step(%(job_id)s::text, %(fence)s::bigint, %(step_id)s::text)
"""


def is_held(conn: Connection, hold: StepClaim) -> bool:
    """Lock the job and say whether this attempt still owns its step.

    Raises:
        psycopg.DatabaseError: AL001, the lease is lost.
    """
    row = conn.execute(HOLD, hold.values()).fetchone()
    return row is not None and row[0] == "held"


PROGRESS: Final = """
    WITH told AS (
        UPDATE "WorkflowStep" s SET "progress" = %(part)s::real, "note" = %(note)s::text
        WHERE s."id" = %(step_id)s::text AND s."jobId" = %(job_id)s::text
          AND s."state" = 'running' RETURNING s."id"
    )
    SELECT count(*)::text FROM told
"""


def tell_progress(hold: StepClaim, part: float, note: str) -> bool:
    """Store the progress of a step, in [0, 1]. Returns whether the step is still ours."""
    values = {"part": part, "note": note, "step_id": hold.step_id, "job_id": hold.job_id}
    return db.call(hold.tenant_id, PROGRESS, values, durable=False) == "1"


FIRE: Final = """
    SELECT ailydian_fire_waits(%(limit)s::int)
"""


def fire_waits(conn: Connection, *, limit: int) -> int:
    """End the waits that are due: timers, and those that waited too long. Returns how many."""
    row = conn.execute(FIRE, {"limit": limit}).fetchone()
    assert row is not None, "a function yields a row"
    return int(row[0])


SELECT_NEXT_DUE: Final = """
    SELECT extract(epoch FROM min("dueAt") - now())::float8 FROM "WorkflowWait"
    WHERE "dueAt" IS NOT NULL
"""


def next_due_s(conn: Connection) -> float | None:
    """Seconds until the next wait is due, <= 0 if one is; None without one."""
    row = conn.execute(SELECT_NEXT_DUE).fetchone()
    return None if row is None else row[0]
