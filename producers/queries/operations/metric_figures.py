"""Figures of /metrics besides those of the queues. In the relay's role."""

from dataclasses import dataclass
from typing import Any, Final

from shared.db import Connection


@dataclass(frozen=True, slots=True)
class JobStat:
    """Outcomes of all jobs of a kind; buckets count by upper bound, the last is +Inf."""

    job: str
    queue: str
    completed: int
    dead: int
    cancelled: int
    retried: int
    took_s: float
    waited_s: float
    took_buckets: list[int]
    waited_buckets: list[int]


SELECT_JOB_STATS: Final = """
    SELECT "job", "queue", "completed", "dead", "cancelled", "retried", "tookS", "waitedS",
           "tookBuckets", "waitedBuckets"
    FROM "JobStat" s
    WHERE s."job" = ANY(%(known)s::text[])
       OR EXISTS (SELECT FROM "JobKind" k WHERE k."job" = s."job")
    ORDER BY "job"
"""


def select_job_stats(conn: Connection, known: list[str]) -> list[JobStat]:
    """Return the outcomes of all jobs by kind, of `known` kinds and those in the database."""
    return [JobStat(*row) for row in conn.execute(SELECT_JOB_STATS, {"known": known})]


SELECT_LEASES: Final = """
    SELECT count(*) AS "held", count(*) FILTER (WHERE j."leaseUntil" < now()) AS "lapsed"
    FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId" WHERE j."state" = 'RUNNING'
"""


def count_leases(conn: Connection) -> tuple[int, int]:
    """Count leases, and the expired ones not yet recovered."""
    row = conn.execute(SELECT_LEASES).fetchone()
    assert row is not None, "an aggregate yields a row"
    held, lapsed = row
    return held, lapsed


COUNT_DEAD: Final = """
    SELECT d."queue", d."reason", count(*) AS "dead"
    FROM unnest(%(queues)s::text[]) AS q("queue") CROSS JOIN LATERAL (
        SELECT d."queue", d."reason" FROM "DeadLetter" d WHERE d."queue" = q."queue"
        LIMIT %(limit)s) d
    GROUP BY 1, 2
"""


def count_dead(
    conn: Connection, queues: list[str], *, limit: int = 5_000
) -> list[tuple[str, str, int]]:
    """Dead letters by queue and reason; of each queue at most `limit` are looked at."""
    rows = conn.execute(COUNT_DEAD, {"queues": queues, "limit": limit})
    return [(queue, reason, dead) for queue, reason, dead in rows]


COUNT_QUARANTINED: Final = """
    SELECT q."queue", (SELECT count(*) FROM (
        SELECT FROM "Quarantine" m WHERE m."queue" = q."queue" LIMIT %(limit)s) m)
           AS "quarantined"
    FROM unnest(%(queues)s::text[]) AS q("queue")
"""


def count_quarantined(
    conn: Connection, queues: list[str], *, limit: int = 20_000
) -> list[tuple[str, int]]:
    """Quarantined messages by queue; of each queue at most `limit` are counted."""
    rows = conn.execute(COUNT_QUARANTINED, {"queues": queues, "limit": limit})
    return [(queue, quarantined) for queue, quarantined in rows]


SELECT_DEPTHS_MAX: Final = """
    SELECT "queue", "depthMax" FROM "QueueState"
"""


def select_depths_max(conn: Connection) -> dict[str, int]:
    """Return the maximum depth of each queue before publishing is rejected."""
    return {queue: depth_max for queue, depth_max in conn.execute(SELECT_DEPTHS_MAX)}


# Sizes are the file system's, rows are what the last vacuum or analyze and the counters since say.
SELECT_TABLES: Final = """
    SELECT s.relname AS "table", pg_total_relation_size(s.relid) AS "bytes", s.n_live_tup AS "live",
           s.n_dead_tup AS "dead"
    FROM pg_stat_user_tables s
    WHERE s.schemaname = 'public' AND s.relname = ANY(%(tables)s::text[]) ORDER BY 1
"""
TABLES: Final = ("Job", "JobOutbox", "JobFlight", "JobAttempt", "JobEvent", "DeadLetter")


def select_tables(conn: Connection) -> list[tuple[str, int, int, int]]:
    """Bytes with indexes, live and dead rows of the ledger's tables, by name."""
    rows = conn.execute(SELECT_TABLES, {"tables": list(TABLES)})
    return [(table, bytes_, live, dead) for table, bytes_, live, dead in rows]


SELECT_OPEN: Final = """
    SELECT (SELECT count(*) FROM (SELECT FROM "JobBatch" b WHERE b."finishedAt" IS NULL
                                  LIMIT 10000) b) AS "batches",
           (SELECT count(*) FROM "Schedule" s WHERE s."error" IS NOT NULL) AS "schedules"
"""


def count_open(conn: Connection) -> tuple[int, int]:
    """Batches that have not ended (10,000 at most), and schedules whose last slot failed."""
    row = conn.execute(SELECT_OPEN).fetchone()
    assert row is not None, "a select without a table yields a row"
    batches, schedules = row
    return batches, schedules


SELECT_FAILING: Final = """
    SELECT s."name", t."slug", s."error" FROM "Schedule" s
    LEFT JOIN "Tenant" t ON t."id" = s."tenantId"
    WHERE s."error" IS NOT NULL ORDER BY s."name" LIMIT %(limit)s
"""


def select_failing(conn: Connection, *, limit: int) -> list[dict[str, Any]]:
    """Schedules whose last slot failed: name, tenant's slug (None: the system's) and error."""
    rows = conn.execute(SELECT_FAILING, {"limit": limit})
    return [{"name": name, "tenant": slug, "error": error} for name, slug, error in rows]


SELECT_KINDS: Final = """
    SELECT "job", "queue", "schemaVersion" FROM "JobKind"
"""


def select_kinds(conn: Connection) -> set[tuple[str, str, int]]:
    """The contracts that this database knows: job, queue, schema version."""
    rows = conn.execute(SELECT_KINDS)
    return {(job, queue, schema_version) for job, queue, schema_version in rows}
