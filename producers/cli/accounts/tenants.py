"""The `tenant` commands."""

import re
from typing import Any

import click

from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_fields, print_json, print_table
from producers.errors import TenantInUse
from producers.json_rows import as_document
from shared import db
from shared.db import Connection, Role
from shared.ids import TenantId
from shared.operations import audit
from shared.queries.accounts import accounts
from shared.queries.operations.audit_logs import AuditEntry

TIER = click.Choice(("FREE", "PRO", "ENTERPRISE"), case_sensitive=False)
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


@click.group()
def tenant() -> None:
    """Manage tenants: create, list, delete, and adopt rows without a tenant."""


@tenant.command("create")
@click.argument("slug")
@click.option("--name", help="Display name. Default: the slug.")
@click.option("--tier", type=TIER, help="Tier. Default: FREE.")
@json_option
def create_tenant(slug: str, name: str | None, tier: str | None, as_json: bool) -> None:
    """Create a tenant, or update the name and tier of an existing one."""
    if not _SLUG.fullmatch(slug):
        raise click.BadParameter(
            f"invalid slug {slug!r}: use lower-case letters, digits and inner hyphens, at most 63.",
            param_hint="SLUG",
        )
    with session.opened(), db.transaction(None, role=Role.OWNER) as conn:
        known = accounts.select_tenants(conn, slug)
        row, created = accounts.put_tenant(conn, slug, name=name, tier=tier)
        before = {"name": known[0].name, "tier": known[0].tier} if known else None
        after = {"name": row.name, "tier": row.tier}
        if before != after:
            what = {"before": before, "after": after}
            _note(conn, row.id, "tenant.create" if created else "tenant.change", row.id, what)
    document = as_document(row) | {"created": created}
    if as_json:
        print_json(document)
    else:
        print_fields(document)


@tenant.command("list")
@json_option
def list_tenants(as_json: bool) -> None:
    """List all tenants."""
    with session.opened(), db.transaction(None, role=Role.OWNER) as conn:
        rows = [as_document(row) for row in accounts.select_tenants(conn)]
    if as_json:
        print_json(rows)
    else:
        columns = ("id", "slug", "name", "tier", "created")
        print_table(columns, [list(row.values()) for row in rows])


@tenant.command("adopt")
@click.argument("slug")
@json_option
def adopt(slug: str, as_json: bool) -> None:
    """Assign the platform's rows that have no tenant to this tenant.

    Users, documents and workflows move with all rows that depend on them: sessions,
    conversations, messages, chunks and runs. `ailydian verify` counts the rows without a tenant.
    """
    with session.opened():
        tenant_id = session.tenant_named(slug)
        with db.transaction(None, role=Role.OWNER) as conn:
            adopted = accounts.adopt(conn, tenant_id)
            _note(conn, tenant_id, "tenant.adopt", tenant_id, adopted)
    if as_json:
        print_json({"id": tenant_id, "slug": slug, "adopted": adopted})
    else:
        click.echo(", ".join(f"{count} {name}" for name, count in adopted.items()) + " adopted.")


@tenant.command("delete")
@click.argument("slug")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
def delete_tenant(slug: str, yes: bool, as_json: bool) -> None:
    """Delete a tenant with its documents, workflows and jobs. It must have no users."""
    if not yes:
        click.confirm(f"Delete the tenant {slug} and all its data?", abort=True, err=True)
    with session.opened():
        tenant_id = session.tenant_named(slug)
        with db.transaction(None, role=Role.OWNER) as conn:
            people = accounts.count_users(conn, tenant_id)
            if people or not accounts.delete_tenant(conn, tenant_id):
                raise TenantInUse(
                    f"The tenant {slug} still has {people} users: move or delete them first."
                )
            _note(conn, None, "tenant.delete", tenant_id, {"slug": slug})
    if as_json:
        print_json({"id": tenant_id, "slug": slug, "deleted": True})
    else:
        click.echo(f"The tenant {slug} is deleted.")


def _note(
    conn: Connection,
    tenant_id: TenantId | None,
    action: str,
    resource_id: str,
    what: dict[str, Any],
) -> None:
    act = AuditEntry(tenant_id, session.actor(), action, "Tenant", resource_id, what)
    audit.write(conn, [act])
