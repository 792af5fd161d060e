"""Noting sensitive acts: who did what to which thing, in the transaction that does it."""

from collections.abc import Mapping
from typing import Any

from shared.db import Connection
from shared.ledger.outbox import current_job, producer
from shared.observability.redaction import redact_values
from shared.queries.accounts import accounts
from shared.queries.operations import audit_logs
from shared.queries.operations.audit_logs import Act

UNNAMED, WORKER = "service", "worker"


def note(
    conn: Connection,
    action: str,
    resource: str,
    resource_id: str | None,
    what: Mapping[str, Any] | None = None,
) -> None:
    """Write an entry of the audit log; it exists if, and only if, the caller's transaction commits.

    Who acted is who publishes in this context (`published_by`), such as `cli:root`. Secrets and
    personal data are taken out of `what`, by name and by shape.

    Args:
        conn: A connection inside `db.transaction(tenant_id)`.
        action: What was done, as `noun.verb`.
        resource: The kind of thing, as its table is called.
        resource_id: Which one.
        what: Details: counts, and `before` and `after` of what changed.
    """
    act = Act(
        tenant_id=accounts.select_current_tenant(conn),
        actor=who(),
        action=action,
        resource=resource,
        resource_id=resource_id,
        what=redact_values(what or {}),
    )
    audit_logs.insert_acts(conn, [act])


def who() -> str:
    """Who acts in this context, as the audit log names them."""
    return producer.get() or (UNNAMED if current_job.get() is None else WORKER)
