"""The ledger as publishers and workers use it: accept, claim, complete, retry, bury.

Lock order in every statement: "Job" rows by id, then "JobFlight", then "JobOutbox".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared.db import Connection
from shared.ids import JobId


@dataclass(frozen=True, slots=True)
class NewJob:
    """A row to accept; `payload` is JSON text."""

    job: str
    queue: str
    payload: str
    schema_version: int
    key: str
    attempts_max: int


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A row that was accepted now or before."""

    id: str
    duplicate: bool
    state: str


INSERT_JOBS: Final = """
    INSERT INTO "Job" ("job", "queue", "payload", "schemaVersion", "key", "attemptsMax",
                       "priority", "parentId", "dueAt", "waitingFor")
    SELECT a."job", a."queue", a."payload"::jsonb, a."version", a."key", a."attemptsMax",
           %(priority)s::int, %(parent_id)s::text,
           now() + %(delay_s)s::float8 * interval '1 second',
           CASE WHEN %(delay_s)s::float8 > 0 THEN 'delay' END
    FROM unnest(%(jobs)s::text[], %(queues)s::text[], %(payloads)s::text[], %(versions)s::int[],
                %(keys)s::text[], %(attempts_max)s::int[])
         AS a("job", "queue", "payload", "version", "key", "attemptsMax")
    ON CONFLICT ("tenantId", "job", "key") WHERE "key" IS NOT NULL DO NOTHING
    RETURNING "job", "key", "id", "state"
"""

SELECT_BY_KEY: Final = """
    SELECT j."job", j."key", j."id", j."state"
    FROM unnest(%(jobs)s::text[], %(keys)s::text[]) AS a("job", "key")
    CROSS JOIN LATERAL (
        SELECT * FROM "Job" j
        WHERE j."tenantId" = current_setting('app.tenant_id') AND j."job" = a."job"
          AND j."key" = a."key" LIMIT 1
    ) j
"""


def insert_jobs(
    conn: Connection,
    rows: Sequence[NewJob],
    *,
    delay_s: float,
    priority: int,
    parent_id: JobId | None,
) -> list[FoundJob]:
    """Accept rows in one statement and look up those that were accepted before.

    Returns:
        One entry a row, in the order given.
    """
    accepted = conn.execute(
        INSERT_JOBS,
        {
            "jobs": [row.job for row in rows],
            "queues": [row.queue for row in rows],
            "payloads": [row.payload for row in rows],
            "versions": [row.schema_version for row in rows],
            "keys": [row.key for row in rows],
            "attempts_max": [row.attempts_max for row in rows],
            "priority": priority,
            "parent_id": parent_id,
            "delay_s": delay_s,
        },
    ).fetchall()
    new = {
        (job, key): FoundJob(id, duplicate=False, state=state) for job, key, id, state in accepted
    }
    old: dict[tuple[str, str], FoundJob] = {}
    missing = [row for row in rows if (row.job, row.key) not in new]
    if missing:
        found = conn.execute(
            SELECT_BY_KEY,
            {"jobs": [row.job for row in missing], "keys": [row.key for row in missing]},
        ).fetchall()
        old = {
            (job, key): FoundJob(id, duplicate=True, state=state) for job, key, id, state in found
        }
    answers = []
    for row in rows:
        name = (row.job, row.key)
        answer = new.get(name) or old[name]
        answers.append(answer)
        # The same key twice in one call: the second is a duplicate of the first.
        old.setdefault(name, FoundJob(answer.id, duplicate=True, state=answer.state))
        new.pop(name, None)
    return answers


# A message wakes up one attempt of one job: a job that has moved on since is left alone. The
# state is PENDING until the claim, so a second copy of the message finds nothing.
CLAIM: Final = """
    WITH mine AS (
        SELECT j."id" FROM unnest(%(ids)s::text[], %(attempts)s::int[]) AS m("id", "attempt")
        JOIN "Job" j ON j."id" = m."id"
        WHERE j."state" = 'PENDING' AND j."attempt" = m."attempt"
        ORDER BY j."id" FOR UPDATE OF j SKIP LOCKED
    )
    UPDATE "Job" j
    SET "state" = 'RUNNING', "attempt" = j."attempt" + 1, "fence" = j."fence" + 1,
        "leaseUntil" = now() + %(lease_s)s::float8 * interval '1 second',
        "startedAt" = clock_timestamp(), "worker" = %(worker)s::text, "waitingFor" = NULL
    FROM mine WHERE j."id" = mine."id"
    RETURNING j."id", j."tenantId", j."job", j."queue", j."payload", j."schemaVersion",
              j."attempt", j."attemptsMax", j."crashes", j."fence", j."stepId", j."createdAt"
"""


def claim(
    conn: Connection,
    wakeups: Sequence[tuple[JobId, int]],
    *,
    worker: str,
    lease_s: float,
) -> list[tuple[Any, ...]]:
    """Take the jobs that the wake-ups name, as (job id, attempts made so far).

    Returns:
        Those that were still waiting for that attempt, with the fields of `shared.outbox.Lease`
        in its order; the others are stale.
    """
    return conn.execute(
        CLAIM,
        {
            "ids": [job_id for job_id, _ in wakeups],
            "attempts": [attempt for _, attempt in wakeups],
            "worker": worker,
            "lease_s": lease_s,
        },
    ).fetchall()


SELECT_UNKNOWN: Final = """
    SELECT m."id" FROM unnest(%(ids)s::text[]) AS m("id")
    WHERE NOT EXISTS (SELECT 1 FROM "Job" j WHERE j."id" = m."id")
"""


def select_unknown(conn: Connection, ids: list[JobId]) -> list[JobId]:
    """Those of the ids that no job has."""
    return [row[0] for row in conn.execute(SELECT_UNKNOWN, {"ids": ids})]


COMPLETE: Final = """
    WITH held AS (
        SELECT j."id" FROM unnest(%(ids)s::text[], %(fences)s::bigint[]) AS m("id", "fence")
        JOIN "Job" j ON j."id" = m."id"
        WHERE j."fence" = m."fence" AND j."state" = 'RUNNING'
        ORDER BY j."id" FOR UPDATE OF j
    ), landed AS (
        DELETE FROM "JobFlight" f USING held WHERE f."jobId" = held."id"
    )
    UPDATE "Job" j
    SET "state" = 'COMPLETED', "finishedAt" = clock_timestamp(), "leaseUntil" = NULL, "error" = NULL
    FROM held WHERE j."id" = held."id"
"""


def complete(conn: Connection, held: Sequence[tuple[JobId, int]]) -> int:
    """Complete jobs that wrote nothing themselves, as (job id, fence); lost ones are left out.

    Returns:
        How many were ours to complete.
    """
    ids, fences = [job_id for job_id, _ in held], [fence for _, fence in held]
    return conn.execute(COMPLETE, {"ids": ids, "fences": fences}).rowcount


SET_OUTCOME: Final = """
    UPDATE "Job" SET "outcome" = %(outcome)s::jsonb WHERE "id" = %(id)s AND "fence" = %(fence)s
"""


def set_outcome(conn: Connection, job_id: JobId, fence: int, outcome: str) -> None:
    """Note what a job yielded, as JSON text, in the transaction that holds its receipt."""
    conn.execute(SET_OUTCOME, {"id": job_id, "fence": fence, "outcome": outcome})


RENEW: Final = """
    UPDATE "Job" j SET "leaseUntil" = now() + %(lease_s)s::float8 * interval '1 second'
    FROM unnest(%(ids)s::text[], %(fences)s::bigint[]) AS m("id", "fence")
    WHERE j."id" = m."id" AND j."fence" = m."fence" AND j."state" = 'RUNNING'
"""


def renew(conn: Connection, held: Sequence[tuple[JobId, int]], *, lease_s: float) -> int:
    """Prolong leases, as (job id, fence). Returns how many still stood."""
    ids, fences = [job_id for job_id, _ in held], [fence for _, fence in held]
    return conn.execute(RENEW, {"ids": ids, "fences": fences, "lease_s": lease_s}).rowcount


# Jobs that were claimed and never begun go back as if nothing had happened: the attempt is not
# counted, the place in the queue is kept, the fence stays raised.
GIVE_BACK: Final = """
    WITH freed AS (
        UPDATE "Job" j
        SET "state" = 'PENDING', "attempt" = j."attempt" - 1, "leaseUntil" = NULL, "worker" = NULL
        FROM unnest(%(ids)s::text[], %(fences)s::bigint[]) AS m("id", "fence")
        WHERE j."id" = m."id" AND j."fence" = m."fence" AND j."state" = 'RUNNING'
        RETURNING j."id", j."queue", j."tenantId", j."dueAt", j."attempt"
    ), landed AS (
        DELETE FROM "JobFlight" f USING freed WHERE f."jobId" = freed."id"
    ), waiting AS (
        INSERT INTO "JobOutbox" ("queue", "tenantId", "dueAt", "jobId", "attempt")
        SELECT "queue", "tenantId", "dueAt", "id", "attempt" FROM freed
    )
    SELECT count(*), pg_notify('ailydian_outbox', '') FROM freed
"""


def give_back(conn: Connection, held: Sequence[tuple[JobId, int]]) -> int:
    """Return jobs that were claimed but not begun, as (job id, fence). Returns how many."""
    ids, fences = [job_id for job_id, _ in held], [fence for _, fence in held]
    row = conn.execute(GIVE_BACK, {"ids": ids, "fences": fences}).fetchone()
    assert row is not None, "an aggregate yields a row"
    return int(row[0])


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended that did not end well."""

    job_id: JobId
    fence: int
    verdict: str
    error_type: str | None
    error: str
    traceback: str | None


# The attempt that ends is noted, whatever follows from it.
RETRY: Final = """
    WITH ended AS (
        UPDATE "Job" j
        SET "state" = 'PENDING', "waitingFor" = %(waiting_for)s, "leaseUntil" = NULL,
            "dueAt" = now() + %(delay_s)s::float8 * interval '1 second', "error" = %(error)s,
            "crashes" = j."crashes" + (%(verdict)s = 'crashed')::int,
            "attempt" = j."attempt" - (%(uncounted)s::bool)::int
        WHERE j."id" = %(job_id)s AND j."fence" = %(fence)s AND j."state" = 'RUNNING'
        RETURNING j.*
    ), landed AS (
        DELETE FROM "JobFlight" f USING ended WHERE f."jobId" = ended."id"
    ), noted AS (
        INSERT INTO "JobAttempt" ("tenantId", "jobId", "fence", "attempt", "worker", "startedAt",
                                  "verdict", "errorType", "error", "traceback")
        SELECT "tenantId", "id", "fence", "attempt" + (%(uncounted)s::bool)::int, "worker",
               "startedAt", %(verdict)s, %(error_type)s, %(error)s, %(traceback)s FROM ended
    )
    INSERT INTO "JobOutbox" ("queue", "tenantId", "dueAt", "jobId", "attempt")
    SELECT "queue", "tenantId", "dueAt", "id", "attempt" FROM ended
"""


def retry(
    conn: Connection,
    ending: Ending,
    *,
    delay_s: float,
    waiting_for: str = "retry",
    uncounted: bool = False,
) -> bool:
    """Note a failed attempt and let the job wait for its next one.

    Args:
        conn: A connection in the relay's role.
        ending: What happened.
        delay_s: Seconds until the next attempt.
        waiting_for: What the job waits for, shown to operators.
        uncounted: Whether this attempt does not use up one of `attempts_max`.

    Returns:
        False when the lease no longer stood: then nothing was written.
    """
    waits = {"delay_s": delay_s, "waiting_for": waiting_for, "uncounted": uncounted}
    return conn.execute(RETRY, _values(ending) | waits).rowcount == 1


BURY: Final = """
    WITH ended AS (
        UPDATE "Job" j
        SET "state" = 'DEAD', "leaseUntil" = NULL, "finishedAt" = clock_timestamp(),
            "waitingFor" = NULL, "error" = %(error)s,
            "crashes" = j."crashes" + (%(verdict)s = 'crashed')::int
        WHERE j."id" = %(job_id)s AND j."fence" = %(fence)s AND j."state" = 'RUNNING'
        RETURNING j.*
    ), landed AS (
        DELETE FROM "JobFlight" f USING ended WHERE f."jobId" = ended."id"
    ), noted AS (
        INSERT INTO "JobAttempt" ("tenantId", "jobId", "fence", "attempt", "worker", "startedAt",
                                  "verdict", "errorType", "error", "traceback")
        SELECT "tenantId", "id", "fence", "attempt", "worker", "startedAt", %(verdict)s,
               %(error_type)s, %(error)s, %(traceback)s FROM ended
    )
    INSERT INTO "DeadLetter" ("tenantId", "jobId", "job", "queue", "attempts", "reason", "error",
                              "fingerprint")
    SELECT "tenantId", "id", "job", "queue", "attempt", %(reason)s, %(error)s, %(fingerprint)s
    FROM ended
    ON CONFLICT ("tenantId", "jobId") DO UPDATE
    SET "attempts" = excluded."attempts", "reason" = excluded."reason", "error" = excluded."error",
        "fingerprint" = excluded."fingerprint", "diedAt" = excluded."diedAt"
"""


def bury(conn: Connection, ending: Ending, *, reason: str, fingerprint: str) -> bool:
    """Note a failed attempt and end the job as a dead letter.

    Returns:
        False when the lease no longer stood: then nothing was written.
    """
    why = {"reason": reason, "fingerprint": fingerprint}
    return conn.execute(BURY, _values(ending) | why).rowcount == 1


def _values(ending: Ending) -> dict[str, object]:
    # Postgres stores no NUL, and an error may quote one.
    return {
        "job_id": ending.job_id,
        "fence": ending.fence,
        "verdict": ending.verdict,
        "error_type": ending.error_type,
        "error": ending.error.replace("\0", "\\0"),
        "traceback": None if ending.traceback is None else ending.traceback.replace("\0", "\\0"),
    }


INSERT_QUARANTINED: Final = """
    INSERT INTO "Quarantine" ("queue", "reason", "message", "bytes", "sha256")
    SELECT %(queue)s, q."reason", q."message", q."bytes", q."sha256"
    FROM unnest(%(reasons)s::text[], %(messages)s::bytea[], %(bytes)s::bigint[],
                %(hashes)s::text[]) AS q("reason", "message", "bytes", "sha256")
"""


@dataclass(frozen=True, slots=True)
class BadMessage:
    """Bytes that are no wake-up of ours."""

    reason: str
    head: bytes
    size: int
    sha256: str


def insert_quarantined(conn: Connection, queue: str, messages: Sequence[BadMessage]) -> None:
    """Keep messages that could not be understood, for people to look at."""
    values: dict[str, object] = {
        "queue": queue,
        "reasons": [message.reason for message in messages],
        "messages": [message.head for message in messages],
        "bytes": [message.size for message in messages],
        "hashes": [message.sha256 for message in messages],
    }
    conn.execute(INSERT_QUARANTINED, values)
