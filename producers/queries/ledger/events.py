"""Job events, in an order that can be read without gaps.

The order is that of the folds of "EventFold", and by "position" within a fold. A transaction that
began earlier may commit later: its events are of a later fold, so no reader waits for it.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from shared.db import Connection
from shared.ids import JobId, TenantId

# Upper bounds of the histograms in "JobStat", in seconds; one bucket more holds what is above.
BOUNDS_S: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
    *(2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0),
)
# After so many seconds without a job, "donePerS" means 37 % of what it says. It is of the moment
# "foldedAt": who reads it later lets it fade by exp(-(now - foldedAt) / RATE_S).
RATE_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class CountedEvents:
    """The result of counting: events counted, whether more wait, and their tenants."""

    events: int
    more: bool
    tenants: list[TenantId]


PLACE: Final = """
    SELECT ailydian_place_events()
"""

HAS_NEWS: Final = """
    SELECT EXISTS (
        SELECT FROM ailydian_read_events(c."xid", c."position", (
            SELECT max(f."fold") FROM "EventFold" f), 1))
    FROM "EventCursor" c WHERE c."reader" = 'counters'
"""

PUT_CURSOR: Final = """
    INSERT INTO "EventCursor" ("reader", "xid", "position") VALUES ('counters', '0', 0)
    ON CONFLICT DO NOTHING
"""

WAIT_BRIEFLY: Final = """
    SELECT set_config('lock_timeout', %(milliseconds)s::text, true)
"""

# A kind that no process has registered is counted as 'unknown': such names come from outside.
# Only what happened to jobs is counted: the others have a "_" in their "what".
# One statement: it locks the cursor's row, counts from there and moves it. So no event counts
# twice, and none is left out.
FOLD: Final = """
    WITH cursor AS MATERIALIZED (
        SELECT c."xid", c."position" FROM "EventCursor" c
        WHERE c."reader" = 'counters' FOR UPDATE SKIP LOCKED
    ), news AS MATERIALIZED (
        SELECT e.* FROM cursor c CROSS JOIN LATERAL ailydian_read_events(
            c."xid", c."position", (SELECT max(f."fold") FROM "EventFold" f), %(limit)s) e
    ), kind AS MATERIALIZED (
        SELECT k."job" FROM "JobKind" k UNION SELECT unnest(%(known)s::text[])
    ), alike AS MATERIALIZED (
        SELECT coalesce(k."job", 'unknown') AS "job", e."what",
               max(e."queue") AS "queue", count(*) AS "n",
               width_bucket(e."tookS"::float8, %(bounds)s::float8[]) AS "took",
               width_bucket(e."waitedS"::float8, %(bounds)s::float8[]) AS "waited",
               sum(e."tookS") AS "tookS", sum(e."waitedS") AS "waitedS", max(e."at") AS "at"
        FROM news e LEFT JOIN kind k ON k."job" = e."job"
        WHERE strpos(e."what", '_') = 0 GROUP BY 1, e."what", 5, 6
    ), kinds AS (
        SELECT a."job", max(a."queue") AS "queue", max(a."at") AS "at",
               coalesce(sum(a."n") FILTER (WHERE a."what" = 'COMPLETED'), 0) AS "completed",
               coalesce(sum(a."n") FILTER (WHERE a."what" = 'DEAD'), 0) AS "dead",
               coalesce(sum(a."n") FILTER (WHERE a."what" IN ('CANCELLED', 'DISCARDED')), 0)
                   AS "cancelled",
               coalesce(sum(a."n") FILTER (WHERE a."what" = 'RETRY'), 0) AS "retried",
               coalesce(sum(a."tookS"), 0) AS "tookS", coalesce(sum(a."waitedS"), 0) AS "waitedS"
        FROM alike a GROUP BY a."job"
    ), counted AS (
        SELECT b."job", b."bucket", sum(b."took")::bigint AS "took",
               sum(b."waited")::bigint AS "waited"
        FROM (
            SELECT a."job", a."took" AS "bucket", a."n" AS "took", 0 AS "waited" FROM alike a
            WHERE a."took" IS NOT NULL
            UNION ALL
            SELECT a."job", a."waited", 0, a."n" FROM alike a WHERE a."waited" IS NOT NULL
            UNION ALL
            SELECT k."job", g.g, 0, 0
            FROM kinds k CROSS JOIN generate_series(0, cardinality(%(bounds)s::float8[])) g
        ) b GROUP BY 1, 2
    ), buckets AS (
        SELECT c."job", array_agg(c."took" ORDER BY c."bucket") AS "took",
               array_agg(c."waited" ORDER BY c."bucket") AS "waited"
        FROM counted c GROUP BY c."job"
    ), stats AS (
        INSERT INTO "JobStat" AS s ("job", "queue", "completed", "dead", "cancelled", "retried",
            "tookS", "waitedS", "tookBuckets", "waitedBuckets", "donePerS", "foldedAt")
        SELECT k."job", k."queue", k."completed", k."dead", k."cancelled", k."retried",
               k."tookS", k."waitedS", b."took", b."waited",
               k."completed" / %(rate_s)s::float8, k."at"
        FROM kinds k JOIN buckets b USING ("job")
        ON CONFLICT ("job") DO UPDATE
        SET "queue" = excluded."queue",
            "completed" = s."completed" + excluded."completed",
            "dead" = s."dead" + excluded."dead",
            "cancelled" = s."cancelled" + excluded."cancelled",
            "retried" = s."retried" + excluded."retried",
            "tookS" = s."tookS" + excluded."tookS",
            "waitedS" = s."waitedS" + excluded."waitedS",
            "tookBuckets" = (SELECT array_agg(u.a + u.b ORDER BY u.n)
                FROM unnest(s."tookBuckets", excluded."tookBuckets") WITH ORDINALITY u(a, b, n)),
            "waitedBuckets" = (SELECT array_agg(u.a + u.b ORDER BY u.n)
                FROM unnest(s."waitedBuckets", excluded."waitedBuckets")
                     WITH ORDINALITY u(a, b, n)),
            "donePerS" = (
                SELECT s."donePerS" * exp(-passed.s / %(rate_s)s::float8)
                       + CASE WHEN passed.s < 0.001 THEN excluded."donePerS"
                              ELSE excluded."completed" / passed.s
                                   * (1 - exp(-passed.s / %(rate_s)s::float8)) END
                FROM (SELECT least(1e4, greatest(0, extract(
                    epoch FROM excluded."foldedAt" - s."foldedAt")))::float8 AS s) passed),
            "foldedAt" = greatest(s."foldedAt", excluded."foldedAt")
    ), ends AS MATERIALIZED (
        SELECT e."tenantId", e."batchId",
               count(*) FILTER (WHERE e."what" = 'COMPLETED') AS "completed",
               count(*) FILTER (WHERE e."what" = 'DEAD')
                   - count(*) FILTER (WHERE e."what" IN ('REPLAYED', 'DISCARDED')) AS "dead",
               count(*) FILTER (WHERE e."what" IN ('CANCELLED', 'DISCARDED')) AS "cancelled",
               (array_agg(e."jobId" ORDER BY e."fold" DESC, e."position" DESC))[1] AS "jobId"
        FROM news e WHERE e."batchId" IS NOT NULL AND e."what" NOT IN ('RETRY', 'BATCH_FINISHED')
        GROUP BY 1, 2
    ), batches AS (
        UPDATE "JobBatch" b
        SET "completed" = b."completed" + e."completed", "dead" = b."dead" + e."dead",
            "cancelled" = b."cancelled" + e."cancelled"
        FROM ends e WHERE b."tenantId" = e."tenantId" AND b."id" = e."batchId"
        RETURNING b.*, e."jobId"
    ), moved AS (
        UPDATE "EventCursor" c SET "xid" = l."fold", "position" = l."position", "movedAt" = now()
        FROM (SELECT e."fold", e."position" FROM news e
              ORDER BY e."fold" DESC, e."position" DESC LIMIT 1) l
        WHERE c."reader" = 'counters'
    ), notified AS (
        SELECT t."tenantId", pg_notify('ailydian_events', t."tenantId")
        FROM (SELECT DISTINCT e."tenantId" FROM news e) t
    )
    SELECT (SELECT count(*) FROM news) AS "events",
           ARRAY(SELECT t."tenantId" FROM notified t) AS "tenants",
           ARRAY(SELECT b."tenantId" FROM batches b WHERE b."sealedAt" IS NOT NULL
                 AND b."completed" + b."dead" + b."cancelled" = b."total"
                 AND b."finishedAt" IS NULL ORDER BY b."tenantId", b."id") AS "endedTenants",
           ARRAY(SELECT b."id" FROM batches b WHERE b."sealedAt" IS NOT NULL
                 AND b."completed" + b."dead" + b."cancelled" = b."total"
                 AND b."finishedAt" IS NULL ORDER BY b."tenantId", b."id") AS "endedBatches",
           ARRAY(SELECT b."jobId" FROM batches b WHERE b."sealedAt" IS NOT NULL
                 AND b."completed" + b."dead" + b."cancelled" = b."total"
                 AND b."finishedAt" IS NULL ORDER BY b."tenantId", b."id") AS "endedJobs"
"""


@dataclass(frozen=True, slots=True)
class EndedBatch:
    """A batch whose jobs have all ended, and its last job."""

    tenant_id: TenantId
    batch_id: str
    job_id: JobId


def place(conn: Connection) -> bool:
    """Give the events committed since the last fold their place. Returns whether there were any.

    Nothing is done while another process places, or in a transaction that is REPEATABLE READ.
    """
    row = conn.execute(PLACE).fetchone()
    return row is not None and bool(row[0])


def has_news(conn: Connection) -> bool:
    """Whether there are events to count; the first call creates the cursor."""
    row = conn.execute(HAS_NEWS).fetchone()
    if row is None:
        conn.execute(PUT_CURSOR)
        row = conn.execute(HAS_NEWS).fetchone()
    return row is not None and bool(row[0])


def wait_briefly(conn: Connection, seconds: float) -> None:
    """Set the lock timeout of this transaction."""
    conn.execute(WAIT_BRIEFLY, {"milliseconds": f"{seconds * 1000:.0f}"})


def fold(
    conn: Connection, known: list[str], *, limit: int
) -> tuple[CountedEvents, list[EndedBatch]]:
    """Count the next events exactly once.

    Args:
        conn: A connection in the relay's role.
        known: Kinds of jobs that this process knows, besides those that the database was told of.
        limit: Maximum events.

    Returns:
        The result, and the batches that ended; nothing while another relay counts.

    Raises:
        LockNotAvailable: Of psycopg: a batch was locked for longer than `wait_briefly` allows.
    """
    values = {"known": known, "limit": limit, "bounds": list(BOUNDS_S), "rate_s": RATE_S}
    row = conn.execute(FOLD, values).fetchone()
    assert row is not None, "a select without a table yields a row"
    events, tenants, ended_tenants, ended_batches, ended_jobs = row
    ended = zip(ended_tenants, ended_batches, ended_jobs, strict=True)
    batches = [EndedBatch(tenant_id, batch_id, job_id) for tenant_id, batch_id, job_id in ended]
    return CountedEvents(events, events >= limit, tenants), batches


class Position(NamedTuple):
    """A position in the order of events; everything up to it has been read."""

    fold: int
    position: int

    def __str__(self) -> str:
        return f"{self.fold}-{self.position}"

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Parse the output of `str`.

        Raises:
            ValueError: Invalid position.
        """
        match = re.fullmatch(r"(\d{1,19})-(\d{1,19})", text, re.ASCII)
        if match is None or int(match[2]) > POSITION_MAX:
            raise ValueError(f"invalid position {text!r}: use an event's position, such as 812-3")
        return cls(int(match[1]), int(match[2]))


BEGINNING: Final = Position(0, 0)
# What an event may be of: the part of `what` before the "_", or a job.
SUBJECTS: Final = ("job", "batch", "run", "step", "incident")
POSITION_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Event:
    """An event, with ids and names only.

    Attributes:
        position: Its position; following after it continues with the next.
        tenant_id: Its tenant; "" for an incident that is of none.
        job_id: The job, or what else it is of; a step's id begins with its run's and a "/".
        job: The job's kind; a step's name, a batch's, an incident's cause.
        queue: Its queue.
        what: COMPLETED, DEAD, CANCELLED, RETRY, REPLAYED or DISCARDED; of others RUN_COMPLETED,
            RUN_FAILED, RUN_CANCELLED, STEP_COMPLETED, STEP_FAILED, STEP_SKIPPED, STEP_CANCELLED,
            BATCH_FINISHED, INCIDENT_OPENED, INCIDENT_ESCALATED or INCIDENT_RESOLVED.
        batch_id: Its batch, if any.
        waited_s: Seconds from due to the start of the completing attempt.
        took_s: Duration of the attempt that ended, in seconds.
        at: Time of the event.
    """

    position: Position
    tenant_id: TenantId
    job_id: JobId
    job: str
    queue: str
    what: str
    batch_id: str | None
    waited_s: float | None
    took_s: float | None
    at: datetime

    @property
    def subject(self) -> str:
        """What it is of: one of `SUBJECTS`."""
        head, separator, _ = self.what.partition("_")
        return head.lower() if separator else "job"


# The last row of a full page is always returned: it is the end of the page.
SELECT_EVENTS: Final = """
    WITH page AS MATERIALIZED (
        SELECT e.*, row_number() OVER (ORDER BY e."fold", e."position") AS "n"
        FROM ailydian_read_events(%(fold)s::text::xid8, %(position)s::bigint,
                                  %(to)s::text::xid8, %(limit)s) e
    )
    SELECT p."fold"::text, p."position", p."tenantId", p."jobId", p."job", p."queue", p."what",
           p."batchId", p."waitedS", p."tookS", p."at", p."n" FROM page p
    WHERE p."n" = %(limit)s
       OR (%(job_id)s::text IS NULL OR p."jobId" = %(job_id)s)
      AND (%(batch_id)s::text IS NULL OR p."batchId" = %(batch_id)s)
      AND (%(any_id)s::text IS NULL OR p."jobId" = %(any_id)s OR p."batchId" = %(any_id)s
           OR starts_with(p."jobId", %(any_id)s || '/'))
    ORDER BY p."n"
"""

SELECT_LAST_FOLD: Final = """
    SELECT coalesce(max(f."fold")::text, '0') AS "fold" FROM "EventFold" f
"""


@dataclass(frozen=True, slots=True)
class EventFilters:
    """Filters of events; None means any.

    Attributes:
        job_id: Of this job, or what else it is of.
        batch_id: Of this batch.
        any_id: Of this job, batch, run with its steps, step with its items, or incident.
        subjects: Of these.
    """

    job_id: JobId | None = None
    batch_id: str | None = None
    any_id: str | None = None
    subjects: frozenset[str] | None = None

    def match(self, event: Event) -> bool:
        """Return whether an event is wanted."""
        return (
            self.job_id in (None, event.job_id)
            and self.batch_id in (None, event.batch_id)
            and (
                self.any_id is None
                or self.any_id in (event.job_id, event.batch_id)
                or event.job_id.startswith(f"{self.any_id}/")
            )
            and (self.subjects is None or event.subject in self.subjects)
        )


@dataclass(frozen=True, slots=True)
class Page:
    """Matching events, the position up to which all is read, and whether more may wait."""

    events: list[Event]
    end: Position
    full: bool


def select_events(conn: Connection, after: Position, wanted: EventFilters, *, limit: int) -> Page:
    """Return the matching events among the next visible ones, in order.

    Args:
        conn: A connection in the relay's role, or a tenant's.
        after: The position to resume after.
        wanted: Filters.
        limit: Maximum events to read, >= 1. Fewer means that everything readable was read.
    """
    last = select_end(conn)
    if last <= after:
        return Page([], after, full=False)
    values = {
        "fold": str(after.fold),
        "position": after.position,
        "to": str(last.fold),
        "limit": limit,
        "job_id": wanted.job_id,
        "batch_id": wanted.batch_id,
        "any_id": wanted.any_id,
    }
    rows = conn.execute(SELECT_EVENTS, values).fetchall()
    found = [Event(Position(int(fold), position), *rest) for fold, position, *rest, _ in rows]
    full = [n for *_, n in rows[-1:]] == [limit]
    end = found[-1].position if full else last
    return Page([event for event in found if wanted.match(event)], max(after, end), full)


def select_end(conn: Connection) -> Position:
    """Return the current end, to read only new events."""
    row = conn.execute(SELECT_LAST_FOLD).fetchone()
    assert row is not None, "an aggregate yields a row"
    return Position(int(row[0]), POSITION_MAX)


def select_last(conn: Connection, upto: Position) -> Position:
    """Return a position, or the current end if it is beyond.

    Where a server that lost its last commits has taken over, new events come at places that were
    read already.
    """
    return min(upto, select_end(conn))
