"""The ledger as people look at it: jobs, their lives, and what each queue holds.

All statements run in the relay's role, which sees the ledger of all tenants. The state that the
outside knows has one more word than the table: QUEUED is a PENDING job whose wake-up is in Redis.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from shared.db import Connection
from shared.ids import JobId, TenantId


@dataclass(frozen=True, slots=True)
class Filters:
    """Which jobs are meant; None means any."""

    queue: str | None = None
    job: str | None = None
    state: str | None = None
    tenant_id: TenantId | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job as `ailydian jobs` shows it."""

    id: JobId
    job: str
    queue: str
    tenant: str | None
    state: str
    attempt: int
    attempts_max: int
    payload: dict[str, Any]
    key: str | None
    error: str | None
    outcome: dict[str, Any] | None
    parent_id: JobId | None
    waiting_for: str | None
    due_at: datetime
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    worker: str | None


# Newest first within each tenant by its index, so that no sort of the whole ledger is needed.
SELECT_JOBS: Final = """
    SELECT j."id", j."job", j."queue", t."slug", j."seen", j."attempt", j."attemptsMax",
           j."payload", j."key", j."error", j."outcome", j."parentId", j."waitingFor", j."dueAt",
           j."createdAt", j."startedAt", j."finishedAt", j."worker"
    FROM (SELECT "id", "slug" FROM "Tenant"
          WHERE %(tenant_id)s::text IS NULL OR "id" = %(tenant_id)s) t
    CROSS JOIN LATERAL (
        SELECT j.*, s."seen" FROM "Job" j CROSS JOIN LATERAL (
            SELECT CASE WHEN j."state" = 'PENDING' AND EXISTS (
                SELECT FROM "JobFlight" f WHERE f."jobId" = j."id") THEN 'QUEUED'
                ELSE j."state" END AS "seen") s
        WHERE j."tenantId" = t."id"
          AND (%(queue)s::text IS NULL OR j."queue" = %(queue)s)
          AND (%(job)s::text IS NULL OR j."job" = %(job)s)
          AND (%(since)s::timestamptz IS NULL OR j."createdAt" >= %(since)s)
          AND (%(state)s::text IS NULL OR s."seen" = %(state)s)
        ORDER BY j."createdAt" DESC LIMIT %(limit)s
    ) j
    ORDER BY j."createdAt" DESC, j."id" DESC LIMIT %(limit)s
"""


def select_jobs(conn: Connection, wanted: Filters, *, limit: int) -> list[JobRow]:
    """Jobs, newest first."""
    values = {
        "queue": wanted.queue,
        "job": wanted.job,
        "state": wanted.state,
        "tenant_id": wanted.tenant_id,
        "since": wanted.since,
        "limit": limit,
    }
    return [JobRow(*row) for row in conn.execute(SELECT_JOBS, values)]


SELECT_BY_IDS: Final = """
    SELECT j."id", j."job", j."queue", t."slug",
           CASE WHEN j."state" = 'PENDING' AND EXISTS (
               SELECT FROM "JobFlight" f WHERE f."jobId" = j."id") THEN 'QUEUED'
               ELSE j."state" END,
           j."attempt", j."attemptsMax", j."payload", j."key", j."error", j."outcome",
           j."parentId", j."waitingFor", j."dueAt", j."createdAt", j."startedAt", j."finishedAt",
           j."worker"
    FROM "Job" j LEFT JOIN "Tenant" t ON t."id" = j."tenantId"
    WHERE j."id" = ANY(%(ids)s::text[]) ORDER BY j."createdAt", j."id"
"""


def select_by_ids(conn: Connection, ids: Sequence[JobId]) -> list[JobRow]:
    """These jobs, oldest first; unknown ids are left out."""
    return [JobRow(*row) for row in conn.execute(SELECT_BY_IDS, {"ids": list(ids)})]


# A child is of its parent's tenant and not older, so the index by time finds it.
SELECT_CHILDREN: Final = """
    SELECT c."id" FROM "Job" p
    JOIN "Job" c ON c."tenantId" = p."tenantId" AND c."createdAt" >= p."createdAt"
                AND c."parentId" = p."id"
    WHERE p."id" = %(id)s ORDER BY c."createdAt", c."id" LIMIT %(limit)s
"""


def select_children(conn: Connection, job_id: JobId, *, limit: int) -> list[JobId]:
    """The follow-ups of a job, oldest first."""
    rows = conn.execute(SELECT_CHILDREN, {"id": job_id, "limit": limit})
    return [JobId(row[0]) for row in rows]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where one awaited job, or one follow-up of such a job, stands."""

    id: JobId
    root_id: JobId
    job: str
    state: str
    error: str | None
    outcome: dict[str, Any] | None
    error_type: str | None


# The oldest of the awaited jobs bounds the part of the ledger that is looked at for follow-ups.
SELECT_PROGRESS: Final = """
    WITH awaited AS (
        SELECT j."id", j."tenantId", j."createdAt", j."job", j."state", j."error", j."outcome"
        FROM "Job" j WHERE j."id" = ANY(%(ids)s::text[])
    ), followed AS (
        SELECT c."id", c."parentId", c."job", c."state", c."error", c."outcome" FROM "Job" c
        WHERE c."tenantId" = (SELECT a."tenantId" FROM awaited a LIMIT 1)
          AND c."createdAt" >= (SELECT min(a."createdAt") FROM awaited a)
          AND c."parentId" = ANY(%(ids)s::text[])
    ), seen AS (
        SELECT "id", "id" AS "rootId", "job", "state", "error", "outcome" FROM awaited
        UNION ALL SELECT * FROM followed
    )
    SELECT s."id", s."rootId", s."job", s."state", s."error", s."outcome",
           CASE WHEN s."state" = 'DEAD' THEN (
               SELECT a."errorType" FROM "JobAttempt" a WHERE a."jobId" = s."id"
               ORDER BY a."fence" DESC LIMIT 1) END
    FROM seen s
"""


def select_progress(conn: Connection, ids: Sequence[JobId]) -> list[Progress]:
    """How jobs of one tenant and their direct follow-ups stand, in no order."""
    return [Progress(*row) for row in conn.execute(SELECT_PROGRESS, {"ids": list(ids)})]


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One attempt that did not end well."""

    attempt: int
    verdict: str
    error_type: str | None
    error: str | None
    worker: str | None
    started_at: datetime | None
    ended_at: datetime
    traceback: str | None


SELECT_ATTEMPTS: Final = """
    SELECT "attempt", "verdict", "errorType", "error", "worker", "startedAt", "endedAt",
           "traceback"
    FROM "JobAttempt" WHERE "jobId" = %(id)s ORDER BY "fence"
"""


def select_attempts(conn: Connection, job_id: JobId) -> list[AttemptRow]:
    """The attempts of a job that did not end well, oldest first."""
    return [AttemptRow(*row) for row in conn.execute(SELECT_ATTEMPTS, {"id": job_id})]


# One statement, guarded by the state. The raised fence is what stops an attempt that runs: its
# transaction finds the lease lost and commits nothing. A wake-up that is still on its way finds
# no PENDING job; a row that the relay moves at this moment is swept later.
CANCEL: Final = """
    WITH found AS (
        SELECT "id", "state", "fence", "leaseUntil" FROM "Job"
        WHERE "id" = %(id)s AND "state" IN ('PENDING', 'RUNNING') FOR UPDATE
    ), ended AS (
        UPDATE "Job" j
        SET "state" = 'CANCELLED', "finishedAt" = clock_timestamp(), "leaseUntil" = NULL,
            "waitingFor" = NULL, "fence" = j."fence" + 1
        FROM found WHERE j."id" = found."id"
        RETURNING j.*, found."state" AS "was", found."fence" AS "held"
    ), landed AS (
        DELETE FROM "JobFlight" f USING ended e WHERE f."jobId" = e."id"
    ), unqueued AS (
        DELETE FROM "JobOutbox" o USING ended e
        WHERE o."queue" = e."queue" AND o."tenantId" = e."tenantId" AND o."job" = e."job"
          AND o."limitKey" = e."limitKey" AND o."priority" = e."priority"
          AND o."dueAt" = e."dueAt" AND o."jobId" = e."id"
    ), told AS (
        INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId")
        SELECT "tenantId", "id", "job", "queue", 'CANCELLED', "batchId" FROM ended
    ), noted AS (
        INSERT INTO "JobAttempt" ("tenantId", "jobId", "fence", "attempt", "worker", "startedAt",
                                  "verdict", "errorType", "error")
        SELECT "tenantId", "id", "held", "attempt", "worker", "startedAt", 'lapsed', 'Cancelled',
               'An operator cancelled the job while it ran.'
        FROM ended WHERE "was" = 'RUNNING'
    )
    SELECT "was" FROM ended
"""


def cancel(conn: Connection, job_id: JobId) -> str | None:
    """Cancel a job that has not ended.

    Returns:
        The state it was in, PENDING or RUNNING; None when there was nothing to cancel.
    """
    row = conn.execute(CANCEL, {"id": job_id}).fetchone()
    return None if row is None else str(row[0])


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """What one queue holds; `oldest_seconds` is how long the oldest ready job has been due."""

    queue: str
    ready: int
    delayed: int
    running: int
    dead: int
    oldest_seconds: float | None
    done_per_second: float | None
    workers: int
    paused: bool


# Everything but the rate is read from the small tables. The rate is counted in the ledger itself,
# exactly, and left out where that would read more than `scan_bytes_max`: an index on the time of
# the end would cost every job its HOT update.
SELECT_FIGURES: Final = """
    WITH waiting AS (
        SELECT o."queue", count(*) FILTER (WHERE o."dueAt" <= now()) AS "ready",
               count(*) FILTER (WHERE o."dueAt" > now()) AS "delayed",
               min(o."dueAt") FILTER (WHERE o."dueAt" <= now()) AS "oldest"
        FROM "JobOutbox" o GROUP BY 1
    ), flying AS (
        SELECT f."queue", count(*) FILTER (WHERE j."state" = 'PENDING') AS "queued",
               count(*) FILTER (WHERE j."state" = 'RUNNING') AS "running",
               min(j."dueAt") FILTER (WHERE j."state" = 'PENDING') AS "oldest"
        FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId" GROUP BY 1
    ), dead AS (
        SELECT d."queue", count(*) AS "dead" FROM "DeadLetter" d GROUP BY 1
    ), done AS (
        SELECT j."queue", count(*) / 60.0 AS "rate" FROM "Job" j
        WHERE j."state" = 'COMPLETED' AND j."finishedAt" > now() - interval '60 seconds'
          AND pg_relation_size('"Job"') <= %(scan_bytes_max)s::bigint
        GROUP BY 1
    ), serving AS (
        SELECT s."queue", count(*) AS "workers" FROM "WorkerProcess" p
        CROSS JOIN LATERAL unnest(p."queues") AS s("queue")
        WHERE p."seenAt" > now() - interval '20 seconds' GROUP BY 1
    )
    SELECT q."queue", coalesce(w."ready", 0) + coalesce(f."queued", 0), coalesce(w."delayed", 0),
           coalesce(f."running", 0), coalesce(d."dead", 0),
           extract(epoch FROM now() - least(w."oldest", f."oldest"))::float8,
           CASE WHEN pg_relation_size('"Job"') <= %(scan_bytes_max)s::bigint
                THEN coalesce(r."rate", 0)::float8 END,
           coalesce(s."workers", 0), EXISTS (
               SELECT FROM "JobHold" h
               WHERE h."queue" = q."queue" AND num_nonnulls(h."tenantId", h."job") = 0)
    FROM unnest(%(queues)s::text[]) WITH ORDINALITY AS q("queue", "place")
    LEFT JOIN waiting w USING ("queue") LEFT JOIN flying f USING ("queue")
    LEFT JOIN dead d USING ("queue") LEFT JOIN done r USING ("queue")
    LEFT JOIN serving s USING ("queue")
    ORDER BY q."place"
"""


def select_figures(
    conn: Connection, queues: Sequence[str], *, scan_bytes_max: int
) -> list[QueueFigures]:
    """What these queues hold, in the order given; counts are of this moment.

    Args:
        conn: A connection in the relay's role.
        queues: Names.
        scan_bytes_max: A ledger larger than this is not counted for the rate: it is None then.
    """
    values = {"queues": list(queues), "scan_bytes_max": scan_bytes_max}
    return [QueueFigures(*row) for row in conn.execute(SELECT_FIGURES, values)]


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """A worker process that was heard of lately."""

    id: str
    host: str
    pid: int
    queues: list[str]
    threads: int
    started_at: datetime
    seen_at: datetime


SELECT_PROCESSES: Final = """
    SELECT "id", "host", "pid", "queues", "threads", "startedAt", "seenAt" FROM "WorkerProcess"
    WHERE "seenAt" > now() - interval '20 seconds' ORDER BY "startedAt", "id"
"""


def select_processes(conn: Connection) -> list[ProcessRow]:
    """The worker processes that live, oldest first."""
    return [ProcessRow(*row) for row in conn.execute(SELECT_PROCESSES)]
