"""The `user` commands: users and their preferences."""

from typing import Any

import click

from producers.accounts import users
from producers.accounts.users import Home
from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_fields, print_json, print_table
from producers.cli.terminal.values import Between, any_tenant_option, tenant_option
from producers.json_rows import as_document
from shared import db
from shared.db import Role

USER_ROLE = click.Choice(users.ROLES, case_sensitive=False)


@click.group()
def user() -> None:
    """Manage users and their preferences."""


@user.command("create")
@click.argument("email")
@click.option("--tenant", "slug", required=True, metavar="SLUG", help="Tenant of the user.")
@click.option("--name", help="Display name.")
@click.option("--role", type=USER_ROLE, default="USER", show_default=True, help="Role of the user.")
@json_option
def create_user(email: str, slug: str, name: str | None, role: str, as_json: bool) -> None:
    """Create a user. An existing user of this tenant is left unchanged.

    The user has no password and can sign in once the platform has set one.
    """
    with session.opened():
        tenant_id = session.tenant_named(slug)
        home = Home(tenant_id, slug)
        with db.transaction(None, role=Role.OWNER) as conn:
            row, created = users.create(conn, home, email, name=name, role=role.upper())
    document = as_document(row) | {"created": created}
    if as_json:
        print_json(document)
    else:
        print_fields(document)


@user.command("list")
@any_tenant_option
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=1_000,
    show_default=True,
    help="Maximum rows.",
)
@json_option
def list_users(slug: str | None, limit: int, as_json: bool) -> None:
    """List users, newest first."""
    with session.opened():
        tenant_id = None if slug is None else session.tenant_named(slug)
        rows = [as_document(row) for row in users.list_users(tenant_id, limit=limit)]
    if as_json:
        print_json(rows)
    else:
        columns = ("id", "email", "name", "role", "tenant", "created")
        print_table(columns, [list(row.values()) for row in rows])


@user.command("show")
@click.argument("name", metavar="EMAIL|ID")
@tenant_option
@json_option
def show_user(name: str, slug: str, as_json: bool) -> None:
    """Show a user's trust score and preferences."""
    with session.opened():
        tenant_id = session.tenant_named(slug)
        user_id = users.named(tenant_id, name)
        found = users.show(tenant_id, user_id)
    preferred = found.preferences
    document = as_document(found) | {"preferences": preferred and as_document(preferred)}
    (print_json if as_json else print_fields)(document)


@user.command("prefer")
@click.argument("name", metavar="EMAIL|ID")
@tenant_option
@click.option("--model", help="Preferred model, if available; '' lets routing choose.")
@click.option("--temperature", type=Between(0, 2), help="Sampling temperature.")
@click.option(
    "--max-tokens",
    "tokens_max",
    type=click.IntRange(1, 100_000),
    help="Maximum tokens of an answer.",
)
@click.option("--clear", is_flag=True, help="Clear all earlier preferences first.")
@json_option
def prefer(name: str, slug: str, clear: bool, as_json: bool, **wanted: Any) -> None:  # noqa: ANN401
    """Set a user's model preferences. Options that are not given stay unchanged."""
    with session.opened():
        tenant_id = session.tenant_named(slug)
        user_id = users.named(tenant_id, name)
        with db.transaction(tenant_id) as conn:
            after = users.prefer(conn, user_id, wanted, clear=clear)
    (print_json if as_json else print_fields)({"id": user_id} | as_document(after))
