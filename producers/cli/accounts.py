"""`tenant` and `user`."""

import re

import click

from producers.cli import session
from producers.cli.failures import TenantInUse, UserTaken
from producers.cli.output import as_document, json_option, print_fields, print_json, print_table
from shared import db
from shared.db import Role
from shared.queries import accounts

TIER = click.Choice(("FREE", "PRO", "ENTERPRISE"), case_sensitive=False)
USER_ROLE = click.Choice(("USER", "ADMIN", "SUPER_ADMIN"), case_sensitive=False)
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


@click.group()
def tenant() -> None:
    """Create, list, adopt into and delete tenants."""


@tenant.command("create")
@click.argument("slug")
@click.option("--name", help="As people call it; default: the slug.")
@click.option("--tier", type=TIER, help="Default: FREE.")
@json_option
def create_tenant(slug: str, name: str | None, tier: str | None, as_json: bool) -> None:
    """Make a tenant. One that exists stays, and takes the name and tier given here."""
    if not _SLUG.fullmatch(slug):
        raise click.BadParameter(
            f"{slug!r} is no slug: small letters, digits and inner hyphens, at most 63.",
            param_hint="SLUG",
        )
    with session.opened(), db.transaction(None, role=Role.OWNER) as conn:
        row, created = accounts.put_tenant(conn, slug, name=name, tier=tier)
    document = as_document(row) | {"created": created}
    if as_json:
        print_json(document)
    else:
        print_fields(document)


@tenant.command("list")
@json_option
def list_tenants(as_json: bool) -> None:
    """All tenants."""
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
    """Assign the platform's rows without a tenant to this one.

    People, documents and workflows, and with them all that hangs on them: sessions,
    conversations, messages, chunks, runs. `ailydian verify` counts what has no tenant.
    """
    with session.opened():
        tenant_id = session.tenant_named(slug)
        with db.transaction(None, role=Role.OWNER) as conn:
            adopted = accounts.adopt(conn, tenant_id)
    if as_json:
        print_json({"id": tenant_id, "slug": slug, "adopted": adopted})
    else:
        click.echo(", ".join(f"{count} {name}" for name, count in adopted.items()) + " adopted.")


@tenant.command("delete")
@click.argument("slug")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def delete_tenant(slug: str, yes: bool, as_json: bool) -> None:
    """Delete a tenant with its documents, workflows and jobs. One with people is refused."""
    if not yes:
        click.confirm(f"Delete the tenant {slug} and everything it has?", abort=True, err=True)
    with session.opened():
        tenant_id = session.tenant_named(slug)
        with db.transaction(None, role=Role.OWNER) as conn:
            people = accounts.count_users(conn, tenant_id)
            if people or not accounts.delete_tenant(conn, tenant_id):
                raise TenantInUse(
                    f"The tenant {slug} still has {people} people: move or delete them first."
                )
    if as_json:
        print_json({"id": tenant_id, "slug": slug, "deleted": True})
    else:
        click.echo(f"The tenant {slug} is deleted.")


@click.group()
def user() -> None:
    """Create and list people."""


@user.command("create")
@click.argument("email")
@click.option("--tenant", "slug", required=True, metavar="SLUG", help="Where they belong.")
@click.option("--name", help="Their name.")
@click.option("--role", type=USER_ROLE, default="USER", show_default=True)
@json_option
def create_user(email: str, slug: str, name: str | None, role: str, as_json: bool) -> None:
    """Make a person; one who exists in this tenant stays as they are.

    Without a password: they sign in once the platform has set one.
    """
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", email):
        raise click.BadParameter(f"{email!r} is no e-mail address.", param_hint="EMAIL")
    with session.opened():
        tenant_id = session.tenant_named(slug)
        with db.transaction(None, role=Role.OWNER) as conn:
            row, created = accounts.insert_user(
                conn, email, name=name, role=role.upper(), tenant_id=tenant_id
            )
    if row.tenant != slug:
        raise UserTaken(f"{email} belongs to {row.tenant or 'the platform'}, not to {slug}.")
    document = as_document(row) | {"created": created}
    if as_json:
        print_json(document)
    else:
        print_fields(document)


@user.command("list")
@click.option("--tenant", "slug", metavar="SLUG", help="Only theirs.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=1_000, show_default=True)
@json_option
def list_users(slug: str | None, limit: int, as_json: bool) -> None:
    """People, newest first."""
    with session.opened():
        tenant_id = None if slug is None else session.tenant_named(slug)
        with db.transaction(None, role=Role.OWNER) as conn:
            rows = [as_document(row) for row in accounts.select_users(conn, tenant_id, limit=limit)]
    if as_json:
        print_json(rows)
    else:
        columns = ("id", "email", "name", "role", "tenant", "created")
        print_table(columns, [list(row.values()) for row in rows])
