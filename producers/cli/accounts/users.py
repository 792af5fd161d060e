"""The `user` commands: users and their preferences."""

import re
from typing import Any

import click

from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_fields, print_json, print_table
from producers.cli.terminal.values import Between, tenant_option
from producers.errors import UserTaken
from producers.json_rows import as_document
from shared import db
from shared.db import Role
from shared.operations import audit
from shared.queries.accounts import accounts, preferences
from shared.queries.accounts.preferences import Preference
from shared.queries.judgement import trust_scores
from shared.queries.models import models
from shared.queries.operations.audit_logs import AuditEntry

USER_ROLE = click.Choice(("USER", "ADMIN", "SUPER_ADMIN"), case_sensitive=False)


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
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", email):
        raise click.BadParameter(f"invalid e-mail address {email!r}.", param_hint="EMAIL")
    with session.opened():
        tenant_id = session.tenant_named(slug)
        with db.transaction(None, role=Role.OWNER) as conn:
            row, created = accounts.insert_user(
                conn, email, name=name, role=role.upper(), tenant_id=tenant_id
            )
            if created:
                who = session.actor()
                act = AuditEntry(tenant_id, who, "user.create", "User", row.id, {"role": row.role})
                audit.write(conn, [act])
    if row.tenant != slug:
        raise UserTaken(f"{email} belongs to {row.tenant or 'the platform'}, not to {slug}.")
    document = as_document(row) | {"created": created}
    if as_json:
        print_json(document)
    else:
        print_fields(document)


@user.command("list")
@click.option("--tenant", "slug", metavar="SLUG", help="Only this tenant's.")
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
        with db.transaction(None, role=Role.OWNER) as conn:
            rows = [as_document(row) for row in accounts.select_users(conn, tenant_id, limit=limit)]
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
        user_id = session.user_named(tenant_id, name)
        with db.transaction(tenant_id) as conn:
            known = trust_scores.select_trust(conn, user_id)
            preferred = preferences.select_preference(conn, user_id)
    document: dict[str, Any] = {
        "id": user_id,
        "trust": known[0].score if known else None,
        "preferences": None if preferred is None else as_document(preferred),
    }
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
        user_id = session.user_named(tenant_id, name)
        with db.transaction(tenant_id) as conn:
            if wanted["model"] and not models.select_models(conn, wanted["model"]):
                raise click.BadParameter(
                    f"no model {wanted['model']!r}: see `ailydian models list`.",
                    param_hint="--model",
                )
            before = preferences.select_preference(conn, user_id)
            after = _merged(Preference() if clear or before is None else before, wanted)
            preferences.upsert_preference(conn, user_id, after)
            what = {"before": before and as_document(before), "after": as_document(after)}
            audit.note(conn, "user.prefer", "UserPreference", user_id, what)
    (print_json if as_json else print_fields)({"id": user_id} | as_document(after))


def _merged(before: Preference, wanted: dict[str, Any]) -> Preference:
    model = before.model if wanted["model"] is None else wanted["model"] or None
    temperature, tokens_max = wanted["temperature"], wanted["tokens_max"]
    return Preference(
        model=model,
        temperature=before.temperature if temperature is None else temperature,
        tokens_max=before.tokens_max if tokens_max is None else tokens_max,
        settings=before.settings,
    )
