"""Settlement of attempts (complete, retry, bury, give back), and the failed ones.

Each settlement is one event.

Lock order in every statement: "Job" rows by id, then "JobFlight", then "JobOutbox".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.db import Connection
from shared.ids import JobId

COMPLETE: Final = """
    WITH held AS (
        SELECT j."id" FROM unnest(%(ids)s::text[], %(fences)s::bigint[]) AS m("id", "fence")
        JOIN "Job" j ON j."id" = m."id"
        WHERE j."fence" = m."fence" AND j."state" = 'RUNNING'
        ORDER BY j."id" FOR UPDATE OF j
    ), landed AS (
        DELETE FROM "JobFlight" f USING held WHERE f."jobId" = held."id"
    ), done AS (
        UPDATE "Job" j
        SET "state" = 'COMPLETED', "finishedAt" = clock_timestamp(), "leaseUntil" = NULL,
            "error" = NULL
        FROM held WHERE j."id" = held."id" RETURNING j.*
    )
    INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId",
                                "waitedS", "tookS")
    SELECT "tenantId", "id", "job", "queue", 'COMPLETED', "batchId",
           extract(epoch FROM "startedAt" - "dueAt"),
           extract(epoch FROM "finishedAt" - "startedAt") FROM done
"""


def complete(conn: Connection, held: Sequence[tuple[JobId, int]]) -> int:
    """Complete jobs that wrote nothing themselves, as (job id, fence); lost leases are skipped.

    Returns:
        The number of jobs completed.
    """
    ids, fences = [job_id for job_id, _ in held], [fence for _, fence in held]
    return conn.execute(COMPLETE, {"ids": ids, "fences": fences}).rowcount


# Jobs that were claimed and never begun go back as if nothing had happened: the attempt is not
# counted, the place in the queue is kept, the fence stays raised.
GIVE_BACK: Final = """
    WITH freed AS (
        UPDATE "Job" j
        SET "state" = 'PENDING', "attempt" = j."attempt" - 1, "leaseUntil" = NULL, "worker" = NULL
        FROM unnest(%(ids)s::text[], %(fences)s::bigint[]) AS m("id", "fence")
        WHERE j."id" = m."id" AND j."fence" = m."fence" AND j."state" = 'RUNNING'
        RETURNING j.*
    ), landed AS (
        DELETE FROM "JobFlight" f USING freed WHERE f."jobId" = freed."id"
    ), waiting AS (
        INSERT INTO "JobOutbox" ("queue", "tenantId", "job", "limitKey", "priority", "dueAt",
                                 "jobId", "attempt", "cost")
        SELECT "queue", "tenantId", "job", "limitKey", "priority", "dueAt", "id", "attempt",
               "cost" FROM freed
    )
    SELECT count(*) AS "freed", pg_notify('ailydian_outbox', '') FROM freed
"""


def give_back(conn: Connection, held: Sequence[tuple[JobId, int]]) -> int:
    """Return jobs that were claimed but not begun, as (job id, fence). Returns how many."""
    ids, fences = [job_id for job_id, _ in held], [fence for _, fence in held]
    row = conn.execute(GIVE_BACK, {"ids": ids, "fences": fences}).fetchone()
    assert row is not None, "an aggregate yields a row"
    freed, _ = row
    return int(freed)


@dataclass(frozen=True, slots=True)
class AttemptFailure:
    """A failed attempt; `killed`: its process ended with it."""

    job_id: JobId
    fence: int
    verdict: str
    error_type: str | None
    error: str
    traceback: str | None
    fingerprint: str = ""
    signal: str | None = None
    exit_code: int | None = None
    peak_bytes: int | None = None
    killed: bool = False


# A failed attempt is always stored; of those that use up no attempt only the first, because a
# parked job may try for weeks. A job whose process crashed keeps its place in the queue.
RETRY: Final = """
    WITH ended AS (
        UPDATE "Job" j
        SET "state" = 'PENDING', "waitingFor" = %(waiting_for)s, "leaseUntil" = NULL,
            "dueAt" = CASE WHEN %(verdict)s = 'crashed' THEN j."dueAt"
                ELSE now() + %(delay_s)s::float8 * interval '1 second' END, "error" = %(error)s,
            "crashes" = j."crashes" + %(killed)s::bool::int,
            "attempt" = j."attempt" - (%(uncounted)s::bool)::int
        WHERE j."id" = %(job_id)s AND j."fence" = %(fence)s AND j."state" = 'RUNNING'
        RETURNING j.*
    ), landed AS (
        DELETE FROM "JobFlight" f USING ended WHERE f."jobId" = ended."id"
    ), noted AS (
        INSERT INTO "JobAttempt" ("tenantId", "jobId", "fence", "attempt", "worker", "startedAt",
                                  "verdict", "errorType", "error", "traceback", "fingerprint",
                                  "signal", "exitCode", "peakBytes", "stepId")
        SELECT "tenantId", "id", "fence", "attempt" + (%(uncounted)s::bool)::int, "worker",
               "startedAt", %(verdict)s, %(error_type)s, %(error)s, %(traceback)s,
               %(fingerprint)s, %(signal)s, %(exit_code)s, %(peak_bytes)s, "stepId" FROM ended e
        WHERE NOT %(uncounted)s::bool OR NOT EXISTS (
            SELECT FROM "JobAttempt" a WHERE a."jobId" = e."id" AND a."attempt" = e."attempt" + 1
              AND a."verdict" = %(verdict)s)
    ), told AS (
        INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId",
                                "waitedS", "tookS")
        SELECT "tenantId", "id", "job", "queue", 'RETRY', "batchId", NULL,
               extract(epoch FROM clock_timestamp() - "startedAt") FROM ended
    )
    INSERT INTO "JobOutbox" ("queue", "tenantId", "job", "limitKey", "priority", "dueAt", "jobId",
                             "attempt", "cost")
    SELECT "queue", "tenantId", "job", "limitKey", "priority", "dueAt", "id", "attempt", "cost"
    FROM ended
"""


def retry(
    conn: Connection,
    failed: AttemptFailure,
    *,
    delay_s: float,
    waiting_for: str = "retry",
    uncounted: bool = False,
) -> bool:
    """Note a failed attempt and let the job wait for its next one.

    Args:
        conn: A connection in the relay's role.
        failed: What happened.
        delay_s: Seconds until the next attempt; ignored where the process crashed.
        waiting_for: The reason for the wait, shown to operators.
        uncounted: Whether this attempt does not use up one of `attempts_max`.

    Returns:
        False if the lease was lost: then nothing was written.
    """
    waits = {"delay_s": delay_s, "waiting_for": waiting_for, "uncounted": uncounted}
    return conn.execute(RETRY, _values(failed) | waits).rowcount == 1


BURY: Final = """
    WITH ended AS (
        UPDATE "Job" j
        SET "state" = 'DEAD', "leaseUntil" = NULL, "finishedAt" = clock_timestamp(),
            "waitingFor" = NULL, "error" = %(error)s,
            "crashes" = j."crashes" + %(killed)s::bool::int
        WHERE j."id" = %(job_id)s AND j."fence" = %(fence)s AND j."state" = 'RUNNING'
        RETURNING j.*
    ), landed AS (
        DELETE FROM "JobFlight" f USING ended WHERE f."jobId" = ended."id"
    ), noted AS (
        INSERT INTO "JobAttempt" ("tenantId", "jobId", "fence", "attempt", "worker", "startedAt",
                                  "endedAt", "verdict", "errorType", "error", "traceback",
                                  "fingerprint", "signal", "exitCode", "peakBytes", "stepId")
        SELECT "tenantId", "id", "fence", "attempt", "worker", "startedAt", "finishedAt",
               %(verdict)s,
               %(error_type)s, %(error)s, %(traceback)s, %(fingerprint)s, %(signal)s,
               %(exit_code)s, %(peak_bytes)s, "stepId" FROM ended
    ), told AS (
        INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId",
                                "waitedS", "tookS")
        SELECT "tenantId", "id", "job", "queue", 'DEAD', "batchId", NULL,
               extract(epoch FROM "finishedAt" - "startedAt") FROM ended
    )
    INSERT INTO "DeadLetter" ("tenantId", "jobId", "job", "queue", "attempts", "reason", "error",
                              "fingerprint", "diedAt")
    SELECT "tenantId", "id", "job", "queue", "attempt", %(reason)s, %(error)s, %(fingerprint)s,
           "finishedAt"
    FROM ended
    ON CONFLICT ("tenantId", "jobId") DO UPDATE
    SET "attempts" = excluded."attempts", "reason" = excluded."reason", "error" = excluded."error",
        "fingerprint" = excluded."fingerprint", "diedAt" = excluded."diedAt"
"""


def bury(conn: Connection, failed: AttemptFailure, *, reason: str) -> bool:
    """Note a failed attempt and end the job as a dead letter.

    Returns:
        False if the lease was lost: then nothing was written.
    """
    return conn.execute(BURY, _values(failed) | {"reason": reason}).rowcount == 1


# The relay may have taken a lapsed job back before its process was stopped and told where it was.
ADD_STACKS: Final = """
    UPDATE "JobAttempt" a SET "traceback" = s."stacks"
    FROM unnest(%(ids)s::text[], %(stacks)s::text[]) AS s("id", "stacks")
    WHERE a."jobId" = s."id" AND a."worker" = %(worker)s AND a."traceback" IS NULL
      AND a."verdict" = 'crashed'
      AND a."fence" = (SELECT max(b."fence") FROM "JobAttempt" b WHERE b."jobId" = a."jobId")
"""


def add_stacks(conn: Connection, worker: str, stacks: Mapping[JobId, str]) -> None:
    """Note where a worker's jobs were, with those crashed attempts that were stored without it."""
    if stacks:
        values = {"ids": list(stacks), "stacks": list(stacks.values()), "worker": worker}
        conn.execute(ADD_STACKS, values)


def _values(failed: AttemptFailure) -> dict[str, object]:
    # Postgres stores no NUL, and an error may quote one.
    return {
        "job_id": failed.job_id,
        "fence": failed.fence,
        "verdict": failed.verdict,
        "error_type": failed.error_type,
        "error": failed.error.replace("\0", "\\0"),
        "fingerprint": failed.fingerprint,
        "signal": failed.signal,
        "exit_code": failed.exit_code,
        "peak_bytes": failed.peak_bytes,
        "killed": failed.killed,
        "traceback": None if failed.traceback is None else failed.traceback.replace("\0", "\\0"),
    }


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One failed attempt; `peak_bytes` is its process's peak memory."""

    attempt: int
    verdict: str
    error_type: str | None
    error: str | None
    worker: str | None
    started_at: datetime | None
    ended_at: datetime
    took_seconds: float | None
    signal: str | None
    exit_code: int | None
    peak_bytes: int | None
    fingerprint: str | None
    traceback: str | None


SELECT_HISTORY: Final = """
    SELECT "attempt", "verdict", "errorType", "error", "worker", "startedAt", "endedAt",
           extract(epoch FROM "endedAt" - "startedAt")::float8 AS "tookSeconds", "signal",
           "exitCode", "peakBytes", "fingerprint", "traceback"
    FROM "JobAttempt" WHERE "jobId" = %(id)s ORDER BY "fence" LIMIT %(limit)s
"""


def select_history(conn: Connection, job_id: JobId, *, limit: int = 1_000) -> list[AttemptRow]:
    """The failed attempts of a job, including those before a replay, oldest first."""
    return [
        AttemptRow(*row) for row in conn.execute(SELECT_HISTORY, {"id": job_id, "limit": limit})
    ]
