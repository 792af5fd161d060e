"""Queue figures: depth, lag and workers. In the relay's role.

They are read every few seconds, so their cost is bounded: rows are counted up to a limit; above it
the count comes from "QueueState", which the relay updates now and then.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from shared.db import Connection
from shared.ids import TenantId

# A process without a heartbeat for so long counts as gone.
SILENT_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """Counts of a queue; `oldest_seconds` is how long the oldest ready job has been due."""

    queue: str
    ready: int
    delayed: int
    running: int
    dead: int
    oldest_seconds: float | None
    done_per_second: float | None
    workers: int
    paused: bool


# A queue above the bound is split by its lanes: of each the index tells what is due and what is
# delayed. Whichever of the two is below the bound is exact, the other is the rest of the depth.
SELECT_FIGURES: Final = """
    WITH RECURSIVE counted AS MATERIALIZED (
        SELECT q."queue", q."place", c.* FROM unnest(%(queues)s::text[]) WITH ORDINALITY
            AS q("queue", "place")
        CROSS JOIN LATERAL (
            SELECT count(*) AS "n", count(*) FILTER (WHERE o."dueAt" <= now()) AS "ready"
            FROM (SELECT o."dueAt" FROM "JobOutbox" o WHERE o."queue" = q."queue"
                  LIMIT %(counted_max)s::bigint + 1) o
        ) c
    ), lane AS (
        SELECT r."queue", 1 AS "n", l.* FROM unnest(%(queues)s::text[]) AS r("queue")
        CROSS JOIN LATERAL (
            SELECT o."tenantId", o."job", o."limitKey", o."priority", o."dueAt"
            FROM "JobOutbox" o WHERE o."queue" = r."queue"
            ORDER BY o."tenantId", o."job", o."limitKey", o."priority", o."dueAt" LIMIT 1
        ) l
        UNION ALL
        SELECT p."queue", p."n" + 1, l.* FROM lane p CROSS JOIN LATERAL (
            SELECT o."tenantId", o."job", o."limitKey", o."priority", o."dueAt"
            FROM "JobOutbox" o
            WHERE o."queue" = p."queue" AND (o."tenantId", o."job", o."limitKey", o."priority")
                  > (p."tenantId", p."job", p."limitKey", p."priority")
            ORDER BY o."tenantId", o."job", o."limitKey", o."priority", o."dueAt" LIMIT 1
        ) l WHERE p."n" < %(lanes_max)s::int
    ), heads AS (
        SELECT l."queue", min(l."dueAt") AS "oldest" FROM lane l WHERE l."dueAt" <= now()
        GROUP BY 1
    ), deep AS MATERIALIZED (
        SELECT c."queue", greatest(s."depth", c."n") AS "total",
               (SELECT count(*) FROM (
                    SELECT FROM lane l CROSS JOIN LATERAL (
                        SELECT FROM "JobOutbox" o
                        WHERE (o."queue", o."tenantId", o."job", o."limitKey", o."priority")
                              = (l."queue", l."tenantId", l."job", l."limitKey", l."priority")
                          AND o."dueAt" > now() LIMIT %(counted_max)s::bigint + 1) o
                    WHERE l."queue" = c."queue" LIMIT %(counted_max)s::bigint + 1) x
               ) AS "delayed",
               (SELECT count(*) FROM (
                    SELECT FROM lane l CROSS JOIN LATERAL (
                        SELECT FROM "JobOutbox" o
                        WHERE (o."queue", o."tenantId", o."job", o."limitKey", o."priority")
                              = (l."queue", l."tenantId", l."job", l."limitKey", l."priority")
                          AND o."dueAt" <= now() LIMIT %(counted_max)s::bigint + 1) o
                    WHERE l."queue" = c."queue" LIMIT %(counted_max)s::bigint + 1) x
               ) AS "ready"
        FROM counted c LEFT JOIN "QueueState" s USING ("queue") WHERE c."n" > %(counted_max)s
    ), waiting AS (
        SELECT c."queue", c."place",
               CASE WHEN d."queue" IS NULL THEN c."ready"
                    WHEN d."delayed" <= %(counted_max)s THEN greatest(d."total" - d."delayed", 0)
                    ELSE d."ready" END AS "ready",
               CASE WHEN d."queue" IS NULL THEN c."n" - c."ready"
                    WHEN d."delayed" <= %(counted_max)s THEN d."delayed"
                    ELSE greatest(d."total" - d."ready", 0) END AS "delayed"
        FROM counted c LEFT JOIN deep d USING ("queue")
    ), in_flight AS (
        SELECT f."queue", count(*) FILTER (WHERE j."state" = 'PENDING') AS "queued",
               count(*) FILTER (WHERE j."state" = 'RUNNING') AS "running",
               min(j."dueAt") FILTER (WHERE j."state" = 'PENDING') AS "oldest"
        FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId" GROUP BY 1
    ), done AS (
        SELECT s."queue", sum(s."donePerS" * exp(least(0, greatest(-500, -extract(
                   epoch FROM now() - s."foldedAt")::float8 / %(rate_s)s::float8)))) AS "rate"
        FROM "JobStat" s GROUP BY 1
    ), serving AS (
        SELECT s."queue", count(*) AS "workers" FROM "WorkerProcess" p
        CROSS JOIN LATERAL unnest(p."queues") AS s("queue")
        WHERE p."role" = 'worker'
          AND p."seenAt" > now() - %(silent_s)s::float8 * interval '1 second' GROUP BY 1
    )
    SELECT w."queue", w."ready" + coalesce(f."queued", 0) AS "ready", w."delayed",
           coalesce(f."running", 0) AS "running",
           (SELECT count(*) FROM (SELECT FROM "DeadLetter" d WHERE d."queue" = w."queue"
                                  LIMIT %(dead_max)s) d) AS "dead",
           extract(epoch FROM greatest(now(), least(h."oldest", f."oldest"))
                              - least(h."oldest", f."oldest"))::float8 AS "oldestSeconds",
           coalesce(r."rate", 0)::float8 AS "donePerSecond", coalesce(s."workers", 0) AS "workers",
           EXISTS (
               SELECT FROM "JobHold" h
               WHERE h."queue" = w."queue" AND num_nonnulls(h."tenantId", h."job") = 0) AS "paused"
    FROM waiting w LEFT JOIN heads h USING ("queue") LEFT JOIN in_flight f USING ("queue")
    LEFT JOIN done r USING ("queue") LEFT JOIN serving s USING ("queue")
    ORDER BY w."place"
"""

LANES_MAX: Final = 1_000
DEAD_MAX: Final = 100_000


def select_figures(
    conn: Connection, queues: Sequence[str], *, rate_s: float, counted_max: int = 100_000
) -> list[QueueFigures]:
    """Return the counts of these queues, in the order given.

    Args:
        conn: A connection in the relay's role.
        queues: Names.
        rate_s: Over how many seconds "donePerS" fades, `events.RATE_S`.
        counted_max: Waiting rows of a queue that are counted one by one; of a longer queue the
            greater part is what the relay counted last. Dead letters are counted to `DEAD_MAX`,
            and the oldest job is looked for in `LANES_MAX` lanes of a queue.
    """
    values: dict[str, object] = {
        "queues": list(queues),
        "counted_max": counted_max,
        "lanes_max": LANES_MAX,
        "dead_max": DEAD_MAX,
        "rate_s": rate_s,
        "silent_s": SILENT_S,
    }
    return [QueueFigures(*row) for row in conn.execute(SELECT_FIGURES, values)]


# Of one tenant all are counted by its part of the index: no more than it may have waiting.
SELECT_TENANT_FIGURES: Final = """
    SELECT q."queue", o."ready" + f."queued" AS "ready", o."delayed", f."running", d."dead",
           extract(epoch FROM greatest(now(), least(o."oldest", f."oldest"))
                              - least(o."oldest", f."oldest"))::float8 AS "oldestSeconds",
           NULL::float8 AS "donePerSecond", w."workers",
           EXISTS (
               SELECT FROM "JobHold" h
               WHERE coalesce(h."queue", q."queue") = q."queue" AND h."job" IS NULL
                 AND coalesce(h."tenantId", %(tenant_id)s::text) = %(tenant_id)s) AS "paused"
    FROM unnest(%(queues)s::text[]) WITH ORDINALITY AS q("queue", "place")
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE x."dueAt" <= now()) AS "ready",
               count(*) FILTER (WHERE x."dueAt" > now()) AS "delayed",
               min(x."dueAt") FILTER (WHERE x."dueAt" <= now()) AS "oldest"
        FROM (SELECT y."dueAt" FROM "JobOutbox" y
              WHERE y."queue" = q."queue" AND y."tenantId" = %(tenant_id)s
              LIMIT %(counted_max)s::bigint) x
    ) o
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE j."state" = 'PENDING') AS "queued",
               count(*) FILTER (WHERE j."state" = 'RUNNING') AS "running",
               min(j."dueAt") FILTER (WHERE j."state" = 'PENDING') AS "oldest"
        FROM "JobFlight" x JOIN "Job" j ON j."id" = x."jobId"
        WHERE x."queue" = q."queue" AND x."tenantId" = %(tenant_id)s
    ) f
    CROSS JOIN LATERAL (
        SELECT count(*) AS "dead" FROM (
            SELECT FROM "DeadLetter" x
            WHERE x."tenantId" = %(tenant_id)s AND x."queue" = q."queue" LIMIT %(dead_max)s) x
    ) d
    CROSS JOIN LATERAL (
        SELECT count(*) AS "workers" FROM "WorkerProcess" p
        WHERE p."role" = 'worker' AND q."queue" = ANY(p."queues")
          AND p."seenAt" > now() - %(silent_s)s::float8 * interval '1 second'
    ) w
    ORDER BY q."place"
"""


def select_tenant_figures(
    conn: Connection, queues: Sequence[str], tenant_id: TenantId, *, counted_max: int = 100_000
) -> list[QueueFigures]:
    """Return one tenant's counts of these queues, up to a bound; what all have done is not told."""
    values: dict[str, object] = {
        "queues": list(queues),
        "tenant_id": tenant_id,
        "counted_max": counted_max,
        "dead_max": DEAD_MAX,
        "silent_s": SILENT_S,
    }
    return [QueueFigures(*row) for row in conn.execute(SELECT_TENANT_FIGURES, values)]


@dataclass(frozen=True, slots=True)
class Lag:
    """The wait of a queue's oldest due row, and `why`: free, held (paused) or limited."""

    queue: str
    why: str
    seconds: float


# "limited" says that some limit looks at the lane: whether it is spent only the relay knows.
SELECT_LAGS: Final = """
    WITH RECURSIVE lane AS (
        SELECT r."queue", 1 AS "n", l.* FROM unnest(%(queues)s::text[]) AS r("queue")
        CROSS JOIN LATERAL (
            SELECT o."tenantId", o."job", o."limitKey", o."priority", o."dueAt"
            FROM "JobOutbox" o WHERE o."queue" = r."queue"
            ORDER BY o."tenantId", o."job", o."limitKey", o."priority", o."dueAt" LIMIT 1
        ) l
        UNION ALL
        SELECT p."queue", p."n" + 1, l.* FROM lane p CROSS JOIN LATERAL (
            SELECT o."tenantId", o."job", o."limitKey", o."priority", o."dueAt"
            FROM "JobOutbox" o
            WHERE o."queue" = p."queue" AND (o."tenantId", o."job", o."limitKey", o."priority")
                  > (p."tenantId", p."job", p."limitKey", p."priority")
            ORDER BY o."tenantId", o."job", o."limitKey", o."priority", o."dueAt" LIMIT 1
        ) l WHERE p."n" < %(lanes_max)s::int
    )
    SELECT l."queue", CASE
               WHEN EXISTS (SELECT FROM "JobHold" h
                   WHERE coalesce(h."queue", l."queue") = l."queue"
                     AND coalesce(h."tenantId", l."tenantId") = l."tenantId"
                     AND coalesce(h."job", l."job") = l."job") THEN 'held'
               WHEN EXISTS (SELECT FROM "JobLimit" m
                   WHERE coalesce(m."tenantId", l."tenantId") = l."tenantId"
                     AND coalesce(m."job", l."job") = l."job"
                     AND (m."tier" IS NULL OR m."tier" = (
                         SELECT t."tier"::text FROM "Tenant" t WHERE t."id" = l."tenantId"))
                     AND (NOT m."perKey" OR l."limitKey" <> '')) THEN 'limited'
               ELSE 'free' END AS "why",
           max(extract(epoch FROM now() - l."dueAt"))::float8 AS "seconds"
    FROM lane l WHERE l."dueAt" <= now() GROUP BY 1, 2
"""


def select_lags(conn: Connection, queues: Sequence[str]) -> list[Lag]:
    """Return the relay's lag per queue; queues without due jobs are left out."""
    values: dict[str, object] = {"queues": list(queues), "lanes_max": LANES_MAX}
    return [Lag(*row) for row in conn.execute(SELECT_LAGS, values)]


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """A live process: its last heartbeat, `silent_s` seconds ago."""

    id: str
    host: str
    pid: int
    queues: list[str]
    threads: int
    started_at: datetime
    seen_at: datetime
    silent_s: float
    figures: dict[str, Any]

    @property
    def threads_expected(self) -> int:
        """Threads it should have, as reported by itself if available."""
        return int(self.figures.get("threads", self.threads))

    @property
    def threads_alive(self) -> int:
        """Live threads; a process that does not report them counts as complete."""
        return int(self.figures.get("threadsAlive", self.threads_expected))


SELECT_PROCESSES: Final = """
    SELECT "id", "host", "pid", "queues", "threads", "startedAt", "seenAt",
           extract(epoch FROM greatest(now(), "seenAt") - "seenAt")::float8 AS "silentS", "figures"
    FROM "WorkerProcess"
    WHERE "role" = %(role)s AND "seenAt" > now() - %(silent_s)s::float8 * interval '1 second'
    ORDER BY "startedAt", "id"
"""


def select_processes(
    conn: Connection, *, role: str = "worker", silent_s: float = SILENT_S
) -> list[ProcessRow]:
    """Return processes of a role with a heartbeat in the last `silent_s` seconds, oldest first."""
    rows = conn.execute(SELECT_PROCESSES, {"role": role, "silent_s": silent_s})
    return [ProcessRow(*row) for row in rows]


# What a process leaves behind by its work speaks for it too: the relay counts, the scheduler runs.
# now() is when our transaction began: what was written since then is 0 s old, not less.
SELECT_SEEN: Final = """
    WITH seen AS (
        SELECT greatest(
                   (SELECT max(p."seenAt") FROM "WorkerProcess" p WHERE p."role" = 'relay'),
                   (SELECT max(q."measuredAt") FROM "QueueState" q)) AS "relay",
               greatest(
                   (SELECT max(p."seenAt") FROM "WorkerProcess" p WHERE p."role" = 'scheduler'),
                   (SELECT max(s."ranAt") FROM "Schedule" s WHERE s."tenantId" IS NULL)
               ) AS "scheduler"
    )
    SELECT extract(epoch FROM greatest(now(), s."relay") - s."relay")::float8 AS "relayS",
           extract(epoch FROM greatest(now(), s."scheduler") - s."scheduler")::float8
               AS "schedulerS"
    FROM seen s
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """Seconds since the last sign of life of a relay and a scheduler; None is never."""

    relay_s: float | None
    scheduler_s: float | None


def select_seen(conn: Connection) -> Seen:
    """Return the last signs of life of the relay and the scheduler."""
    row = conn.execute(SELECT_SEEN).fetchone()
    assert row is not None, "a select without a table yields a row"
    return Seen(*row)
