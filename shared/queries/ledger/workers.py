"""Processes: their heartbeats, roles, queues and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from psycopg.types.json import Jsonb

from shared.db import Connection


@dataclass(frozen=True, slots=True)
class Process:
    """One process of ours; `role` is worker, relay or scheduler."""

    id: str
    host: str
    pid: int
    role: str
    queues: Sequence[str] = ()
    threads: int = 1


UPSERT_PROCESS: Final = """
    INSERT INTO "WorkerProcess" ("id", "host", "pid", "role", "queues", "threads", "figures")
    VALUES (%(id)s, %(host)s, %(pid)s, %(role)s, %(queues)s::text[], %(threads)s, %(figures)s)
    ON CONFLICT ("id") DO UPDATE SET "seenAt" = now(), "figures" = excluded."figures"
"""


def upsert_process(conn: Connection, process: Process, figures: Mapping[str, Any]) -> None:
    """Store a heartbeat of a process with its figures.

    Args:
        conn: A connection in the relay's role.
        process: The process; the same id is the same row.
        figures: Its measurements, by names with their unit last: rssBytes, cpuS, threadsAlive ...
    """
    values = asdict(process) | {"queues": list(process.queues), "figures": Jsonb(dict(figures))}
    conn.execute(UPSERT_PROCESS, values)


DELETE_PROCESS: Final = """
    DELETE FROM "WorkerProcess" WHERE "id" = %(id)s
"""


def delete_process(conn: Connection, worker_id: str) -> None:
    """Delete the row of a process that has ended."""
    conn.execute(DELETE_PROCESS, {"id": worker_id})


DELETE_SILENT: Final = """
    DELETE FROM "WorkerProcess" WHERE "seenAt" < now() - %(silent_s)s::float8 * interval '1 second'
"""


def delete_silent(conn: Connection, *, silent_s: float) -> int:
    """Delete processes without a heartbeat for `silent_s`. Returns how many."""
    return conn.execute(DELETE_SILENT, {"silent_s": silent_s}).rowcount


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """The load of a queue, from which autoscaling decides.

    Attributes:
        queue: Its name.
        ready: Jobs that are due and not begun; counted up to the limit given.
        running: Jobs that are being done.
        oldest_s: For how long the oldest ready job has been due; 0 without one.
        processes: Worker processes with a recent heartbeat.
        threads: Their threads.
    """

    queue: str
    ready: int
    running: int
    oldest_s: float
    processes: int
    threads: int


# Counted up to a limit, and the oldest looked for among the heads of at most as many lanes as
# wait, one probe each: what it costs does not grow with the number of jobs that wait. What no
# process could do, because it is paused, must not start one.
SELECT_LOADS: Final = """
    WITH RECURSIVE lane AS (
        (SELECT q."queue", h."tenantId", h."job", h."limitKey", h."priority", h."dueAt", 1 AS "n"
         FROM unnest(%(queues)s::text[]) AS q("queue")
         CROSS JOIN LATERAL (
             SELECT o.* FROM "JobOutbox" o WHERE o."queue" = q."queue"
             ORDER BY o."tenantId", o."job", o."limitKey", o."priority", o."dueAt" LIMIT 1) h)
        UNION ALL
        SELECT l."queue", h."tenantId", h."job", h."limitKey", h."priority", h."dueAt", l."n" + 1
        FROM lane l CROSS JOIN LATERAL (
            SELECT o.* FROM "JobOutbox" o
            WHERE o."queue" = l."queue"
              AND (o."tenantId", o."job", o."limitKey", o."priority")
                  > (l."tenantId", l."job", l."limitKey", l."priority")
            ORDER BY o."tenantId", o."job", o."limitKey", o."priority", o."dueAt" LIMIT 1) h
        WHERE l."n" < %(limit)s
    ), free AS (
        SELECT l.* FROM lane l WHERE l."dueAt" <= now() AND NOT EXISTS (
            SELECT FROM "JobHold" h WHERE coalesce(h."queue", l."queue") = l."queue"
              AND coalesce(h."tenantId", l."tenantId") = l."tenantId"
              AND coalesce(h."job", l."job") = l."job")
    ), waiting AS (
        SELECT f."queue", sum(c."ready") AS "ready", min(f."dueAt") AS "oldest"
        FROM free f CROSS JOIN LATERAL (
            SELECT count(*) AS "ready" FROM (
                SELECT FROM "JobOutbox" o
                WHERE o."queue" = f."queue" AND o."tenantId" = f."tenantId"
                  AND o."job" = f."job" AND o."limitKey" = f."limitKey"
                  AND o."priority" = f."priority" AND o."dueAt" <= now()
                LIMIT %(ready_max)s) counted) c
        GROUP BY 1
    ), flying AS (
        SELECT f."queue", count(*) FILTER (WHERE j."state" = 'PENDING') AS "queued",
               count(*) FILTER (WHERE j."state" = 'RUNNING') AS "running",
               min(j."dueAt") FILTER (WHERE j."state" = 'PENDING') AS "oldest"
        FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId"
        WHERE f."queue" = ANY(%(queues)s::text[]) GROUP BY 1
    ), serving AS (
        SELECT s."queue", count(*) AS "processes", sum(p."threads") AS "threads"
        FROM "WorkerProcess" p CROSS JOIN LATERAL unnest(p."queues") AS s("queue")
        WHERE p."role" = 'worker' AND p."seenAt" > now() - interval '20 seconds' GROUP BY 1
    )
    SELECT q."queue", (coalesce(w."ready", 0) + coalesce(f."queued", 0))::bigint AS "ready",
           coalesce(f."running", 0) AS "running",
           coalesce(extract(epoch FROM greatest(now(), least(w."oldest", f."oldest"))
                                       - least(w."oldest", f."oldest")), 0)::float8 AS "oldestS",
           coalesce(s."processes", 0) AS "processes", coalesce(s."threads", 0) AS "threads"
    FROM unnest(%(queues)s::text[]) WITH ORDINALITY AS q("queue", "place")
    LEFT JOIN waiting w USING ("queue") LEFT JOIN flying f USING ("queue")
    LEFT JOIN serving s USING ("queue")
    ORDER BY q."place"
"""


def select_loads(
    conn: Connection, queues: Sequence[str], *, ready_max: int = 1_000, lanes_max: int = 1_000
) -> list[QueueLoad]:
    """The load of these queues, in the order given.

    Args:
        conn: A connection in the relay's role.
        queues: Names.
        ready_max: Waiting jobs of one lane are counted up to this.
        lanes_max: Lanes of one queue are looked at up to this.
    """
    values = {"queues": list(queues), "ready_max": ready_max, "limit": lanes_max}
    return [QueueLoad(*row) for row in conn.execute(SELECT_LOADS, values)]
