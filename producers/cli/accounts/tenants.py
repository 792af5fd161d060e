"""The `tenant` commands."""

import click

from producers.accounts import request_rules, tenants
from producers.accounts.request_rules import Subject
from producers.cli.accounts import rules
from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_fields, print_json, print_table
from producers.json_rows import as_document
from shared import db
from shared.db import Role

TIER = click.Choice(tenants.TIERS, case_sensitive=False)


@click.group()
def tenant() -> None:
    """Manage tenants: create, list, limit, allow, delete, and adopt rows without a tenant."""


@tenant.command("create")
@click.argument("slug")
@click.option("--name", help="Display name. Default: the slug.")
@click.option("--tier", type=TIER, help="Tier. Default: FREE.")
@json_option
def create_tenant(slug: str, name: str | None, tier: str | None, as_json: bool) -> None:
    """Create a tenant, or update the name and tier of an existing one."""
    with session.opened(), db.transaction(None, role=Role.OWNER) as conn:
        row, created = tenants.put(conn, slug, name=name, tier=tier)
    document = as_document(row) | {"created": created}
    if as_json:
        print_json(document)
    else:
        print_fields(document)


@tenant.command("list")
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=100_000,
    show_default=True,
    help="Maximum rows.",
)
@json_option
def list_tenants(limit: int, as_json: bool) -> None:
    """List tenants by slug."""
    with session.opened():
        rows = [as_document(row) for row in tenants.list_page(limit=limit)]
    if as_json:
        print_json(rows)
    else:
        columns = ("id", "slug", "name", "tier", "created")
        print_table(columns, [list(row.values()) for row in rows])


@tenant.command("limit")
@click.argument("slug")
@rules.rate_options
@json_option
def limit_tenant(
    slug: str, rate: float | None, burst: float | None, default: bool, as_json: bool
) -> None:
    """Limit how many requests the keys and users of a tenant may make together.

    The default is of its tier: FREE 50/s, PRO 500/s, ENTERPRISE 5000/s.
    """
    wanted = rules.wanted_rate(rate, burst, default=default)
    with session.opened():
        rule = request_rules.limit(Subject(session.tenant_named(slug)), wanted)
    rules.print_rule(rule, as_json=as_json)


@tenant.command("allow")
@click.argument("slug")
@rules.address_options
@json_option
def allow_tenant(slug: str, addresses: tuple[str, ...], anywhere: bool, as_json: bool) -> None:
    """Accept requests of a tenant from these addresses alone."""
    wanted = rules.wanted_addresses(addresses, anywhere=anywhere)
    with session.opened():
        rule = request_rules.allow(Subject(session.tenant_named(slug)), wanted)
    rules.print_rule(rule, as_json=as_json)


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
        adopted = tenants.adopt(tenant_id)
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
        tenants.delete(tenant_id, slug)
    if as_json:
        print_json({"id": tenant_id, "slug": slug, "deleted": True})
    else:
        click.echo(f"The tenant {slug} is deleted.")
