"""Dead letters: failed jobs that need an operator. In the relay's role.

Lock order as in `outbox`: "Job" rows by id, then "JobFlight", "DeadLetter", then "JobOutbox".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.db import Connection
from shared.ids import JobId, TenantId


@dataclass(frozen=True, slots=True)
class DeadLetterFilters:
    """Filters of dead letters; None means any.

    `error` is a POSIX regular expression, `where` a predicate on payloads in SQL's JSON path
    language.
    """

    queue: str | None = None
    job: str | None = None
    tenant_id: TenantId | None = None
    since: datetime | None = None
    until: datetime | None = None
    error: str | None = None
    fingerprint: str | None = None
    where: str | None = None


@dataclass(frozen=True, slots=True)
class DeadRow:
    """A dead letter in a list; `id` is the job's."""

    id: JobId
    job: str
    queue: str
    tenant: str | None
    attempts: int
    reason: str
    error: str
    fingerprint: str
    died_at: datetime
    letter_id: str
    error_type: str | None


# The pages go by the primary key, and `after` is compared by itself: in a plan made once, an OR
# around it would read every page before this one again.
LIMIT_TIME: Final = """
    SELECT set_config('statement_timeout', %(ms)s::text, true)
"""


def limit_time(conn: Connection, *, seconds: float) -> None:
    """End each further statement of the transaction that takes longer."""
    conn.execute(LIMIT_TIME, {"ms": str(round(1000 * seconds))})


SELECT_DEAD: Final = """
    SELECT d."jobId" AS "id", d."job", d."queue", t."slug" AS "tenant", d."attempts", d."reason",
           d."error", d."fingerprint", d."diedAt", d."id" AS "letterId",
           (SELECT a."errorType" FROM "JobAttempt" a WHERE a."jobId" = d."jobId"
            ORDER BY a."fence" DESC LIMIT 1) AS "errorType"
    FROM "DeadLetter" d LEFT JOIN "Tenant" t ON t."id" = d."tenantId"
    WHERE d."id" > %(after)s
      AND (%(queue)s::text IS NULL OR d."queue" = %(queue)s)
      AND (%(job)s::text IS NULL OR d."job" = %(job)s)
      AND (%(tenant_id)s::text IS NULL OR d."tenantId" = %(tenant_id)s)
      AND (%(since)s::timestamptz IS NULL OR d."diedAt" >= %(since)s)
      AND (%(until)s::timestamptz IS NULL OR d."diedAt" <= %(until)s)
      AND (%(fingerprint)s::text IS NULL OR d."fingerprint" = %(fingerprint)s)
      AND (%(error)s::text IS NULL OR d."error" ~ %(error)s)
      AND (%(where)s::text IS NULL OR EXISTS (
          SELECT FROM "Job" p WHERE p."id" = d."jobId"
            AND jsonb_path_match(p."payload", %(where)s::jsonpath, silent => true)))
      -- An invalid expression is refused where no letter is compared with it, too.
      AND '' ~ coalesce(%(error)s::text, '') IS NOT NULL
    ORDER BY d."id" LIMIT %(limit)s
"""

SELECT_DEAD_BY_IDS: Final = """
    SELECT d."jobId" AS "id", d."job", d."queue", t."slug" AS "tenant", d."attempts", d."reason",
           d."error", d."fingerprint", d."diedAt", d."id" AS "letterId",
           (SELECT a."errorType" FROM "JobAttempt" a WHERE a."jobId" = d."jobId"
            ORDER BY a."fence" DESC LIMIT 1) AS "errorType"
    FROM (
        SELECT i."id" FROM unnest(%(ids)s::text[]) AS i("id")
        UNION
        SELECT x."id" FROM unnest(%(ids)s::text[]) AS i("id")
        JOIN "Job" j ON j."id" = i."id"
        JOIN "DeadLetter" x ON x."tenantId" = j."tenantId" AND x."jobId" = j."id"
    ) AS named
    JOIN "DeadLetter" d ON d."id" = named."id"
    LEFT JOIN "Tenant" t ON t."id" = d."tenantId"
    WHERE d."id" > %(after)s
      AND (%(queue)s::text IS NULL OR d."queue" = %(queue)s)
      AND (%(job)s::text IS NULL OR d."job" = %(job)s)
      AND (%(tenant_id)s::text IS NULL OR d."tenantId" = %(tenant_id)s)
      AND (%(since)s::timestamptz IS NULL OR d."diedAt" >= %(since)s)
      AND (%(until)s::timestamptz IS NULL OR d."diedAt" <= %(until)s)
      AND (%(fingerprint)s::text IS NULL OR d."fingerprint" = %(fingerprint)s)
      AND (%(error)s::text IS NULL OR d."error" ~ %(error)s)
      AND (%(where)s::text IS NULL OR EXISTS (
          SELECT FROM "Job" p WHERE p."id" = d."jobId"
            AND jsonb_path_match(p."payload", %(where)s::jsonpath, silent => true)))
    ORDER BY d."id" LIMIT %(limit)s
"""


def select_dead(
    conn: Connection,
    wanted: DeadLetterFilters,
    *,
    ids: Sequence[str] | None = None,
    after: str | None = None,
    limit: int,
) -> list[DeadRow]:
    """Return dead letters by id, which is the order of their deaths.

    Args:
        conn: A connection in the relay's role.
        wanted: Filters.
        ids: Ids of jobs or letters; None means any.
        after: The last `letter_id` of the previous page.
        limit: Maximum rows.
    """
    values = _values(wanted) | {"after": after or "", "limit": limit}
    if ids is None:
        return [DeadRow(*row) for row in conn.execute(SELECT_DEAD, values)]
    return [DeadRow(*row) for row in conn.execute(SELECT_DEAD_BY_IDS, values | {"ids": list(ids)})]


@dataclass(frozen=True, slots=True)
class GroupRow:
    """Letters of one kind of job with the same failure; `error` is the latest one's."""

    fingerprint: str
    job: str
    queue: str
    count: int
    tenants: int
    first_died_at: datetime
    last_died_at: datetime
    error: str
    error_type: str | None


SELECT_GROUPS: Final = """
    SELECT g."fingerprint", g."job", g."queue", g."count", g."tenants", g."first" AS "firstDiedAt",
           g."last" AS "lastDiedAt",
           (SELECT d."error" FROM "DeadLetter" d WHERE d."id" = g."latest"),
           (SELECT a."errorType" FROM "DeadLetter" d JOIN "JobAttempt" a ON a."jobId" = d."jobId"
            WHERE d."id" = g."latest" ORDER BY a."fence" DESC LIMIT 1) AS "errorType"
    FROM (
        SELECT d."fingerprint", d."job", d."queue", count(*) AS "count",
               count(DISTINCT d."tenantId") AS "tenants", min(d."diedAt") AS "first",
               max(d."diedAt") AS "last", max(d."id") AS "latest"
        FROM "DeadLetter" d
        WHERE (%(queue)s::text IS NULL OR d."queue" = %(queue)s)
          AND (%(job)s::text IS NULL OR d."job" = %(job)s)
          AND (%(tenant_id)s::text IS NULL OR d."tenantId" = %(tenant_id)s)
          AND (%(since)s::timestamptz IS NULL OR d."diedAt" >= %(since)s)
          AND (%(until)s::timestamptz IS NULL OR d."diedAt" <= %(until)s)
          AND (%(fingerprint)s::text IS NULL OR d."fingerprint" = %(fingerprint)s)
          AND (%(error)s::text IS NULL OR d."error" ~ %(error)s)
          AND (%(where)s::text IS NULL OR EXISTS (
              SELECT FROM "Job" p WHERE p."id" = d."jobId"
                AND jsonb_path_match(p."payload", %(where)s::jsonpath, silent => true)))
        GROUP BY d."fingerprint", d."job", d."queue"
        ORDER BY count(*) DESC, max(d."id") DESC LIMIT %(limit)s
    ) AS g
    ORDER BY g."count" DESC, g."latest" DESC
"""


def select_groups(conn: Connection, wanted: DeadLetterFilters, *, limit: int) -> list[GroupRow]:
    """Return dead letters grouped by failure, the largest group first."""
    values = _values(wanted) | {"limit": limit}
    return [GroupRow(*row) for row in conn.execute(SELECT_GROUPS, values)]


COUNT_DEAD: Final = """
    SELECT count(*) FROM "DeadLetter" d
    WHERE (%(queue)s::text IS NULL OR d."queue" = %(queue)s)
      AND (%(job)s::text IS NULL OR d."job" = %(job)s)
      AND (%(tenant_id)s::text IS NULL OR d."tenantId" = %(tenant_id)s)
      AND (%(since)s::timestamptz IS NULL OR d."diedAt" >= %(since)s)
      AND (%(until)s::timestamptz IS NULL OR d."diedAt" <= %(until)s)
      AND (%(fingerprint)s::text IS NULL OR d."fingerprint" = %(fingerprint)s)
      AND (%(error)s::text IS NULL OR d."error" ~ %(error)s)
      AND (%(where)s::text IS NULL OR EXISTS (
          SELECT FROM "Job" p WHERE p."id" = d."jobId"
            AND jsonb_path_match(p."payload", %(where)s::jsonpath, silent => true)))
"""


def count_dead(conn: Connection, wanted: DeadLetterFilters) -> int:
    """Count the matching letters."""
    row = conn.execute(COUNT_DEAD, _values(wanted)).fetchone()
    assert row is not None, "an aggregate yields a row"
    return int(row[0])


@dataclass(frozen=True, slots=True)
class Moved:
    """A job changed by an action, and its tenant."""

    id: JobId
    tenant_id: TenantId


# One replay however often and by however many this is requested: the row lock serialises them,
# and all but the first find a job that is not DEAD any more. Attempts and crashes restart from 0,
# the fence keeps counting and "JobAttempt" keeps the old attempts.
REPLAY: Final = """
    WITH mine AS (
        SELECT j."id" FROM "Job" j
        WHERE j."id" = ANY(%(ids)s::text[]) AND j."state" = 'DEAD'
        ORDER BY j."id" FOR UPDATE
    ), revived AS (
        UPDATE "Job" j
        SET "state" = 'PENDING', "attempt" = 0, "crashes" = 0, "dueAt" = now(),
            "waitingFor" = 'replay', "finishedAt" = NULL, "startedAt" = NULL, "worker" = NULL
        FROM mine WHERE j."id" = mine."id" AND j."state" = 'DEAD'
        RETURNING j.*
    ), lifted AS (
        DELETE FROM "DeadLetter" d USING revived r
        WHERE d."tenantId" = r."tenantId" AND d."jobId" = r."id"
    ), waiting AS (
        INSERT INTO "JobOutbox" ("queue", "tenantId", "job", "limitKey", "priority", "dueAt",
                                 "jobId", "attempt", "cost")
        SELECT "queue", "tenantId", "job", "limitKey", "priority", "dueAt", "id", "attempt",
               "cost" FROM revived ORDER BY "id"
    ), notified AS (
        INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId")
        SELECT "tenantId", "id", "job", "queue", 'REPLAYED', "batchId" FROM revived
    ), woken AS MATERIALIZED (
        SELECT pg_notify('ailydian_outbox', '') WHERE EXISTS (SELECT FROM revived)
    )
    SELECT r."id", r."tenantId" FROM revived r LEFT JOIN woken ON true ORDER BY r."id"
"""


def replay(conn: Connection, ids: Sequence[JobId]) -> list[Moved]:
    """Replay dead jobs. Returns those that were dead."""
    return [Moved(*row) for row in conn.execute(REPLAY, {"ids": list(ids)})]


# An operator decided not to run it: that is what CANCELLED means. The error stays.
DISCARD: Final = """
    WITH mine AS (
        SELECT j."id" FROM "Job" j
        WHERE j."id" = ANY(%(ids)s::text[]) AND j."state" = 'DEAD'
        ORDER BY j."id" FOR UPDATE
    ), ended AS (
        UPDATE "Job" j SET "state" = 'CANCELLED'
        FROM mine WHERE j."id" = mine."id" AND j."state" = 'DEAD'
        RETURNING j."id", j."tenantId", j."job", j."queue", j."batchId",
                  j."payload" ->> 'upload_id' AS "uploadId"
    ), notified AS (
        INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId")
        SELECT "tenantId", "id", "job", "queue", 'DISCARDED', "batchId" FROM ended
    ), lifted AS (
        DELETE FROM "DeadLetter" d USING ended e
        WHERE d."tenantId" = e."tenantId" AND d."jobId" = e."id"
    ), forgotten AS (
        DELETE FROM "Upload" u USING ended e
        WHERE u."tenantId" = e."tenantId" AND u."id" = e."uploadId"
    )
    SELECT e."id", e."tenantId" FROM ended e ORDER BY e."id"
"""


def discard(conn: Connection, ids: Sequence[JobId]) -> list[Moved]:
    """Discard dead jobs as CANCELLED. Returns those that were dead."""
    return [Moved(*row) for row in conn.execute(DISCARD, {"ids": list(ids)})]


def _values(wanted: DeadLetterFilters) -> dict[str, object]:
    return {
        "queue": wanted.queue,
        "job": wanted.job,
        "tenant_id": wanted.tenant_id,
        "since": wanted.since,
        "until": wanted.until,
        "fingerprint": wanted.fingerprint,
        "error": wanted.error,
        "where": wanted.where,
    }
