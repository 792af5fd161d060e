"""Dead letters: the jobs that wait for an operator. In the relay's role.

Lock order as in `outbox`: "Job" rows by id, then "DeadLetter", then "JobOutbox".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.db import Connection
from shared.ids import JobId, TenantId


@dataclass(frozen=True, slots=True)
class Filters:
    """Which rows are meant; None means any. `error` is a POSIX regular expression."""

    queue: str | None = None
    job: str | None = None
    tenant_id: TenantId | None = None
    since: datetime | None = None
    until: datetime | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class DeadRow:
    """A job that waits for an operator; `id` is the job's."""

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


SELECT_DEAD: Final = """
    SELECT d."jobId", d."job", d."queue", t."slug", d."attempts", d."reason", d."error",
           d."fingerprint", d."diedAt", d."id"
    FROM "DeadLetter" d LEFT JOIN "Tenant" t ON t."id" = d."tenantId"
    WHERE (%(ids)s::text[] IS NULL OR d."jobId" = ANY(%(ids)s) OR d."id" = ANY(%(ids)s))
      AND (%(queue)s::text IS NULL OR d."queue" = %(queue)s)
      AND (%(job)s::text IS NULL OR d."job" = %(job)s)
      AND (%(tenant_id)s::text IS NULL OR d."tenantId" = %(tenant_id)s)
      AND (%(since)s::timestamptz IS NULL OR d."diedAt" >= %(since)s)
      AND (%(until)s::timestamptz IS NULL OR d."diedAt" <= %(until)s)
      AND (%(error)s::text IS NULL OR d."error" ~ %(error)s)
      AND (%(after)s::text IS NULL OR d."id" > %(after)s)
    ORDER BY d."id" LIMIT %(limit)s
"""


def select_dead(
    conn: Connection,
    wanted: Filters,
    *,
    ids: Sequence[str] | None = None,
    after: str | None = None,
    limit: int,
) -> list[DeadRow]:
    """Dead letters in the order of their ids, which is that of their deaths.

    Args:
        conn: A connection in the relay's role.
        wanted: Filters.
        ids: Of jobs or of letters; None means any.
        after: The `letter_id` where the page before ended.
        limit: Rows at most.
    """
    values = {
        "ids": None if ids is None else list(ids),
        "queue": wanted.queue,
        "job": wanted.job,
        "tenant_id": wanted.tenant_id,
        "since": wanted.since,
        "until": wanted.until,
        "error": wanted.error,
        "after": after,
        "limit": limit,
    }
    return [DeadRow(*row) for row in conn.execute(SELECT_DEAD, values)]


SELECT_NOW: Final = """
    SELECT now()
"""


def select_now(conn: Connection) -> datetime:
    """The time on the clock that deaths are dated by."""
    row = conn.execute(SELECT_NOW).fetchone()
    assert row is not None, "a select without a table yields a row"
    found: datetime = row[0]
    return found


# One new attempt however often and by however many this is pressed: the row lock serialises
# them, and all but the first find a job that is not DEAD any more. Attempts and crashes begin
# anew, the fence goes on and "JobAttempt" keeps what was.
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
    ), told AS (
        INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId")
        SELECT "tenantId", "id", "job", "queue", 'REPLAYED', "batchId" FROM revived
    )
    SELECT count(*), pg_notify('ailydian_outbox', '') FROM revived
"""


def replay(conn: Connection, ids: Sequence[JobId]) -> int:
    """Give dead jobs a new life. Returns how many were dead until now."""
    row = conn.execute(REPLAY, {"ids": list(ids)}).fetchone()
    assert row is not None, "an aggregate yields a row"
    return int(row[0])


# Someone decided that it shall not be done: that is what CANCELLED means. The error stays.
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
    ), told AS (
        INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId")
        SELECT "tenantId", "id", "job", "queue", 'DISCARDED', "batchId" FROM ended
    ), lifted AS (
        DELETE FROM "DeadLetter" d USING ended e
        WHERE d."tenantId" = e."tenantId" AND d."jobId" = e."id"
    ), forgotten AS (
        DELETE FROM "Upload" u USING ended e
        WHERE u."tenantId" = e."tenantId" AND u."id" = e."uploadId"
    )
    SELECT count(*) FROM ended
"""


def discard(conn: Connection, ids: Sequence[JobId]) -> int:
    """End dead jobs for good, as CANCELLED. Returns how many were dead until now."""
    row = conn.execute(DISCARD, {"ids": list(ids)}).fetchone()
    assert row is not None, "an aggregate yields a row"
    return int(row[0])
