"""Statements of retention: finding, archiving and deleting expired rows. In the relay's role.

Ended jobs are found by scanning "JobEvent" in its order, so that the ledger needs no index on the
end time; dead letters and quarantined messages by their indexes. Lock order: "Job"
rows by id, then what hangs on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from shared.db import Connection
from shared.ids import JobId

_READERS: Final = "retention:"


@dataclass(frozen=True, slots=True)
class Keep:
    """The retention of a queue; None leaves a time unchanged."""

    queue: str
    done: timedelta | None
    dead: timedelta | None
    quarantined: timedelta | None


@dataclass(frozen=True, slots=True)
class EventCursor:
    """The position of a scan of the events."""

    fold: str
    position: int


START: Final = EventCursor("0", 0)


@dataclass(frozen=True, slots=True)
class Ripe:
    """A scanned event: `ends` is false for a retry, `ripe` true if it has expired."""

    place: EventCursor
    xid: str
    job_id: JobId
    queue: str
    ends: bool
    ripe: bool


TAKE_TURNS: Final = """
    SELECT pg_advisory_xact_lock(hashtext('ailydian'), hashtext('retention'))
"""

INSERT_QUEUES: Final = """
    INSERT INTO "QueueState" ("queue") SELECT unnest(%(queues)s::text[])
    ON CONFLICT ("queue") DO NOTHING
"""

SELECT_KEEPS: Final = """
    SELECT q."queue", q."keepDone" AS "done", q."keepDead" AS "dead",
           q."keepQuarantined" AS "quarantined" FROM "QueueState" q
    WHERE q."queue" = ANY(%(queues)s::text[])
    ORDER BY array_position(%(queues)s::text[], q."queue")
"""


def select_keeps(conn: Connection, queues: Sequence[str]) -> list[Keep]:
    """Return the retention of these queues, in the order given; new ones get the defaults."""
    values = {"queues": list(queues)}
    conn.execute(INSERT_QUEUES, values)
    return [Keep(*row) for row in conn.execute(SELECT_KEEPS, values)]


UPDATE_KEEP: Final = """
    UPDATE "QueueState" SET "keepDone" = coalesce(%(done)s::interval, "keepDone"),
        "keepDead" = coalesce(%(dead)s::interval, "keepDead"),
        "keepQuarantined" = coalesce(%(quarantined)s::interval, "keepQuarantined")
    WHERE "queue" = %(queue)s
"""


def update_keep(conn: Connection, keep: Keep) -> None:
    """Change the retention of a queue."""
    values = {
        "queue": keep.queue,
        "done": keep.done,
        "dead": keep.dead,
        "quarantined": keep.quarantined,
    }
    conn.execute(UPDATE_KEEP, values)


SELECT_PLACE: Final = """
    SELECT "xid"::text AS "fold", "position" FROM "EventCursor"
    WHERE "reader" = 'retention:' || %(walk)s
"""


def select_place(conn: Connection, walk: str) -> EventCursor:
    """Return the position of a scan."""
    row = conn.execute(SELECT_PLACE, {"walk": walk}).fetchone()
    return START if row is None else EventCursor(*row)


# Not beyond what the other readers have read, so that nobody misses an event.
SELECT_EVENTS: Final = """
    WITH read AS (
        SELECT c."xid" AS "fold", c."position" FROM "EventCursor" c
        WHERE c."reader" NOT LIKE 'retention:%%' AND c."reader" <> 'gone'
        ORDER BY c."xid", c."position" LIMIT 1
    )
    SELECT e."fold"::text, e."position", e."xid"::text, e."jobId", e."queue",
           e."what" IN ('COMPLETED', 'CANCELLED', 'DISCARDED') AS "ends",
           e."at" < now() - %(age)s::interval AS "ripe"
    FROM ailydian_read_events(%(fold)s::text::xid8, %(position)s::bigint,
                              (SELECT max(f."fold") FROM "EventFold" f), %(limit)s) e
    WHERE NOT EXISTS (
        SELECT FROM read r WHERE (r."fold", r."position") < (e."fold", e."position"))
    ORDER BY e."fold", e."position"
"""


def select_events(
    conn: Connection, after: EventCursor, *, age: timedelta, limit: int
) -> list[Ripe]:
    """Return the next events of all queues, in order, up to what all other readers have read.

    Args:
        conn: A connection in the relay's role.
        after: The position of the scan.
        age: The age at which an event expires.
        limit: Maximum rows.
    """
    values = {"fold": after.fold, "position": after.position, "age": age, "limit": limit}
    rows = conn.execute(SELECT_EVENTS, values)
    return [Ripe(EventCursor(fold, position), *rest) for fold, position, *rest in rows]


# A job that was replayed since is not over, or its end is younger than its event.
LOCK_DONE: Final = """
    SELECT j."id" FROM "Job" j
    WHERE j."id" = ANY(%(ids)s::text[]) AND j."state" IN ('COMPLETED', 'CANCELLED')
      AND j."finishedAt" < now() - %(age)s::interval
    ORDER BY j."id" FOR UPDATE
"""


def lock_done(conn: Connection, ids: Sequence[JobId], *, age: timedelta) -> list[JobId]:
    """Return those of these jobs that ended longer than `age` ago, locked."""
    rows = conn.execute(LOCK_DONE, {"ids": list(ids), "age": age})
    return [JobId(row[0]) for row in rows]


# Along the index by time of each tenant: ripe letters only, and those of queues that keep longer.
LOCK_DEAD: Final = """
    WITH ripe AS (
        SELECT r."jobId" FROM (SELECT "id" FROM "Tenant") t
        CROSS JOIN LATERAL (
            SELECT d."jobId" FROM "DeadLetter" d
            JOIN unnest(%(queues)s::text[], %(ages)s::interval[]) AS k("queue", "age")
              ON k."queue" = d."queue"
            WHERE d."tenantId" = t."id" AND d."diedAt" < now() - %(age)s::interval
              AND d."diedAt" < now() - k."age"
            ORDER BY d."diedAt" LIMIT %(limit)s
        ) r
    )
    SELECT j."id" FROM "Job" j
    WHERE j."id" = ANY(ARRAY(SELECT "jobId" FROM ripe)) AND j."state" = 'DEAD'
    ORDER BY j."id" LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""


def lock_dead(conn: Connection, ages: dict[str, timedelta], *, limit: int) -> list[JobId]:
    """Return dead jobs whose letter has expired, locked."""
    values = {
        "queues": list(ages),
        "ages": list(ages.values()),
        "age": min(ages.values()),
        "limit": limit,
    }
    return [JobId(row[0]) for row in conn.execute(LOCK_DEAD, values)]


LOCK_QUARANTINED: Final = """
    SELECT q."id" FROM "Quarantine" q
    JOIN unnest(%(queues)s::text[], %(ages)s::interval[]) AS k("queue", "age")
      ON k."queue" = q."queue"
    WHERE q."receivedAt" < now() - %(age)s::interval
      AND q."receivedAt" < now() - k."age" AND q."seenAt" < now() - k."age"
    ORDER BY q."receivedAt" LIMIT %(limit)s FOR UPDATE OF q SKIP LOCKED
"""


def lock_quarantined(conn: Connection, ages: dict[str, timedelta], *, limit: int) -> list[str]:
    """Return quarantined messages that have expired, locked."""
    values = {
        "queues": list(ages),
        "ages": list(ages.values()),
        "age": min(ages.values()),
        "limit": limit,
    }
    return [row[0] for row in conn.execute(LOCK_QUARANTINED, values)]


# Whole rows: what a later version adds to them is archived as well.
SELECT_JOB_LINES: Final = """
    SELECT jsonb_build_object(
        'kind', CASE WHEN j."state" = 'DEAD' THEN 'dead' ELSE 'done' END,
        'archivedAt', now(),
        'tenant', (SELECT t."slug" FROM "Tenant" t WHERE t."id" = j."tenantId"),
        'job', to_jsonb(j),
        'letter', (SELECT to_jsonb(d) FROM "DeadLetter" d
                   WHERE d."tenantId" = j."tenantId" AND d."jobId" = j."id"),
        'attempts', (SELECT coalesce(jsonb_agg(to_jsonb(a) ORDER BY a."fence"), '[]')
                     FROM "JobAttempt" a WHERE a."jobId" = j."id"))::text
    FROM "Job" j WHERE j."id" = ANY(%(ids)s::text[]) ORDER BY j."id"
"""

SELECT_QUARANTINED_LINES: Final = """
    SELECT jsonb_build_object('kind', 'quarantined', 'archivedAt', now(),
        'message', (to_jsonb(q) - 'message')
                   || jsonb_build_object('base64', encode(q."message", 'base64')))::text
    FROM "Quarantine" q WHERE q."id" = ANY(%(ids)s::text[]) ORDER BY q."id"
"""


def select_job_lines(conn: Connection, ids: Sequence[JobId]) -> list[str]:
    """Return all rows of these jobs, one JSON text per job."""
    return [row[0] for row in conn.execute(SELECT_JOB_LINES, {"ids": list(ids)})]


def select_quarantined_lines(conn: Connection, ids: Sequence[str]) -> list[str]:
    """Return these messages, one JSON text each."""
    return [row[0] for row in conn.execute(SELECT_QUARANTINED_LINES, {"ids": list(ids)})]


DELETE_JOBS: Final = """
    WITH gone AS (DELETE FROM "Job" WHERE "id" = ANY(%(ids)s::text[]) RETURNING "queue")
    SELECT "queue", count(*) AS "count" FROM gone GROUP BY 1
"""

DELETE_QUARANTINED: Final = """
    WITH gone AS (DELETE FROM "Quarantine" WHERE "id" = ANY(%(ids)s::text[]) RETURNING "queue")
    SELECT "queue", count(*) AS "count" FROM gone GROUP BY 1
"""


def delete_jobs(conn: Connection, ids: Sequence[JobId]) -> dict[str, int]:
    """Delete locked jobs with their letters and attempts. Returns counts by queue."""
    return {queue: count for queue, count in conn.execute(DELETE_JOBS, {"ids": list(ids)})}


def delete_quarantined(conn: Connection, ids: Sequence[str]) -> dict[str, int]:
    """Delete locked messages. Returns counts by queue."""
    return {queue: count for queue, count in conn.execute(DELETE_QUARANTINED, {"ids": list(ids)})}


COUNT_DONE: Final = """
    SELECT "queue", count(*) AS "count" FROM "Job"
    WHERE "id" = ANY(%(ids)s::text[]) AND "state" IN ('COMPLETED', 'CANCELLED')
      AND "finishedAt" < now() - %(age)s::interval
    GROUP BY 1
"""

COUNT_DEAD: Final = """
    SELECT d."queue", count(*) AS "count" FROM "DeadLetter" d
    JOIN "Job" j ON j."id" = d."jobId" AND j."state" = 'DEAD'
    JOIN unnest(%(queues)s::text[], %(ages)s::interval[]) AS k("queue", "age")
      ON k."queue" = d."queue"
    WHERE d."diedAt" < now() - k."age" GROUP BY 1
"""

COUNT_QUARANTINED: Final = """
    SELECT q."queue", count(*) AS "count" FROM "Quarantine" q
    JOIN unnest(%(queues)s::text[], %(ages)s::interval[]) AS k("queue", "age")
      ON k."queue" = q."queue"
    WHERE q."receivedAt" < now() - k."age" AND q."seenAt" < now() - k."age" GROUP BY 1
"""


def count_done(conn: Connection, ids: Sequence[JobId], *, age: timedelta) -> dict[str, int]:
    """Count by queue the jobs that `lock_done` would return."""
    return {
        queue: count for queue, count in conn.execute(COUNT_DONE, {"ids": list(ids), "age": age})
    }


def count_dead(conn: Connection, ages: dict[str, timedelta]) -> dict[str, int]:
    """Count by queue the jobs that `lock_dead` would return."""
    values = {"queues": list(ages), "ages": list(ages.values())}
    return {queue: count for queue, count in conn.execute(COUNT_DEAD, values)}


def count_quarantined(conn: Connection, ages: dict[str, timedelta]) -> dict[str, int]:
    """Count by queue the messages that `lock_quarantined` would return."""
    values = {"queues": list(ages), "ages": list(ages.values())}
    return {queue: count for queue, count in conn.execute(COUNT_QUARANTINED, values)}


DELETE_EVENTS: Final = """
    DELETE FROM "JobEvent" e
    USING unnest(%(xids)s::text[], %(positions)s::bigint[]) AS x("xid", "position")
    WHERE e."xid" = x."xid"::xid8 AND e."position" = x."position"
"""

# Folds that the scan has left behind and whose events are all gone, by this scan or by others. The
# last one stays: the next begins where it ends.
DELETE_FOLDS: Final = """
    DELETE FROM "EventFold" f
    WHERE f."fold" >= %(fold)s::text::xid8 AND f."fold" < %(to_fold)s::text::xid8
      AND f."fold" < (SELECT max(l."fold") FROM "EventFold" l)
      AND NOT EXISTS (
          SELECT FROM unnest(coalesce(f."lows", '{0}'), coalesce(f."highs", ARRAY[f."fold"]))
                      AS r("low", "high")
          JOIN "JobEvent" e ON e."xid" >= r."low" AND e."xid" < r."high")
"""

MOVE: Final = """
    INSERT INTO "EventCursor" ("reader", "xid", "position")
    VALUES ('retention:' || %(walk)s, %(to_fold)s::text::xid8, %(to_position)s::bigint)
    ON CONFLICT ("reader") DO UPDATE
    SET "xid" = excluded."xid", "position" = excluded."position", "movedAt" = now()
"""


def pass_by(
    conn: Connection, walk: str, start: EventCursor, gone: Sequence[Ripe], to: EventCursor
) -> None:
    """Delete these events, and move the scan from its start to a position."""
    events = {"xids": [one.xid for one in gone], "positions": [one.place.position for one in gone]}
    conn.execute(DELETE_EVENTS, events)
    if gone:
        last = gone[-1].place
        conn.execute(NOTE_GONE, {"fold": last.fold, "position": last.position})
    conn.execute(DELETE_FOLDS, {"fold": start.fold, "to_fold": to.fold})
    conn.execute(MOVE, {"walk": walk, "to_fold": to.fold, "to_position": to.position})


# Who resumes before it is told so.
NOTE_GONE: Final = """
    INSERT INTO "EventCursor" AS c ("reader", "xid", "position")
    VALUES ('gone', %(fold)s::text::xid8, %(position)s::bigint)
    ON CONFLICT ("reader") DO UPDATE
    SET "xid" = excluded."xid", "position" = excluded."position", "movedAt" = now()
    WHERE (c."xid", c."position") < (excluded."xid", excluded."position")
"""

DELETE_OTHER_WALKS: Final = """
    DELETE FROM "EventCursor"
    WHERE "reader" LIKE 'retention:%%' AND "reader" <> ALL(%(readers)s::text[])
"""


def delete_other_walks(conn: Connection, walks: Sequence[str]) -> None:
    """Delete positions of scans that are no longer used."""
    conn.execute(DELETE_OTHER_WALKS, {"readers": [f"{_READERS}{walk}" for walk in walks]})


SELECT_GONE: Final = """
    SELECT c."xid"::text AS "fold", c."position" FROM "EventCursor" c WHERE c."reader" = 'gone'
"""


def select_gone(conn: Connection) -> EventCursor:
    """Return the place of the last event that was deleted: up to it, some are gone."""
    row = conn.execute(SELECT_GONE).fetchone()
    return START if row is None else EventCursor(*row)
