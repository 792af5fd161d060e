"""The ledger as publishers and workers use it: accept, claim, keep.

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
    limit_key: str
    cost: int
    traceparent: str


@dataclass(frozen=True, slots=True)
class Circumstances:
    """The common fields of rows that are accepted together."""

    delay_s: float
    priority: int
    parent_id: JobId | None
    batch_id: str | None
    producer: str | None


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A row that was accepted now or before."""

    id: str
    duplicate: bool
    state: str


INSERT_JOBS: Final = """
    INSERT INTO "Job" ("job", "queue", "payload", "schemaVersion", "key", "attemptsMax",
                       "limitKey", "cost", "priority", "parentId", "batchId", "producer",
                       "traceparent", "dueAt", "waitingFor")
    SELECT a."job", a."queue", a."payload"::jsonb, a."version", a."key", a."attemptsMax",
           a."limitKey", a."cost", %(priority)s::int, %(parent_id)s::text, %(batch_id)s::text,
           %(producer)s::text, a."traceparent",
           now() + %(delay_s)s::float8 * interval '1 second',
           CASE WHEN %(delay_s)s::float8 > 0 THEN 'delay' END
    FROM unnest(%(jobs)s::text[], %(queues)s::text[], %(payloads)s::text[], %(versions)s::int[],
                %(keys)s::text[], %(attempts_max)s::int[], %(limit_keys)s::text[],
                %(costs)s::int[], %(traceparents)s::text[])
         AS a("job", "queue", "payload", "version", "key", "attemptsMax", "limitKey", "cost",
              "traceparent")
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


def insert_jobs(conn: Connection, rows: Sequence[NewJob], common: Circumstances) -> list[FoundJob]:
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
            "limit_keys": [row.limit_key for row in rows],
            "costs": [row.cost for row in rows],
            "priority": common.priority,
            "parent_id": common.parent_id,
            "batch_id": common.batch_id,
            "producer": common.producer,
            "traceparents": [row.traceparent for row in rows],
            "delay_s": common.delay_s,
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
# state is PENDING until the claim, so a second copy of the message finds nothing; one that waits in
# the outbox again, given back or parked, is begun by its next message alone. What was paused while
# it lay in Redis is left as well: the relay takes it back.
CLAIM: Final = """
    WITH mine AS (
        SELECT j."id" FROM unnest(%(ids)s::text[], %(attempts)s::int[]) AS m("id", "attempt")
        JOIN "Job" j ON j."id" = m."id" JOIN "JobFlight" f ON f."jobId" = j."id"
        WHERE j."state" = 'PENDING' AND j."attempt" = m."attempt" AND NOT EXISTS (
            SELECT FROM "JobHold" h
            WHERE (h."queue" IS NULL OR h."queue" = j."queue")
              AND (h."tenantId" IS NULL OR h."tenantId" = j."tenantId")
              AND (h."job" IS NULL OR h."job" = j."job"))
        ORDER BY j."id" FOR UPDATE OF j SKIP LOCKED
    )
    UPDATE "Job" j
    SET "state" = 'RUNNING', "attempt" = j."attempt" + 1, "fence" = j."fence" + 1,
        "leaseUntil" = now() + %(lease_s)s::float8 * interval '1 second',
        "startedAt" = clock_timestamp(), "worker" = %(worker)s::text, "waitingFor" = NULL
    FROM mine WHERE j."id" = mine."id"
    RETURNING j."id" AS "jobId", j."tenantId", j."job", j."queue", j."payload", j."schemaVersion",
              j."attempt", j."attemptsMax", j."crashes", j."fence", j."stepId", j."createdAt",
              j."traceparent", j."timeLimitS", j."backoffS"
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
        Those that were still waiting for that attempt, with the fields of
        `shared.ledger.outbox.Lease` in its order; the others are stale.
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


RENEW: Final = """
    UPDATE "Job" j SET "leaseUntil" = now() + %(lease_s)s::float8 * interval '1 second'
    FROM unnest(%(ids)s::text[], %(fences)s::bigint[]) AS m("id", "fence")
    WHERE j."id" = m."id" AND j."fence" = m."fence" AND j."state" = 'RUNNING'
"""


def renew(conn: Connection, held: Sequence[tuple[JobId, int]], *, lease_s: float) -> int:
    """Renew leases, as (job id, fence). Returns how many were still held."""
    ids, fences = [job_id for job_id, _ in held], [fence for _, fence in held]
    return conn.execute(RENEW, {"ids": ids, "fences": fences, "lease_s": lease_s}).rowcount


SELECT_CLAIMED: Final = """
    SELECT j."id" AS "jobId", j."fence" FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId"
    WHERE j."worker" = %(worker)s AND j."state" = 'RUNNING'
    ORDER BY j."id" LIMIT %(limit)s
"""


def select_claimed(
    conn: Connection, worker: str, *, limit: int = 10_000
) -> list[tuple[JobId, int]]:
    """The running jobs of a worker process, as (job id, fence)."""
    rows = conn.execute(SELECT_CLAIMED, {"worker": worker, "limit": limit})
    return [(job_id, fence) for job_id, fence in rows]


SELECT_CANCELLED: Final = """
    SELECT j."id" FROM "Job" j WHERE j."id" = ANY(%(ids)s::text[]) AND j."state" = 'CANCELLED'
"""


def select_cancelled(conn: Connection, ids: list[JobId]) -> list[JobId]:
    """Those of the jobs that were cancelled while they ran."""
    return [row[0] for row in conn.execute(SELECT_CANCELLED, {"ids": ids})]


SET_OUTCOME: Final = """
    UPDATE "Job" SET "outcome" = %(outcome)s::jsonb WHERE "id" = %(id)s AND "fence" = %(fence)s
"""


def set_outcome(conn: Connection, job_id: JobId, fence: int, outcome: str) -> None:
    """Store the result of a job, as JSON text, in the transaction of its receipt."""
    conn.execute(SET_OUTCOME, {"id": job_id, "fence": fence, "outcome": outcome})


SET_OUTCOMES: Final = """
    UPDATE "Job" j SET "outcome" = m."outcome"
    FROM unnest(%(ids)s::text[], %(fences)s::bigint[], %(outcomes)s::jsonb[])
         AS m("id", "fence", "outcome")
    WHERE j."id" = m."id" AND j."fence" = m."fence"
"""


def set_outcomes(conn: Connection, outcomes: Sequence[tuple[JobId, int, str]]) -> None:
    """As `set_outcome`, for the jobs that a batch actor did together: (id, fence, JSON text)."""
    values: dict[str, object] = {
        "ids": [job_id for job_id, _, _ in outcomes],
        "fences": [fence for _, fence, _ in outcomes],
        "outcomes": [outcome for _, _, outcome in outcomes],
    }
    conn.execute(SET_OUTCOMES, values)
