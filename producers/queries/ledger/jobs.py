"""Lists of jobs, their states, and cancelling them.

All statements run in the relay's role, which sees all tenants. The public state has one value more
than the table: QUEUED is a PENDING job whose wake-up is in Redis.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from shared.db import Connection
from shared.ids import JobId, TenantId


@dataclass(frozen=True, slots=True)
class JobFilters:
    """Filters of jobs; None means any. `before`: only what comes after this one in the list."""

    queue: str | None = None
    job: str | None = None
    state: str | None = None
    tenant_id: TenantId | None = None
    since: datetime | None = None
    before: tuple[datetime, JobId] | None = None


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as `ailydian jobs` shows it."""

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
    SELECT j."id", j."job", j."queue", t."slug" AS "tenant", j."seen" AS "state", j."attempt",
           j."attemptsMax",
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
          AND (%(before)s::timestamptz IS NULL OR j."createdAt" <= %(before)s)
          AND (%(before)s::timestamptz IS NULL
               OR (j."createdAt", j."id") < (%(before)s, %(before_id)s::text))
          AND (%(state)s::text IS NULL OR s."seen" = %(state)s)
        ORDER BY j."createdAt" DESC, j."id" DESC LIMIT %(limit)s
    ) j
    ORDER BY j."createdAt" DESC, j."id" DESC LIMIT %(limit)s
"""


def select_jobs(conn: Connection, wanted: JobFilters, *, limit: int) -> list[JobRow]:
    """Return jobs, newest first."""
    values = {
        "queue": wanted.queue,
        "job": wanted.job,
        "state": wanted.state,
        "tenant_id": wanted.tenant_id,
        "since": wanted.since,
        "before": wanted.before and wanted.before[0],
        "before_id": wanted.before and wanted.before[1],
        "limit": limit,
    }
    return [JobRow(*row) for row in conn.execute(SELECT_JOBS, values)]


SELECT_BY_IDS: Final = """
    SELECT j."id", j."job", j."queue", t."slug" AS "tenant",
           CASE WHEN j."state" = 'PENDING' AND EXISTS (
               SELECT FROM "JobFlight" f WHERE f."jobId" = j."id") THEN 'QUEUED'
               ELSE j."state" END,
           j."attempt", j."attemptsMax", j."payload", j."key", j."error", j."outcome",
           j."parentId", j."waitingFor", j."dueAt", j."createdAt", j."startedAt", j."finishedAt",
           j."worker"
    FROM "Job" j LEFT JOIN "Tenant" t ON t."id" = j."tenantId"
    WHERE j."id" = ANY(%(ids)s::text[])
      AND (%(tenant_id)s::text IS NULL OR j."tenantId" = %(tenant_id)s)
    ORDER BY j."createdAt", j."id"
"""


def select_by_ids(
    conn: Connection, ids: Sequence[JobId], *, tenant_id: TenantId | None = None
) -> list[JobRow]:
    """Return these jobs, oldest first; unknown ids are left out, as are those of other tenants."""
    values = {"ids": list(ids), "tenant_id": tenant_id}
    return [JobRow(*row) for row in conn.execute(SELECT_BY_IDS, values)]


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of an awaited job or of its follow-up."""

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
               ORDER BY a."fence" DESC LIMIT 1) END AS "errorType"
    FROM seen s
"""


def select_progress(conn: Connection, ids: Sequence[JobId]) -> list[Progress]:
    """Return the states of jobs of one tenant and their direct follow-ups, in no order."""
    return [Progress(*row) for row in conn.execute(SELECT_PROGRESS, {"ids": list(ids)})]


# One statement, guarded by the state. The raised fence is what stops an attempt that runs: its
# transaction finds the lease lost and commits nothing. A wake-up that is still on its way finds
# no PENDING job; a row that the relay moves at this moment is swept later.
CANCEL: Final = """
    WITH found AS (
        SELECT "id", "state", "fence", "leaseUntil" FROM "Job"
        WHERE "id" = ANY(%(ids)s::text[]) AND "state" IN ('PENDING', 'RUNNING')
        ORDER BY "id" FOR UPDATE
    ), ended AS (
        UPDATE "Job" j
        SET "state" = 'CANCELLED', "finishedAt" = clock_timestamp(), "leaseUntil" = NULL,
            "waitingFor" = NULL, "fence" = j."fence" + 1
        FROM found WHERE j."id" = found."id"
        RETURNING j.*, found."state" AS "was", found."fence" AS "held"
    ), landed AS (
        DELETE FROM "JobFlight" f USING ended e WHERE f."jobId" = e."id"
    ), notified AS (
        INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId")
        SELECT "tenantId", "id", "job", "queue", 'CANCELLED', "batchId" FROM ended
    ), noted AS (
        INSERT INTO "JobAttempt" ("tenantId", "jobId", "fence", "attempt", "worker", "startedAt",
                                  "verdict", "errorType", "error")
        SELECT "tenantId", "id", "held", "attempt", "worker", "startedAt", 'lapsed', 'Cancelled',
               'An operator cancelled the job while it ran.'
        FROM ended WHERE "was" = 'RUNNING'
    )
    SELECT "id", "tenantId", "was", "queue", "job", "limitKey", "priority", "dueAt"
    FROM ended ORDER BY "id"
"""

# Jobs that were published together lie at one place of the outbox, by the hundred thousand: each
# place is read once. Planned for these ids, so that they are looked up in a hash.
UNQUEUE: Final = """
    DELETE FROM "JobOutbox" o
    USING unnest(%(queues)s::text[], %(tenants)s::text[], %(jobs)s::text[], %(keys)s::text[],
                 %(priorities)s::int[], %(dues)s::timestamptz[])
          AS p("queue", "tenantId", "job", "limitKey", "priority", "dueAt")
    WHERE o."queue" = p."queue" AND o."tenantId" = p."tenantId" AND o."job" = p."job"
      AND o."limitKey" = p."limitKey" AND o."priority" = p."priority"
      AND o."dueAt" = p."dueAt" AND o."jobId" = ANY(%(ids)s::text[])
"""

PLAN_FOR_VALUES: Final = """
    SELECT set_config('plan_cache_mode', 'force_custom_plan', true)
"""


@dataclass(frozen=True, slots=True)
class CancelledJob:
    """A cancelled job and its former state: PENDING or RUNNING."""

    id: JobId
    tenant_id: TenantId
    was: str


def cancel_all(conn: Connection, ids: Sequence[JobId]) -> list[CancelledJob]:
    """Cancel the unfinished ones of these jobs; pass at most about a thousand."""
    rows = conn.execute(CANCEL, {"ids": list(ids)}).fetchall()
    if not rows:
        return []
    places = {
        (queue, tenant_id, job, limit_key, priority, due_at)
        for _, tenant_id, _, queue, job, limit_key, priority, due_at in rows
    }
    queues, tenants, jobs, keys, priorities, dues = map(list, zip(*places, strict=True))
    conn.execute(PLAN_FOR_VALUES)
    conn.execute(
        UNQUEUE,
        {
            "queues": queues,
            "tenants": tenants,
            "jobs": jobs,
            "keys": keys,
            "priorities": priorities,
            "dues": dues,
            "ids": [id_ for id_, *_ in rows],
        },
    )
    return [CancelledJob(*row[:3]) for row in rows]


def cancel(conn: Connection, job_id: JobId) -> str | None:
    """Cancel an unfinished job.

    Returns:
        Its former state, PENDING or RUNNING; None if there was nothing to cancel.
    """
    cancelled = cancel_all(conn, [job_id])
    return cancelled[0].was if cancelled else None
