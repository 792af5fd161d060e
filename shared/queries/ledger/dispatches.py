"""The ledger as the relay uses it: list lanes, take due jobs, find lost ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from shared.db import Connection
from shared.ids import JobId, TenantId


@dataclass(frozen=True, slots=True)
class Wakeup:
    """One thin message to send: which attempt of which job, on which queue."""

    job_id: JobId
    queue: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane of waiting jobs; `due_s` is how long its head has been due, below 0 if it is not.

    `due_at` is when its head is due.
    """

    queue: str
    tenant_id: TenantId
    job: str
    limit_key: str
    priority: int
    due_s: float
    cost: int
    tier: str | None
    due_at: datetime | None = None

    @property
    def place(self) -> tuple[str, str, str, int]:
        """Where the lane lies among those of its queue."""
        return self.tenant_id, self.job, self.limit_key, self.priority


class LaneKey(NamedTuple):
    """What tells a lane from others."""

    queue: str
    tenant_id: str
    job: str
    limit_key: str
    priority: int


BEFORE_ALL: Final = ("", "", "", -32_768)

# A loose index scan: one step a lane, however many rows wait in it. It begins after a place in
# each queue and sees so many lanes at most; where there are more, the next look begins there.
SELECT_LANES: Final = """
    WITH RECURSIVE lane AS (
        SELECT r."queue", 1 AS "n", l.*
        FROM unnest(%(queues)s::text[], %(tenants)s::text[], %(jobs)s::text[], %(keys)s::text[],
                    %(priorities)s::int[]) AS r("queue", "tenantId", "job", "limitKey", "priority")
        CROSS JOIN LATERAL (
            SELECT o."tenantId", o."job", o."limitKey", o."priority", o."dueAt", o."cost"
            FROM "JobOutbox" o
            WHERE o."queue" = r."queue" AND (o."tenantId", o."job", o."limitKey", o."priority")
                  > (r."tenantId", r."job", r."limitKey", r."priority"::smallint)
            ORDER BY o."tenantId", o."job", o."limitKey", o."priority", o."dueAt" LIMIT 1
        ) l
        UNION ALL
        SELECT p."queue", p."n" + 1, l.* FROM lane p CROSS JOIN LATERAL (
            SELECT o."tenantId", o."job", o."limitKey", o."priority", o."dueAt", o."cost"
            FROM "JobOutbox" o
            WHERE o."queue" = p."queue" AND (o."tenantId", o."job", o."limitKey", o."priority")
                  > (p."tenantId", p."job", p."limitKey", p."priority")
            ORDER BY o."tenantId", o."job", o."limitKey", o."priority", o."dueAt" LIMIT 1
        ) l WHERE p."n" < %(limit)s
    )
    SELECT l."queue", l."tenantId", l."job", l."limitKey", l."priority",
           extract(epoch FROM now() - l."dueAt")::float8 AS "dueS", l."cost", t."tier"::text,
           l."dueAt"
    FROM lane l LEFT JOIN "Tenant" t ON t."id" = l."tenantId"
"""


def select_lanes(
    conn: Connection, after: dict[str, tuple[str, str, str, int]], *, limit: int
) -> list[Lane]:
    """The lanes of these queues, due or not: of each at most `limit`, from a place on."""
    tenants, jobs, keys, priorities = zip(*after.values(), strict=True)
    values: dict[str, object] = {
        "queues": list(after),
        "tenants": list(tenants),
        "jobs": list(jobs),
        "keys": list(keys),
        "priorities": list(priorities),
        "limit": limit,
    }
    return [Lane(*row) for row in conn.execute(SELECT_LANES, values)]


# Where an open transaction keeps vacuum away, a lane begins with all that was taken from it. So a
# lane that is known is looked at from a time on, and others between those that are known.
SELECT_KNOWN_LANES: Final = """
    WITH RECURSIVE known AS MATERIALIZED (
        SELECT k.*, lead(k."tenantId") OVER w AS "toTenantId", lead(k."job") OVER w AS "toJob",
               lead(k."limitKey") OVER w AS "toKey", lead(k."priority") OVER w AS "toPriority"
        FROM unnest(%(queues)s::text[], %(tenants)s::text[], %(jobs)s::text[], %(keys)s::text[],
                    %(priorities)s::smallint[], %(sinces)s::timestamptz[])
             AS k("queue", "tenantId", "job", "limitKey", "priority", "since")
        WINDOW w AS (PARTITION BY k."queue"
                     ORDER BY k."tenantId", k."job", k."limitKey", k."priority")
    ), between AS (
        SELECT k."queue", 1 AS "n", l.*, k."toTenantId", k."toJob", k."toKey", k."toPriority"
        FROM known k CROSS JOIN LATERAL (
            SELECT o."tenantId", o."job", o."limitKey", o."priority", o."dueAt", o."cost"
            FROM "JobOutbox" o
            WHERE o."queue" = k."queue" AND (o."tenantId", o."job", o."limitKey", o."priority")
                  > (k."tenantId", k."job", k."limitKey", k."priority")
              AND (o."tenantId", o."job", o."limitKey", o."priority")
                  < (k."toTenantId", k."toJob", k."toKey", k."toPriority")
            ORDER BY o."tenantId", o."job", o."limitKey", o."priority", o."dueAt" LIMIT 1
        ) l WHERE k."toTenantId" IS NOT NULL
        UNION ALL
        SELECT p."queue", p."n" + 1, l.*, p."toTenantId", p."toJob", p."toKey", p."toPriority"
        FROM between p CROSS JOIN LATERAL (
            SELECT o."tenantId", o."job", o."limitKey", o."priority", o."dueAt", o."cost"
            FROM "JobOutbox" o
            WHERE o."queue" = p."queue" AND (o."tenantId", o."job", o."limitKey", o."priority")
                  > (p."tenantId", p."job", p."limitKey", p."priority")
              AND (o."tenantId", o."job", o."limitKey", o."priority")
                  < (p."toTenantId", p."toJob", p."toKey", p."toPriority")
            ORDER BY o."tenantId", o."job", o."limitKey", o."priority", o."dueAt" LIMIT 1
        ) l WHERE p."n" < %(limit)s
    ), beyond AS (
        SELECT k."queue", 1 AS "n", l.* FROM known k CROSS JOIN LATERAL (
            SELECT o."tenantId", o."job", o."limitKey", o."priority", o."dueAt", o."cost"
            FROM "JobOutbox" o
            WHERE o."queue" = k."queue" AND (o."tenantId", o."job", o."limitKey", o."priority")
                  > (k."tenantId", k."job", k."limitKey", k."priority")
            ORDER BY o."tenantId", o."job", o."limitKey", o."priority", o."dueAt" LIMIT 1
        ) l WHERE k."toTenantId" IS NULL
        UNION ALL
        SELECT p."queue", p."n" + 1, l.* FROM beyond p CROSS JOIN LATERAL (
            SELECT o."tenantId", o."job", o."limitKey", o."priority", o."dueAt", o."cost"
            FROM "JobOutbox" o
            WHERE o."queue" = p."queue" AND (o."tenantId", o."job", o."limitKey", o."priority")
                  > (p."tenantId", p."job", p."limitKey", p."priority")
            ORDER BY o."tenantId", o."job", o."limitKey", o."priority", o."dueAt" LIMIT 1
        ) l WHERE p."n" < %(limit)s
    ), lane AS (
        SELECT k."queue", k."tenantId", k."job", k."limitKey", k."priority", h."dueAt", h."cost"
        FROM known k CROSS JOIN LATERAL (
            SELECT o."dueAt", o."cost" FROM "JobOutbox" o
            WHERE o."queue" = k."queue" AND o."tenantId" = k."tenantId" AND o."job" = k."job"
              AND o."limitKey" = k."limitKey" AND o."priority" = k."priority"
              AND o."dueAt" >= k."since"
            ORDER BY o."dueAt", o."seq" LIMIT 1
        ) h
        UNION ALL
        SELECT "queue", "tenantId", "job", "limitKey", "priority", "dueAt", "cost" FROM between
        UNION ALL
        SELECT "queue", "tenantId", "job", "limitKey", "priority", "dueAt", "cost" FROM beyond
    )
    SELECT l."queue", l."tenantId", l."job", l."limitKey", l."priority",
           extract(epoch FROM now() - l."dueAt")::float8 AS "dueS", l."cost", t."tier"::text,
           l."dueAt"
    FROM lane l LEFT JOIN "Tenant" t ON t."id" = l."tenantId"
"""


def select_known_lanes(
    conn: Connection, known: Mapping[LaneKey, datetime], queues: Sequence[str], *, limit: int
) -> list[Lane]:
    """The lanes of these queues: known ones from a time on, and between two at most `limit` new."""
    # Before all of a queue lies a lane in which nothing is ever due.
    keys = [*known, *(LaneKey(queue, "", "", "", BEFORE_ALL[-1]) for queue in queues)]
    never = datetime.max.replace(tzinfo=UTC)
    values: dict[str, object] = {
        "queues": [key.queue for key in keys],
        "tenants": [key.tenant_id for key in keys],
        "jobs": [key.job for key in keys],
        "keys": [key.limit_key for key in keys],
        "priorities": [key.priority for key in keys],
        "sinces": [known.get(key, never) for key in keys],
        "limit": limit,
    }
    return [Lane(*row) for row in conn.execute(SELECT_KNOWN_LANES, values)]


# Relays take turns: what one has taken the next sees when it counts what its limits leave.
TAKE_TURNS: Final = """
    SELECT pg_advisory_xact_lock(hashtext('ailydian'), hashtext('relay'))
"""


@dataclass(frozen=True, slots=True)
class Share:
    """The share of a lane that may be sent: rows, their cost, and rows of its tenant in total."""

    lane: Lane
    rows: int
    cost: float
    tenant_rows: int


@dataclass(frozen=True, slots=True)
class Taken:
    """A row that was taken: its wake-up, and its cost for limits."""

    wakeup: Wakeup
    tenant_id: TenantId
    job: str
    limit_key: str
    cost: int


# Within a tenant's share the lanes are merged by the time since which a job has waited, each step
# of priority counting as so many seconds more: a virtual deadline, so nothing waits for ever.
TAKE: Final = """
    WITH ahead AS (
        SELECT o.*, row_number() OVER (
            PARTITION BY o."queue", o."tenantId"
            ORDER BY o."dueAt" - o."priority" * %(ageing_s)s::float8 * interval '1 second', o."seq"
        ) AS "place", s."tenantRows"
        FROM unnest(%(queues)s::text[], %(tenants)s::text[], %(jobs)s::text[], %(keys)s::text[],
                    %(priorities)s::int[], %(rows)s::int[], %(costs)s::float8[],
                    %(tenant_rows)s::int[], %(sinces)s::timestamptz[])
             AS s("queue", "tenantId", "job", "limitKey", "priority", "rows", "cost", "tenantRows",
                  "since")
        CROSS JOIN LATERAL (
            SELECT l.* FROM (
                SELECT o.*, sum(o."cost") OVER (ROWS UNBOUNDED PRECEDING) AS "sum"
                FROM (
                    SELECT o.ctid AS "row", o."queue", o."tenantId", o."priority", o."dueAt",
                           o."seq", o."cost"
                    FROM "JobOutbox" o
                    WHERE o."queue" = s."queue" AND o."tenantId" = s."tenantId"
                      AND o."job" = s."job" AND o."limitKey" = s."limitKey"
                      AND o."priority" = s."priority"::smallint AND o."dueAt" <= now()
                      AND o."dueAt" >= coalesce(s."since", '-infinity')
                    ORDER BY o."dueAt", o."seq" LIMIT s."rows"
                ) o
            ) l WHERE l."sum" - l."cost" < s."cost"
        ) o
    ), mine AS (
        SELECT o.ctid AS "row" FROM ahead a JOIN "JobOutbox" o ON o.ctid = a."row"
        WHERE a."place" <= a."tenantRows" FOR UPDATE OF o SKIP LOCKED
    ), gone AS (
        DELETE FROM "JobOutbox" o WHERE o.ctid = ANY(ARRAY(SELECT m."row" FROM mine m))
        RETURNING o.*
    ), sent AS (
        INSERT INTO "JobFlight" ("jobId", "tenantId", "queue", "job", "limitKey", "attempt")
        SELECT "jobId", "tenantId", "queue", "job", "limitKey", "attempt" FROM gone
        ON CONFLICT ("jobId") DO UPDATE SET "attempt" = excluded."attempt", "sentAt" = now()
    )
    SELECT "jobId", "queue", "attempt", "tenantId", "job", "limitKey", "cost" FROM gone
    ORDER BY "dueAt" - "priority" * %(ageing_s)s::float8 * interval '1 second', "seq"
"""


def take(conn: Connection, shares: Sequence[Share], *, ageing_s: float) -> list[Taken]:
    """Move due jobs from the outbox into flight, of each lane its share.

    Args:
        conn: A connection in the relay's role.
        shares: How much of which lane.
        ageing_s: Seconds of waiting that a step of priority is worth.

    Returns:
        What was taken; its wake-ups may be sent, in this order, once the transaction has committed.
    """
    lanes = [share.lane for share in shares]
    values: dict[str, object] = {
        "queues": [lane.queue for lane in lanes],
        "tenants": [lane.tenant_id for lane in lanes],
        "jobs": [lane.job for lane in lanes],
        "keys": [lane.limit_key for lane in lanes],
        "priorities": [lane.priority for lane in lanes],
        "rows": [share.rows for share in shares],
        "costs": [share.cost for share in shares],
        "tenant_rows": [share.tenant_rows for share in shares],
        # Before a lane's head there was nothing, but dead rows perhaps.
        "sinces": [lane.due_at for lane in lanes],
        "ageing_s": ageing_s,
    }
    return [
        Taken(Wakeup(job_id, queue, attempt), tenant_id, job, limit_key, cost)
        for job_id, queue, attempt, tenant_id, job, limit_key, cost in conn.execute(TAKE, values)
    ]


# Lost wake-ups: in flight, never claimed, sent long ago.
RESEND: Final = """
    WITH lost AS (
        SELECT f."jobId" FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId"
        WHERE j."state" = 'PENDING' AND f."queue" = ANY(%(queues)s::text[])
          AND f."sentAt" < now() - %(older_s)s::float8 * interval '1 second'
        ORDER BY f."sentAt" LIMIT %(limit)s FOR UPDATE OF f SKIP LOCKED
    )
    UPDATE "JobFlight" f SET "sentAt" = now() FROM lost WHERE f."jobId" = lost."jobId"
    RETURNING f."jobId", f."queue", f."attempt"
"""


def resend(conn: Connection, queues: list[str], *, older_s: float, limit: int) -> list[Wakeup]:
    """Wake-ups of these queues that were sent more than `older_s` ago and never claimed."""
    rows = conn.execute(RESEND, {"queues": queues, "older_s": older_s, "limit": limit})
    return [Wakeup(*row) for row in rows]


SELECT_LAPSED: Final = """
    SELECT j."id" AS "jobId", j."fence", j."attempt", j."attemptsMax", j."crashes"
    FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId"
    WHERE j."state" = 'RUNNING' AND j."leaseUntil" < now()
    ORDER BY j."id" LIMIT %(limit)s FOR UPDATE OF j SKIP LOCKED
"""

SELECT_HELD: Final = """
    SELECT j."id" AS "jobId", j."fence", j."attempt", j."attemptsMax", j."crashes"
    FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId"
    WHERE j."worker" = %(worker)s AND j."state" = 'RUNNING'
    ORDER BY j."id" FOR UPDATE OF j
"""

# For the transaction of `select_held`: the backend of a worker that has just died may hold its
# rows for some milliseconds more, until it notices.
WAIT_BRIEFLY: Final = """
    SELECT set_config('lock_timeout', '2000', true)
"""


@dataclass(frozen=True, slots=True)
class HeldJob:
    """A running job whose worker is gone or silent."""

    job_id: JobId
    fence: int
    attempt: int
    attempts_max: int
    crashes: int


def select_lapsed(conn: Connection, *, limit: int) -> list[HeldJob]:
    """Running jobs whose lease ended unrenewed, locked."""
    return [HeldJob(*row) for row in conn.execute(SELECT_LAPSED, {"limit": limit})]


def select_held(conn: Connection, worker: str) -> list[HeldJob]:
    """Running jobs in the hands of one worker process, locked.

    Raises:
        psycopg.errors.LockNotAvailable: After `WAIT_BRIEFLY`, a row is still locked.
    """
    return [HeldJob(*row) for row in conn.execute(SELECT_HELD, {"worker": worker})]


MEASURE_DEPTH: Final = """
    INSERT INTO "QueueState" ("queue", "depth", "depthMax")
    SELECT q."queue", (SELECT count(*) FROM "JobOutbox" o WHERE o."queue" = q."queue"),
           %(depth_max)s
    FROM unnest(%(queues)s::text[]) AS q("queue")
    ON CONFLICT ("queue") DO UPDATE
    SET "depth" = excluded."depth", "depthMax" = excluded."depthMax", "measuredAt" = now()
"""


def measure_depth(conn: Connection, queues: list[str], *, depth_max: int) -> None:
    """Count what waits in each queue, so that publishing can be refused above `depth_max`."""
    conn.execute(MEASURE_DEPTH, {"queues": queues, "depth_max": depth_max})


# Only queues that are as deep as one tenant's share are counted by tenant.
MEASURE_TENANTS: Final = """
    WITH counted AS (
        SELECT o."tenantId", o."queue", count(*) AS "depth" FROM "QueueState" q
        JOIN "JobOutbox" o ON o."queue" = q."queue"
        WHERE q."depth" >= %(depth_max)s::bigint
        GROUP BY 1, 2 HAVING count(*) >= %(depth_max)s::bigint
    ), below AS (
        DELETE FROM "TenantDepth" t
        WHERE NOT EXISTS (SELECT FROM counted c
                          WHERE c."tenantId" = t."tenantId" AND c."queue" = t."queue")
    )
    INSERT INTO "TenantDepth" ("tenantId", "queue", "depth")
    SELECT c."tenantId", c."queue", c."depth" FROM counted c
    ON CONFLICT ("tenantId", "queue") DO UPDATE
    SET "depth" = excluded."depth", "measuredAt" = now()
"""


def measure_tenants(conn: Connection, *, depth_max: int) -> None:
    """Note the tenants whose jobs in one queue number `depth_max` or more: publishing is refused.

    After `measure_depth`.
    """
    conn.execute(MEASURE_TENANTS, {"depth_max": depth_max})
