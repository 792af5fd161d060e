"""Replays in progress: their outcomes, and undoing those not started.

In the relay's role. Lock order as in `outbox`: "Job" rows by id, then "JobFlight", "JobOutbox".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shared.db import Connection
from shared.ids import JobId, TenantId

# A replayed job waits in the outbox or is on its way; the ledger itself has no index for it.
SELECT_UNBEGUN: Final = """
    SELECT j."id" FROM (
        SELECT o."jobId" FROM "JobOutbox" o
        WHERE (%(queue)s::text IS NULL OR o."queue" = %(queue)s)
          AND (%(job)s::text IS NULL OR o."job" = %(job)s)
          AND (%(tenant_id)s::text IS NULL OR o."tenantId" = %(tenant_id)s)
        UNION ALL
        SELECT f."jobId" FROM "JobFlight" f
        WHERE (%(queue)s::text IS NULL OR f."queue" = %(queue)s)
          AND (%(job)s::text IS NULL OR f."job" = %(job)s)
          AND (%(tenant_id)s::text IS NULL OR f."tenantId" = %(tenant_id)s)
    ) AS w
    JOIN "Job" j ON j."id" = w."jobId"
    WHERE j."state" = 'PENDING' AND j."waitingFor" = 'replay'
    ORDER BY j."id"
"""


def select_unbegun(
    conn: Connection,
    *,
    queue: str | None = None,
    job: str | None = None,
    tenant_id: TenantId | None = None,
) -> list[JobId]:
    """Filters of replayed jobs that no worker has started; None means any."""
    values = {"queue": queue, "job": job, "tenant_id": tenant_id}
    return [JobId(row[0]) for row in conn.execute(SELECT_UNBEGUN, values)]


@dataclass(frozen=True, slots=True)
class Unreplayed:
    """A job that is dead again, and its tenant."""

    id: JobId
    tenant_id: TenantId


# The letter is written again from the last attempt that the replay left behind, as of its time.
# The raised fence makes a wake-up that is on its way, or a row that the relay moves at this moment,
# mean nothing.
UNDO: Final = """
    WITH mine AS (
        SELECT j."id" FROM "Job" j
        WHERE j."id" = ANY(%(ids)s::text[]) AND j."state" = 'PENDING'
          AND j."waitingFor" = 'replay'
        ORDER BY j."id" FOR UPDATE
    ), ended AS (
        UPDATE "Job" j
        SET "state" = 'DEAD', "finishedAt" = clock_timestamp(), "waitingFor" = NULL,
            "fence" = j."fence" + 1
        FROM mine WHERE j."id" = mine."id" AND j."state" = 'PENDING'
        RETURNING j.*
    ), landed AS (
        DELETE FROM "JobFlight" f USING ended e WHERE f."jobId" = e."id"
    ), buried AS (
        INSERT INTO "DeadLetter" ("tenantId", "jobId", "job", "queue", "attempts", "reason",
                                  "error", "fingerprint", "diedAt")
        SELECT e."tenantId", e."id", e."job", e."queue", coalesce(a."attempt", 0),
               CASE a."verdict" WHEN 'refused' THEN 'permanent' WHEN 'crashed' THEN 'poison'
                                ELSE 'exhausted' END,
               coalesce(a."error", e."error", ''), coalesce(a."fingerprint", ''),
               coalesce(a."endedAt", e."finishedAt")
        FROM ended e LEFT JOIN LATERAL (
            SELECT * FROM "JobAttempt" l WHERE l."jobId" = e."id" ORDER BY l."fence" DESC LIMIT 1
        ) AS a ON true
        ORDER BY e."id"
    ), unqueued AS (
        DELETE FROM "JobOutbox" o USING ended e
        WHERE o."queue" = e."queue" AND o."tenantId" = e."tenantId" AND o."job" = e."job"
          AND o."limitKey" = e."limitKey" AND o."priority" = e."priority"
          AND o."dueAt" = e."dueAt" AND o."jobId" = e."id"
    ), notified AS (
        INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId")
        SELECT "tenantId", "id", "job", "queue", 'DEAD', "batchId" FROM ended
    )
    SELECT e."id", e."tenantId" FROM ended e ORDER BY e."id"
"""


def undo(conn: Connection, ids: Sequence[JobId]) -> list[Unreplayed]:
    """Make unstarted replayed jobs dead letters again. Returns them."""
    return [Unreplayed(*row) for row in conn.execute(UNDO, {"ids": list(ids)})]


@dataclass(frozen=True, slots=True)
class ReplayOutcome:
    """Outcomes of replayed jobs so far; the others wait or run."""

    completed: int
    failed: int


# One failed attempt is enough to count: the last one may be an hour away.
SELECT_OUTCOME: Final = """
    SELECT count(*) FILTER (WHERE j."state" IN ('COMPLETED', 'CANCELLED')) AS "completed",
           count(*) FILTER (WHERE j."state" = 'DEAD'
                            OR j."state" = 'PENDING' AND j."waitingFor" = 'retry') AS "failed"
    FROM "Job" j WHERE j."id" = ANY(%(ids)s::text[])
"""


def select_outcome(conn: Connection, ids: Sequence[JobId]) -> ReplayOutcome:
    """Return the outcomes of replayed jobs."""
    row = conn.execute(SELECT_OUTCOME, {"ids": list(ids)}).fetchone()
    assert row is not None, "an aggregate yields a row"
    return ReplayOutcome(*row)
