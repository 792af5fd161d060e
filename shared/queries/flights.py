"""The ledger as the relay uses it: take what is due, find what was lost, count what waits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from shared.db import Connection
from shared.ids import JobId


@dataclass(frozen=True, slots=True)
class Wakeup:
    """One thin message to send: which attempt of which job, on which queue."""

    job_id: JobId
    queue: str
    attempt: int


SELECT_WAITING_QUEUES: Final = """
    SELECT q."queue" FROM unnest(%(queues)s::text[]) AS q("queue")
    WHERE EXISTS (SELECT 1 FROM "JobOutbox" o WHERE o."queue" = q."queue")
"""


def select_waiting_queues(conn: Connection, queues: list[str]) -> list[str]:
    """Those of the queues that have jobs in the outbox, due or delayed."""
    return [row[0] for row in conn.execute(SELECT_WAITING_QUEUES, {"queues": queues})]


# Fair between tenants: `lanes` walks the distinct (queue, tenant) pairs by a loose index scan, a
# step a pair however many rows wait in it; each lane that is due then gives an equal share of the
# free room, and where there are more lanes than room, those that have waited longest give one.
TAKE_DUE: Final = """
    WITH RECURSIVE room AS (
        SELECT r."queue", r."free"
        FROM unnest(%(queues)s::text[], %(free)s::int[]) AS r("queue", "free")
        WHERE NOT EXISTS (SELECT 1 FROM "QueueState" q WHERE q."queue" = r."queue" AND q."paused")
    ), lanes AS (
        SELECT r."queue", r."free", l.* FROM room r CROSS JOIN LATERAL (
            SELECT o."tenantId", o."dueAt" FROM "JobOutbox" o WHERE o."queue" = r."queue"
            ORDER BY o."tenantId", o."dueAt" LIMIT 1
        ) l
        UNION ALL
        SELECT p."queue", p."free", l.* FROM lanes p CROSS JOIN LATERAL (
            SELECT o."tenantId", o."dueAt" FROM "JobOutbox" o
            WHERE o."queue" = p."queue" AND o."tenantId" > p."tenantId"
            ORDER BY o."tenantId", o."dueAt" LIMIT 1
        ) l
    ), ranked AS (
        SELECT "queue", "tenantId", "free", count(*) OVER (PARTITION BY "queue") AS "lanes",
               row_number() OVER (PARTITION BY "queue" ORDER BY "dueAt", "tenantId") AS "rank"
        FROM lanes WHERE "dueAt" <= now()
    ), shares AS (
        SELECT "queue", "tenantId", "free" / "lanes" + ("rank" <= mod("free", "lanes"))::int
               AS "share"
        FROM ranked WHERE "rank" <= "free"
    ), taken AS (
        SELECT t.* FROM shares s CROSS JOIN LATERAL (
            SELECT o."queue", o."tenantId", o."dueAt", o."seq", o."jobId", o."attempt"
            FROM "JobOutbox" o
            WHERE o."queue" = s."queue" AND o."tenantId" = s."tenantId" AND o."dueAt" <= now()
            ORDER BY o."queue", o."tenantId", o."dueAt", o."seq" LIMIT s."share"
            FOR UPDATE SKIP LOCKED
        ) t
    ), gone AS (
        DELETE FROM "JobOutbox" o USING taken t
        WHERE o."queue" = t."queue" AND o."tenantId" = t."tenantId" AND o."dueAt" = t."dueAt"
          AND o."seq" = t."seq"
        RETURNING o."jobId", o."tenantId", o."queue", o."attempt", o."dueAt", o."seq"
    ), sent AS (
        INSERT INTO "JobFlight" ("jobId", "tenantId", "queue", "attempt")
        SELECT "jobId", "tenantId", "queue", "attempt" FROM gone
        ON CONFLICT ("jobId") DO UPDATE SET "attempt" = excluded."attempt", "sentAt" = now()
    )
    SELECT "jobId", "queue", "attempt" FROM gone ORDER BY "dueAt", "seq"
"""


def take_due(conn: Connection, room: Mapping[str, int]) -> list[Wakeup]:
    """Move due jobs from the outbox into flight: at most `room[queue]` of each queue.

    Returns:
        The wake-ups to send once this transaction has committed, oldest first.
    """
    rows = conn.execute(TAKE_DUE, {"queues": list(room), "free": list(room.values())})
    return [Wakeup(*row) for row in rows]


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


COUNT_WAITING: Final = """
    SELECT f."queue", count(*) FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId"
    WHERE j."state" = 'PENDING' GROUP BY f."queue"
"""


def count_waiting(conn: Connection) -> dict[str, int]:
    """How many jobs of each queue wait for their wake-up to be taken from Redis."""
    return {queue: count for queue, count in conn.execute(COUNT_WAITING)}


# A flight whose job has ended is left by a duplicate that was claimed while the first waited.
DELETE_STALE: Final = """
    DELETE FROM "JobFlight" f
    WHERE NOT EXISTS (
        SELECT 1 FROM "Job" j WHERE j."id" = f."jobId" AND j."state" IN ('PENDING', 'RUNNING'))
"""


def delete_stale(conn: Connection) -> int:
    """Remove flights of jobs that have ended. Returns how many."""
    return conn.execute(DELETE_STALE).rowcount


SELECT_LAPSED: Final = """
    SELECT j."id", j."fence", j."attempt", j."attemptsMax", j."crashes"
    FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId"
    WHERE j."state" = 'RUNNING' AND j."leaseUntil" < now()
    ORDER BY j."id" LIMIT %(limit)s FOR UPDATE OF j SKIP LOCKED
"""

SELECT_HELD: Final = """
    SELECT j."id", j."fence", j."attempt", j."attemptsMax", j."crashes"
    FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId"
    WHERE j."worker" = %(worker)s AND j."state" = 'RUNNING'
    ORDER BY j."id" FOR UPDATE OF j SKIP LOCKED
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
    """Running jobs in the hands of one worker process, locked."""
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
