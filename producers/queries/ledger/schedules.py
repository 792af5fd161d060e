"""Cron schedules. Tenants' schedules run in their tenant's role, all others in the relay's.

A slot is claimed by locking its row; the transaction that publishes its job moves the row to the
next slot. Concurrent schedulers skip a locked row and later find it moved.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from shared.db import Connection
from shared.ids import JobId, TenantId


@dataclass(frozen=True, slots=True)
class NewSchedule:
    """The definition of a tenant's schedule; `payload` is the job's."""

    name: str
    cron: str
    time_zone: str
    jitter_s: int
    missed: str
    job: str
    payload: dict[str, Any]
    enabled: bool


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """A schedule: a tenant's job, or a sweep of the system. `next_at` is `slot_at` with jitter."""

    id: str
    tenant: str | None
    name: str
    cron: str
    time_zone: str
    jitter_s: int
    missed: str
    job: str | None
    payload: dict[str, Any]
    sweep: str | None
    enabled: bool
    slot_at: datetime
    next_at: datetime
    ran_slot_at: datetime | None
    ran_at: datetime | None
    last_job_id: JobId | None
    error: str | None


LOCK: Final = """
    SELECT s."id", NULL AS "tenant", s."name", s."cron", s."timeZone", s."jitterS", s."missed",
           s."job",
           s."payload", s."sweep", s."enabled", s."slotAt", s."nextAt", s."ranSlotAt", s."ranAt",
           s."lastJobId", s."error"
    FROM "Schedule" s
    WHERE coalesce(s."tenantId", '') = current_setting('app.tenant_id') AND s."name" = %(name)s
    FOR UPDATE
"""


def lock(conn: Connection, name: str) -> ScheduleRow | None:
    """Return and lock a schedule of the transaction's tenant, without its tenant's slug."""
    row = conn.execute(LOCK, {"name": name}).fetchone()
    return None if row is None else ScheduleRow(*row)


SELECT_OWN: Final = """
    SELECT s."id", NULL AS "tenant", s."name", s."cron", s."timeZone", s."jitterS", s."missed",
           s."job",
           s."payload", s."sweep", s."enabled", s."slotAt", s."nextAt", s."ranSlotAt", s."ranAt",
           s."lastJobId", s."error"
    FROM "Schedule" s
    WHERE coalesce(s."tenantId", '') = current_setting('app.tenant_id') AND s."name" = %(name)s
"""


def select_own(conn: Connection, name: str) -> ScheduleRow | None:
    """Return a schedule of the transaction's tenant, without its tenant's slug."""
    row = conn.execute(SELECT_OWN, {"name": name}).fetchone()
    return None if row is None else ScheduleRow(*row)


# Not now(): it is asked after a lock was waited for.
SELECT_NOW: Final = """
    SELECT clock_timestamp()
"""


def select_now(conn: Connection) -> datetime:
    """Return the current time by which slots are due."""
    row = conn.execute(SELECT_NOW).fetchone()
    assert row is not None, "a select without a table yields a row"
    found: datetime = row[0]
    return found


# Of two concurrent puts of one name the second waits here, and finds the first one's row.
INSERT_DRAFT: Final = """
    INSERT INTO "Schedule" ("name", "cron", "timeZone", "job", "enabled", "slotAt", "nextAt")
    VALUES (%(name)s, '', '', %(job)s, false, now(), now())
    ON CONFLICT (coalesce("tenantId", ''), "name") DO NOTHING
"""


def insert_draft(conn: Connection, name: str, job: str) -> bool:
    """Take a name for the transaction's tenant; `update` fills the row. Returns whether it is new.

    Its first slot depends on its id (jitter).
    """
    return conn.execute(INSERT_DRAFT, {"name": name, "job": job}).rowcount == 1


UPDATE: Final = """
    UPDATE "Schedule"
    SET "cron" = %(cron)s, "timeZone" = %(time_zone)s, "jitterS" = %(jitter_s)s,
        "missed" = %(missed)s, "job" = %(job)s, "payload" = %(payload)s::jsonb,
        "enabled" = %(enabled)s, "slotAt" = %(slot_at)s, "nextAt" = %(next_at)s, "error" = NULL
    WHERE "id" = %(id)s
"""


def update(
    conn: Connection,
    schedule_id: str,
    wanted: NewSchedule,
    *,
    slot_at: datetime,
    next_at: datetime,
) -> None:
    """Update a locked schedule and its next slot."""
    values = {
        "id": schedule_id,
        "cron": wanted.cron,
        "time_zone": wanted.time_zone,
        "jitter_s": wanted.jitter_s,
        "missed": wanted.missed,
        "job": wanted.job,
        "payload": json.dumps(wanted.payload),
        "enabled": wanted.enabled,
        "slot_at": slot_at,
        "next_at": next_at,
    }
    conn.execute(UPDATE, values)


DELETE: Final = """
    DELETE FROM "Schedule"
    WHERE coalesce("tenantId", '') = current_setting('app.tenant_id') AND "name" = %(name)s
    RETURNING "id"
"""


def delete(conn: Connection, name: str) -> str | None:
    """Delete a schedule of the transaction's tenant. Returns its id, None if it did not exist."""
    row = conn.execute(DELETE, {"name": name}).fetchone()
    return None if row is None else str(row[0])


SELECT_SCHEDULES: Final = """
    SELECT s."id", t."slug" AS "tenant", s."name", s."cron", s."timeZone", s."jitterS", s."missed",
           s."job",
           s."payload", s."sweep", s."enabled", s."slotAt", s."nextAt", s."ranSlotAt", s."ranAt",
           s."lastJobId", s."error"
    FROM "Schedule" s LEFT JOIN "Tenant" t ON t."id" = s."tenantId"
    WHERE (%(tenant_id)s::text IS NULL OR s."tenantId" = %(tenant_id)s)
      AND (coalesce(t."slug", ''), s."name") > (%(after_tenant)s::text, %(after_name)s::text)
    ORDER BY t."slug" NULLS FIRST, s."name" LIMIT %(limit)s
"""


def select_schedules(
    conn: Connection,
    tenant_id: TenantId | None,
    *,
    after: tuple[str, str] = ("", ""),
    limit: int,
) -> list[ScheduleRow]:
    """Return schedules by tenant and name: the system's first, or those of one tenant.

    Args:
        conn: A connection in the relay's role.
        tenant_id: Whose; None for all.
        after: Tenant ('' for the system) and name of the last row of the page before.
        limit: Maximum rows.
    """
    values: dict[str, object] = {"tenant_id": tenant_id, "limit": limit}
    after_tenant, after_name = after
    values |= {"after_tenant": after_tenant, "after_name": after_name}
    rows = conn.execute(SELECT_SCHEDULES, values)
    return [ScheduleRow(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class DueSchedule:
    """A schedule whose slot is due, locked; `now` is the clock it is due by."""

    id: str
    name: str
    cron: str
    time_zone: str
    jitter_s: int
    missed: str
    job: str | None
    payload: dict[str, Any]
    slot_at: datetime
    now: datetime


SELECT_DUE: Final = """
    SELECT "tenantId", "id" FROM "Schedule"
    WHERE "enabled" AND "nextAt" <= now() AND "tenantId" IS NOT NULL
    ORDER BY "nextAt" LIMIT %(limit)s
"""


def select_due(conn: Connection, *, limit: int) -> list[tuple[TenantId, str]]:
    """Return due schedules of tenants as (tenant, id), longest due first; not locked."""
    return [(tenant_id, id_) for tenant_id, id_ in conn.execute(SELECT_DUE, {"limit": limit})]


CLAIM: Final = """
    SELECT "id", "name", "cron", "timeZone", "jitterS", "missed", "job", "payload", "slotAt", now()
    FROM "Schedule"
    WHERE "id" = ANY(%(ids)s::text[]) AND "enabled" AND "nextAt" <= now()
    FOR UPDATE SKIP LOCKED
"""


def claim(conn: Connection, ids: Sequence[str]) -> list[DueSchedule]:
    """Return those of these schedules that are still due and not locked by others, locked."""
    return [DueSchedule(*row) for row in conn.execute(CLAIM, {"ids": list(ids)})]


CLAIM_SWEEP: Final = """
    SELECT "id", "name", "cron", "timeZone", "jitterS", "missed", "job", "payload", "slotAt", now()
    FROM "Schedule"
    WHERE "sweep" = %(sweep)s AND "tenantId" IS NULL AND "enabled" AND "nextAt" <= now()
    LIMIT 1 FOR UPDATE SKIP LOCKED
"""


def claim_sweep(conn: Connection, sweep: str) -> DueSchedule | None:
    """Return and lock a system sweep if it is due and not locked by others."""
    row = conn.execute(CLAIM_SWEEP, {"sweep": sweep}).fetchone()
    return None if row is None else DueSchedule(*row)


@dataclass(frozen=True, slots=True)
class ScheduleAdvance:
    """The next slot of a claimed schedule; `ran_slot_at` is None if no slot was run."""

    id: str
    slot_at: datetime
    next_at: datetime
    ran_slot_at: datetime | None
    job_id: JobId | None
    error: str | None


ADVANCE: Final = """
    UPDATE "Schedule" s
    SET "slotAt" = a."slotAt", "nextAt" = a."nextAt", "error" = a."error",
        "ranSlotAt" = coalesce(a."ranSlotAt", s."ranSlotAt"),
        "ranAt" = CASE WHEN a."ranSlotAt" IS NULL THEN s."ranAt" ELSE now() END,
        "lastJobId" = coalesce(a."jobId", s."lastJobId")
    FROM unnest(%(ids)s::text[], %(slots)s::timestamptz[], %(next)s::timestamptz[],
                %(ran)s::timestamptz[], %(jobs)s::text[], %(errors)s::text[])
         AS a("id", "slotAt", "nextAt", "ranSlotAt", "jobId", "error")
    WHERE s."id" = a."id"
"""


def advance(conn: Connection, steps: Sequence[ScheduleAdvance]) -> None:
    """Move claimed schedules to their next slots."""
    values: dict[str, object] = {
        "ids": [step.id for step in steps],
        "slots": [step.slot_at for step in steps],
        "next": [step.next_at for step in steps],
        "ran": [step.ran_slot_at for step in steps],
        "jobs": [step.job_id for step in steps],
        "errors": [step.error for step in steps],
    }
    conn.execute(ADVANCE, values)


# The slot stays: only its retry is delayed.
POSTPONE: Final = """
    UPDATE "Schedule" SET "nextAt" = now() + %(delay_s)s::float8 * interval '1 second',
        "error" = %(error)s
    WHERE "id" = %(id)s
"""


def postpone(conn: Connection, schedule_id: str, *, delay_s: float, error: str) -> None:
    """Retry a slot later, and store the error."""
    conn.execute(POSTPONE, {"id": schedule_id, "delay_s": delay_s, "error": error})


DISABLE: Final = """
    UPDATE "Schedule" SET "enabled" = false, "error" = %(error)s WHERE "id" = %(id)s
"""


def disable(conn: Connection, schedule_id: str, *, error: str) -> None:
    """Disable an invalid schedule, and store the error."""
    conn.execute(DISABLE, {"id": schedule_id, "error": error})


PAUSE: Final = """
    UPDATE "Schedule" SET "enabled" = false WHERE "id" = %(id)s
"""


def pause(conn: Connection, schedule_id: str) -> None:
    """Disable a locked schedule; what it would run stays as it is."""
    conn.execute(PAUSE, {"id": schedule_id})


NOTE: Final = """
    UPDATE "Schedule" SET "error" = %(error)s::text
    WHERE "id" = %(id)s AND "error" IS DISTINCT FROM %(error)s::text
"""


def note(conn: Connection, schedule_id: str, error: str | None) -> None:
    """Store the error of the last run of a sweep; None if it succeeded."""
    conn.execute(NOTE, {"id": schedule_id, "error": error})


SELECT_WAIT: Final = """
    SELECT extract(epoch FROM "nextAt" - clock_timestamp())::float8 FROM "Schedule"
    WHERE "enabled" AND "tenantId" IS NOT NULL ORDER BY "nextAt" LIMIT 1
"""


def select_wait(conn: Connection) -> float | None:
    """Return seconds until a tenant's schedule is due, below 0 if one is; None without any."""
    row = conn.execute(SELECT_WAIT).fetchone()
    return None if row is None else float(row[0])


# An existing row stays: an operator may have changed it.
PUT_SWEEP: Final = """
    INSERT INTO "Schedule" ("tenantId", "name", "cron", "sweep", "slotAt", "nextAt")
    VALUES (NULL, %(sweep)s, %(cron)s, %(sweep)s, now(), now())
    ON CONFLICT (coalesce("tenantId", ''), "name") DO UPDATE SET "slotAt" = now(), "nextAt" = now()
    WHERE %(at_once)s::bool AND "Schedule"."nextAt" > now()
"""


def put_sweep(conn: Connection, sweep: str, cron: str, *, at_once: bool) -> None:
    """Insert a system sweep; `at_once` also makes an existing one due now."""
    conn.execute(PUT_SWEEP, {"sweep": sweep, "cron": cron, "at_once": at_once})
