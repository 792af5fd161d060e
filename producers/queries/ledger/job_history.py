"""Job history, for `jobs why`. In the relay's role."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from shared.db import Connection
from shared.ids import JobId, TenantId


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of a job, and its limit key and cost."""

    tenant_id: TenantId
    tier: str | None
    producer: str | None
    traceparent: str | None
    batch_id: str | None
    batch: str | None
    priority: int
    limit_key: str
    cost: int
    schema_version: int
    crashes: int


SELECT_ORIGIN: Final = """
    SELECT j."tenantId", t."tier"::text, j."producer", j."traceparent", j."batchId",
           b."name" AS "batch", j."priority", j."limitKey", j."cost", j."schemaVersion", j."crashes"
    FROM "Job" j LEFT JOIN "Tenant" t ON t."id" = j."tenantId"
    LEFT JOIN "JobBatch" b ON b."tenantId" = j."tenantId" AND b."id" = j."batchId"
    WHERE j."id" = %(id)s
"""


def select_origin(conn: Connection, job_id: JobId) -> Origin | None:
    """Return the origin of a job; None if there is no such job."""
    row = conn.execute(SELECT_ORIGIN, {"id": job_id}).fetchone()
    return None if row is None else Origin(*row)


@dataclass(frozen=True, slots=True)
class JobAction:
    """An operator's action on a job."""

    at: datetime
    actor: str | None
    action: str
    what: dict[str, Any] | None


# A bulk action lists its jobs in its details.
SELECT_ACTS: Final = """
    SELECT a."createdAt" AS "at", a."userId" AS "actor", a."action",
           a."metadata" AS "what" FROM "AuditLog" a
    WHERE a."tenantId" = %(tenant_id)s AND a."resource" = 'Job'
      AND a."createdAt" >= (%(since)s::timestamptz AT TIME ZONE 'UTC') - interval '1 second'
      AND (a."resourceId" = %(id)s OR a."metadata" -> 'jobs' ? %(id)s)
    ORDER BY a."createdAt", a."id" LIMIT %(limit)s
"""


def select_acts(
    conn: Connection, tenant_id: TenantId, job_id: JobId, *, since: datetime, limit: int
) -> list[JobAction]:
    """Return the actions on a job, oldest first.

    Args:
        conn: A connection in the audit reader's role.
        tenant_id: The job's tenant.
        job_id: The job.
        since: When it was published.
        limit: Maximum rows.
    """
    values = {"tenant_id": tenant_id, "id": job_id, "since": since, "limit": limit}
    rows = conn.execute(SELECT_ACTS, values)
    return [
        JobAction(at.replace(tzinfo=UTC), actor, action, what) for at, actor, action, what in rows
    ]


@dataclass(frozen=True, slots=True)
class Descendant:
    """A follow-up of a job, or of one of its follow-ups."""

    id: JobId
    parent_id: JobId
    depth: int
    job: str
    queue: str
    state: str
    error: str | None


# A follow-up is published while its parent's attempts run, so the index by time finds it among
# few; one that follows a batch, by the batch.
SELECT_DESCENDANTS: Final = """
    WITH RECURSIVE tree AS (
        SELECT j."id", j."tenantId", j."createdAt", j."startedAt", j."finishedAt", j."batchId",
               0 AS "depth", NULL::text AS "parentId"
        FROM "Job" j WHERE j."id" = %(id)s
        UNION ALL
        SELECT c."id", c."tenantId", c."createdAt", c."startedAt", c."finishedAt", c."batchId",
               t."depth" + 1, t."id"
        FROM tree t CROSS JOIN LATERAL (
            SELECT c.* FROM "Job" c
            WHERE c."tenantId" = t."tenantId" AND c."parentId" = t."id"
              AND c."createdAt" >= coalesce((
                  SELECT min(a."startedAt") FROM "JobAttempt" a WHERE a."jobId" = t."id"),
                  t."startedAt", t."createdAt")
              AND c."createdAt" <= coalesce(t."finishedAt", now())
            UNION
            SELECT c.* FROM "JobBatch" b JOIN "Job" c ON c."id" = b."thenId"
            WHERE b."tenantId" = t."tenantId" AND b."id" = t."batchId" AND c."parentId" = t."id"
        ) c
        WHERE t."depth" < %(depth)s
    )
    SELECT t."id", t."parentId", t."depth", j."job", j."queue", j."state", j."error"
    FROM tree t JOIN "Job" j ON j."id" = t."id" WHERE t."depth" > 0
    ORDER BY t."depth", t."createdAt", t."id" LIMIT %(limit)s
"""


def select_descendants(
    conn: Connection, job_id: JobId, *, depth: int, limit: int
) -> list[Descendant]:
    """Return the descendants of a job to a depth, nearest first."""
    values = {"id": job_id, "depth": depth, "limit": limit}
    return [Descendant(*row) for row in conn.execute(SELECT_DESCENDANTS, values)]


SELECT_UNENDED: Final = """
    WITH near AS (
        SELECT o."jobId" FROM "JobOutbox" o
        WHERE (%(queue)s::text IS NULL OR o."queue" = %(queue)s)
          AND (%(tenant_id)s::text IS NULL OR o."tenantId" = %(tenant_id)s)
          AND (%(job)s::text IS NULL OR o."job" = %(job)s)
        UNION ALL
        SELECT f."jobId" FROM "JobFlight" f
        WHERE (%(queue)s::text IS NULL OR f."queue" = %(queue)s)
          AND (%(tenant_id)s::text IS NULL OR f."tenantId" = %(tenant_id)s)
          AND (%(job)s::text IS NULL OR f."job" = %(job)s)
    )
    SELECT j."id" FROM near n JOIN "Job" j ON j."id" = n."jobId"
    WHERE j."state" IN ('PENDING', 'RUNNING')
      AND (%(batch_id)s::text IS NULL OR j."batchId" = %(batch_id)s)
      AND (%(until)s::timestamptz IS NULL OR j."createdAt" <= %(until)s)
    LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class UnfinishedFilters:
    """Filters of unfinished jobs; None means any. `until`: published by then."""

    queue: str | None = None
    job: str | None = None
    tenant_id: TenantId | None = None
    batch_id: str | None = None
    until: datetime | None = None


def select_unended(conn: Connection, scope: UnfinishedFilters, *, limit: int) -> list[JobId]:
    """Return unfinished jobs, in no particular order."""
    values = {
        "queue": scope.queue,
        "job": scope.job,
        "tenant_id": scope.tenant_id,
        "batch_id": scope.batch_id,
        "until": scope.until,
        "limit": limit,
    }
    return [JobId(row[0]) for row in conn.execute(SELECT_UNENDED, values)]
