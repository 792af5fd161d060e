"""The audit log: entries are written in the transaction of the action."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from shared.db import Connection
from shared.ledger.outbox import current_job, producer
from shared.observability.redaction import redact, redact_values
from shared.queries.accounts import accounts
from shared.queries.operations import audit_logs
from shared.queries.operations.audit_logs import AuditEntry

UNNAMED, WORKER = "service", "worker"


def note(
    conn: Connection,
    action: str,
    resource: str,
    resource_id: str | None,
    what: Mapping[str, Any] | None = None,
) -> None:
    """Write an entry of the audit log; it exists if, and only if, the caller's transaction commits.

    The actor is the publisher of this context (`published_by`), such as `cli:root`. Secrets and
    personal data in `what` are redacted, by name and by shape.

    Args:
        conn: A connection inside `db.transaction(tenant_id)`.
        action: The action, as `noun.verb`.
        resource: The table of the resource.
        resource_id: Its id.
        what: Details: counts, and `before` and `after` of changes.
    """
    act = AuditEntry(
        tenant_id=accounts.select_current_tenant(conn),
        actor=who(),
        action=action,
        resource=resource,
        resource_id=resource_id,
        what=what or {},
    )
    write(conn, [act])


def write(conn: Connection, acts: Sequence[AuditEntry]) -> None:
    """Write entries as they are, but for secrets and personal data in `what` and `user_agent`.

    Args:
        conn: A connection of the relay or of the tenant, in the transaction of the acts.
        acts: What was done.
    """
    redacted = [
        replace(
            act,
            what=redact_values(act.what),
            user_agent=None if act.user_agent is None else redact(act.user_agent),
        )
        for act in acts
    ]
    audit_logs.insert_acts(conn, redacted)


def who() -> str:
    """Return the actor of this context, for the audit log."""
    return producer.get() or (UNNAMED if current_job.get() is None else WORKER)
