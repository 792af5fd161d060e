"""Concurrency and rate limits: set, delete, and as JSON."""

import dataclasses
from typing import Any

from producers.errors import LimitNotFound
from producers.json_rows import as_document
from producers.queries.ledger import job_limits as queries
from producers.queries.ledger.job_limits import Limit
from shared.db import Connection
from shared.ids import TenantId
from shared.operations import audit
from shared.queries.accounts import accounts
from shared.queries.operations.audit_logs import AuditEntry


def put(conn: Connection, limit: Limit) -> Limit:
    """Set a limit in the caller's transaction, replacing one with the same scope.

    Returns:
        It, with its id.
    """
    done = dataclasses.replace(limit, id=queries.put(conn, limit))
    _note(conn, "limit.set", done)
    return done


def delete(conn: Connection, limit_id: str, tenant_id: TenantId | None = None) -> None:
    """Delete a limit in the caller's transaction.

    Args:
        conn: A connection in the relay's role.
        limit_id: Of the limit.
        tenant_id: Whose it must be; None for any.

    Raises:
        LimitNotFound: There is none, or it is another tenant's.
    """
    found = {limit.id: limit for limit in of_tenant(conn, tenant_id)}
    if limit_id not in found:
        raise LimitNotFound(f"No limit has the id {limit_id!r}: see `ailydian limits list`.")
    queries.delete(conn, limit_id)
    _note(conn, "limit.delete", found[limit_id])


def of_tenant(conn: Connection, tenant_id: TenantId | None) -> list[Limit]:
    """Return a tenant's own limits, or all."""
    found = queries.select_limits(conn)
    return [limit for limit in found if tenant_id in (None, limit.tenant_id)]


def document(conn: Connection, limit: Limit) -> dict[str, Any]:
    """Return a limit as JSON, with its tenant's slug."""
    found = as_document(limit)
    tenant_id: TenantId | None = found.pop("tenantId")
    slug = None if tenant_id is None else accounts.select_slug(conn, tenant_id)
    return {"id": found.pop("id"), "tenant": slug} | found


def _note(conn: Connection, action: str, limit: Limit) -> None:
    what = {name: value for name, value in as_document(limit).items() if value is not None}
    act = AuditEntry(limit.tenant_id, audit.who(), action, "JobLimit", limit.id, what)
    audit.write(conn, [act])
