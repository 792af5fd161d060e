"""Tenants: created, changed, listed, deleted, each noted in the audit log."""

import re
from collections.abc import Mapping
from typing import Any

from producers.errors import TenantInUse
from producers.queries.accounts import api_keys
from shared import db
from shared.db import Connection, Role
from shared.errors import UsageError
from shared.ids import TenantId
from shared.operations import audit
from shared.queries.accounts import accounts
from shared.queries.accounts.accounts import TenantRow
from shared.queries.operations.audit_logs import AuditEntry

TIERS = ("FREE", "PRO", "ENTERPRISE")
SLUG = r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$"  # also in the OpenAPI document


class SlugRefused(UsageError):
    """The slug of a tenant is invalid."""

    code = "slug_refused"


def put(
    conn: Connection, slug: str, *, name: str | None, tier: str | None
) -> tuple[TenantRow, bool]:
    """Create a tenant, or set name and tier, where not None, of the one with this slug.

    Args:
        conn: In the owner's role.
        slug: Of the tenant.
        name: For people.
        tier: One of TIERS.

    Returns:
        The tenant, and whether it is new.

    Raises:
        SlugRefused: The slug is invalid.
    """
    if not re.fullmatch(SLUG, slug):
        raise SlugRefused(
            f"invalid slug {slug!r}: use lower-case letters, digits and inner hyphens, at most 63."
        )
    known = accounts.select_tenants(conn, slug)
    row, created = accounts.put_tenant(conn, slug, name=name, tier=tier)
    before = {"name": known[0].name, "tier": known[0].tier} if known else None
    after = {"name": row.name, "tier": row.tier}
    if before != after:
        what = {"before": before, "after": after}
        _note(conn, row.id, "tenant.create" if created else "tenant.change", row.id, what)
    return row, created


def list_page(after: str = "", *, limit: int) -> list[TenantRow]:
    """Return tenants by slug, those after one."""
    with db.transaction(None, role=Role.OWNER) as conn:
        return accounts.select_tenants(conn, after=after, limit=limit)


def slug_of(tenant_id: TenantId) -> str:
    """Return the slug of a tenant that is known to exist."""
    with db.transaction(None, role=Role.RELAY) as conn:
        found = accounts.select_slug(conn, tenant_id)
    assert found is not None, "the caller has looked the tenant up"
    return found


def adopt(tenant_id: TenantId) -> dict[str, int]:
    """Assign the platform's rows that have no tenant to this one. Returns how many of each kind."""
    with db.transaction(None, role=Role.OWNER) as conn:
        adopted = accounts.adopt(conn, tenant_id)
        _note(conn, tenant_id, "tenant.adopt", tenant_id, adopted)
    return adopted


def delete(tenant_id: TenantId, slug: str) -> None:
    """Delete a tenant with its documents, workflows and jobs.

    Its keys are revoked: one that is left without a tenant would act for all, or for its owner's.

    Raises:
        TenantInUse: It still has users.
    """
    with db.transaction(None, role=Role.OWNER) as conn:
        accounts.lock_tenant(conn, tenant_id)
        keys = api_keys.insert_revocations(conn, tenant_id, audit.who())
        people = accounts.count_users(conn, tenant_id)
        if people or not accounts.delete_tenant(conn, tenant_id):
            raise TenantInUse(
                f"The tenant {slug} still has {people} users: move or delete them first."
            )
        _note(conn, None, "tenant.delete", tenant_id, {"slug": slug, "keysRevoked": keys})


def _note(
    conn: Connection,
    tenant_id: TenantId | None,
    action: str,
    resource_id: str,
    what: Mapping[str, Any],
) -> None:
    act = AuditEntry(tenant_id, audit.who(), action, "Tenant", resource_id, what)
    audit.write(conn, [act])
