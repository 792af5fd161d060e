"""Tenants' schedules: put, delete, and run due slots. Each slot publishes one job."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby

import psycopg
import structlog

from producers.ledger import schedule_slots
from producers.ledger.schedule_slots import CronRefused, TimeZoneUnknown, Timing
from producers.queries.ledger import schedules as queries
from producers.queries.ledger.schedules import (
    DueSchedule,
    NewSchedule,
    ScheduleAdvance,
    ScheduleRow,
)
from shared import db
from shared.contracts import contract_named
from shared.db import Connection, Role
from shared.errors import PayloadRefused, PayloadTooLarge, QueueFull, TenantNotFound, UnknownJob
from shared.ids import JobId, TenantId
from shared.ledger import outbox

log = structlog.get_logger()

DUE_MAX = 1_000
# Schedules of one tenant that are claimed in one transaction.
CLAIM_MAX = 100
POSTPONED_S = 5.0


def put(conn: Connection, wanted: NewSchedule) -> ScheduleRow:
    """Create or update a schedule in the transaction of its tenant.

    A schedule whose times do not change keeps its next slot, even if that is due. Otherwise it
    continues with the first slot after now.

    Raises:
        CronRefused: Invalid expression or jitter.
        TimeZoneUnknown: The message suggests the nearest.
        PayloadRefused: The payload does not fit the job's contract.
        UnknownJob: No contract has this name.
    """
    contract = contract_named(wanted.job)
    contract.from_payload(wanted.payload, contract.schema_version)
    schedule_slots.check(_timing(wanted), queries.select_now(conn))
    # A new row waits, disabled, for the time that its id decides.
    queries.insert_draft(conn, wanted.name, wanted.job)
    found = queries.lock(conn, wanted.name)
    assert found is not None, "inserted now or earlier"
    if found.enabled and _timing(found) == replace(_timing(wanted), missed=found.missed):
        slot_at, next_at = found.slot_at, found.next_at
    else:
        # Not before what ran last: a slot that was run is not run again under another cron.
        now = queries.select_now(conn)
        ran = found.ran_slot_at
        after = max(now, ran) if ran and schedule_slots.in_range(ran, now) else now
        begin = schedule_slots.first(found.id, _timing(wanted), after)
        slot_at, next_at = begin.slot_at, begin.next_at
    queries.update(conn, found.id, wanted, slot_at=slot_at, next_at=next_at)
    put_row = queries.lock(conn, wanted.name)
    assert put_row is not None, "updated in this transaction"
    return put_row


def run_due() -> int:
    """Publish the jobs of all due slots that no other scheduler has locked.

    Returns:
        Number of slots run.
    """
    with db.transaction(None, role=Role.RELAY) as conn:
        due = sorted(queries.select_due(conn, limit=DUE_MAX))
    total = 0
    for tenant_id, group in groupby(due, key=lambda pair: pair[0]):
        ids = [schedule_id for _, schedule_id in group]
        for start in range(0, len(ids), CLAIM_MAX):
            total += _run_some(tenant_id, ids[start : start + CLAIM_MAX])
    return total


def wait_s() -> float | None:
    """Return seconds until a slot is due, below 0 if one is; None without any schedule."""
    with db.transaction(None, role=Role.RELAY) as conn:
        return queries.select_wait(conn)


def _run_some(tenant_id: TenantId, ids: Sequence[str]) -> int:
    """Run these schedules in one transaction; if one cannot be run, each in its own."""
    try:
        return _run(tenant_id, ids)
    except (QueueFull, CronRefused, TimeZoneUnknown, TenantNotFound, psycopg.Error) as error:
        if len(ids) == 1:
            _set_aside(tenant_id, ids[0], error)
            return 0
    return sum(_run_some(tenant_id, [schedule_id]) for schedule_id in ids)


def _run(tenant_id: TenantId, ids: Sequence[str]) -> int:
    # What a crash of Postgres takes back, the slot and its job together, is run again.
    with db.transaction(tenant_id, durable=False) as conn:
        found = queries.claim(conn, ids)
        steps = [_step(conn, schedule) for schedule in found]
        if steps:
            queries.advance(conn, steps)
    return sum(step.ran_slot_at is not None for step in steps)


def _step(conn: Connection, schedule: DueSchedule) -> ScheduleAdvance:
    """Publish the due slots of a claimed schedule. Returns its next slot."""
    plan = schedule_slots.plan(schedule.id, _timing(schedule), schedule.slot_at, schedule.now)
    error, job_ids = plan.note, list[JobId]()
    if plan.runs:
        try:
            job_ids = _publish(conn, schedule, plan.runs)
        except (PayloadRefused, PayloadTooLarge, UnknownJob) as refused:
            # Nothing reached the database: the transaction goes on, without these slots.
            error = str(refused)
            log.warning("schedule.refused", schedule=schedule.name, error=error)
    return ScheduleAdvance(
        id=schedule.id,
        slot_at=plan.slot_at,
        next_at=plan.next_at,
        ran_slot_at=plan.runs[-1] if job_ids else None,
        job_id=job_ids[-1] if job_ids else None,
        error=error,
    )


def _publish(conn: Connection, schedule: DueSchedule, runs: Sequence[datetime]) -> list[JobId]:
    assert schedule.job is not None, "a tenant's schedule names a job"
    contract = contract_named(schedule.job)
    job = contract.from_payload(schedule.payload, contract.schema_version)
    keys = [f"schedule:{schedule.id}:{slot.isoformat()}" for slot in runs]
    with outbox.published_by(f"schedule:{schedule.name}"):
        published = outbox.publish_many(conn, [job] * len(keys), keys=keys)
    return [one.id for one in published]


def _set_aside(tenant_id: TenantId, schedule_id: str, error: Exception) -> None:
    """Isolate a failing schedule: disable it, or retry its slot later."""
    hopeless = isinstance(error, CronRefused | TimeZoneUnknown | TenantNotFound)
    log.warning(
        "schedule.set_aside", schedule=schedule_id, stopped=hopeless, error=db.sentence(error)
    )
    with db.transaction(tenant_id) as conn:
        if hopeless:
            queries.disable(conn, schedule_id, error=db.sentence(error))
        else:
            queries.postpone(conn, schedule_id, delay_s=POSTPONED_S, error=db.sentence(error))


def _timing(row: NewSchedule | ScheduleRow | DueSchedule) -> Timing:
    return Timing(row.cron, row.time_zone, row.jitter_s, row.missed)
