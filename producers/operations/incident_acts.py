"""Incidents in the hands of operators: found, taken, closed, with who did it."""

from typing import Any

from producers.queries.operations import incidents as queries
from producers.queries.operations.incidents import IncidentFilters, IncidentRow
from shared.db import Connection
from shared.errors import PermanentError
from shared.ids import TenantId
from shared.observability.redaction import redact_values
from shared.operations import audit
from shared.queries.operations.audit_logs import AuditEntry


class IncidentNotFound(PermanentError):
    """No incident has this id."""

    code = "incident_not_found"


class IncidentOver(PermanentError):
    """The incident is resolved or closed."""

    code = "incident_over"


def found(conn: Connection, incident_id: str, tenant_id: TenantId | None = None) -> IncidentRow:
    """Return an incident, in the relay's role.

    Raises:
        IncidentNotFound: There is none, or it is not of this tenant.
    """
    wanted = IncidentFilters(id=incident_id, tenant_id=tenant_id)
    rows = queries.select_incidents(conn, wanted, limit=1)
    if not rows:
        raise IncidentNotFound(f"No incident has the id {incident_id}: see `incidents list`.")
    return rows[0]


def take(conn: Connection, incident_id: str, tenant_id: TenantId | None = None) -> IncidentRow:
    """Acknowledge an incident: it no longer escalates by time alone.

    Raises:
        IncidentNotFound: There is none, or it is not of this tenant.
        IncidentOver: It is resolved or closed.
    """
    found(conn, incident_id, tenant_id)
    answer = queries.take(conn, incident_id, audit.who())
    return _noted(conn, incident_id, answer, "take", {})


def close(
    conn: Connection, incident_id: str, reason: str, tenant_id: TenantId | None = None
) -> IncidentRow:
    """Close an incident; the same cause stays quiet for an hour unless it gets worse.

    Raises:
        IncidentNotFound: There is none, or it is not of this tenant.
        IncidentOver: It is resolved or closed.
    """
    found(conn, incident_id, tenant_id)
    answer = queries.close(conn, incident_id, audit.who(), reason)
    return _noted(conn, incident_id, answer, "close", {"reason": reason})


def _noted(
    conn: Connection,
    incident_id: str,
    answer: tuple[TenantId | None, str] | None,
    verb: str,
    what: dict[str, Any],
) -> IncidentRow:
    """Write the audit entry and return the incident's new state."""
    row = found(conn, incident_id)
    if answer is None:
        raise IncidentOver(f"The incident {incident_id} is {row.status.lower()} already.")
    tenant_id, before = answer
    change = {"before": before, "after": row.status, "cause": row.cause}
    act = AuditEntry(
        *(tenant_id, audit.who(), f"incident.{verb}", "Incident", incident_id),
        redact_values(change | what),
    )
    audit.write(conn, [act])
    return row
