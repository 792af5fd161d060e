"""Schedules of a tenant as operators change them: put, deleted, paused, with who did it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from producers.errors import ScheduleNotFound
from producers.json_rows import as_document
from producers.ledger import schedules
from producers.queries.ledger import schedules as queries
from producers.queries.ledger.schedules import NewSchedule, ScheduleRow
from shared.contracts import StartWorkflow
from shared.db import Connection
from shared.errors import WorkflowNotFound
from shared.ids import TenantId
from shared.operations import audit
from shared.queries.operations.audit_logs import AuditEntry
from shared.queries.workflow import workflows


def put(conn: Connection, tenant_id: TenantId, slug: str, wanted: NewSchedule) -> ScheduleRow:
    """Create or update a schedule in the transaction of its tenant.

    Raises:
        CronRefused: Invalid expression or jitter.
        TimeZoneUnknown: The message suggests the nearest.
        PayloadRefused: The payload does not fit the job's contract.
        UnknownJob: No contract has this name.
        WorkflowNotFound: It starts a workflow that the tenant does not have.
    """
    if wanted.job == StartWorkflow.actor_name:
        _check_workflow(conn, slug, wanted.payload.get("name"))
    row = schedules.put(conn, wanted)
    what = as_document(wanted)
    # The payload is the tenant's data and does not belong in the audit log.
    del what["payload"]
    _note(conn, tenant_id, "schedule.put", row.id, what)
    return replace(row, tenant=slug)


def switch(
    conn: Connection, tenant_id: TenantId, slug: str, name: str, *, enabled: bool
) -> ScheduleRow:
    """Pause or resume a schedule in the transaction of its tenant; slots meanwhile are skipped.

    One that fits its job or its workflow no more can still be paused.

    Raises:
        ScheduleNotFound: The tenant has none of this name.
        AilydianError: It is to be resumed and is not valid, see `put`.
    """
    row = queries.lock(conn, name)
    if row is None:
        raise missing(slug, name)
    if row.enabled == enabled:
        return replace(row, tenant=slug)
    if not enabled:
        queries.pause(conn, row.id)
        _note(conn, tenant_id, "schedule.pause", row.id, {"name": name})
        return replace(row, tenant=slug, enabled=False)
    assert row.job is not None, "a tenant's schedule names a job"
    wanted = NewSchedule(
        name=row.name,
        cron=row.cron,
        time_zone=row.time_zone,
        jitter_s=row.jitter_s,
        missed=row.missed,
        job=row.job,
        payload=row.payload,
        enabled=True,
    )
    return put(conn, tenant_id, slug, wanted)


def delete(conn: Connection, tenant_id: TenantId, slug: str, name: str) -> str:
    """Delete a schedule in the transaction of its tenant. Returns its id.

    Raises:
        ScheduleNotFound: The tenant has none of this name.
    """
    schedule_id = queries.delete(conn, name)
    if schedule_id is None:
        raise missing(slug, name)
    _note(conn, tenant_id, "schedule.delete", schedule_id, {"name": name})
    return schedule_id


def found(conn: Connection, slug: str, name: str) -> ScheduleRow:
    """Return a schedule in the transaction of its tenant.

    Raises:
        ScheduleNotFound: The tenant has none of this name.
    """
    row = queries.select_own(conn, name)
    if row is None:
        raise missing(slug, name)
    return replace(row, tenant=slug)


def missing(slug: str, name: str) -> ScheduleNotFound:
    """Return the error of a schedule that the tenant does not have."""
    return ScheduleNotFound(
        f"Tenant {slug} has no schedule {name!r}: see `ailydian schedule list`."
    )


def document(row: ScheduleRow) -> dict[str, Any]:
    """Return a schedule as JSON."""
    found = as_document(row)
    found["jitterSeconds"] = found.pop("jitterS")
    return found


def _check_workflow(conn: Connection, slug: str, name: object) -> None:
    if isinstance(name, str) and not (
        workflows.select_newest(conn, name) or workflows.select_unread(conn, name)
    ):
        raise WorkflowNotFound(
            f"Tenant {slug} has no workflow {name!r}: `ailydian workflow put` one first."
        )


def _note(
    conn: Connection, tenant_id: TenantId, action: str, schedule_id: str, what: Mapping[str, Any]
) -> None:
    audit.write(conn, [AuditEntry(tenant_id, audit.who(), action, "Schedule", schedule_id, what)])
