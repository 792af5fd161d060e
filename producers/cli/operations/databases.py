"""The `migrate`, `verify` and `config` commands."""

import click
from pydantic import SecretStr

from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_fields, print_json, print_table
from producers.cli.terminal.values import MASK, without_password
from producers.operations import migration, parser_sandbox, verification
from producers.operations.verification import VerificationCheck
from shared import db
from shared.db import Role
from shared.settings import Settings, settings


@click.command()
@json_option
def migrate(as_json: bool) -> None:
    """Migrate the database to this version's schema. Repeating it changes nothing.

    Safe while workers run. Only one migration runs at a time; a second one waits.
    """
    with session.opened(migrated=False) as servers:
        done = migration.migrate(servers.database_url)
    if as_json:
        print_json({"applied": done.applied, "version": done.version})
    else:
        click.echo(f"Applied: {', '.join(done.applied) or 'nothing new'}. Version {done.version}.")


@click.command()
@click.pass_context
@json_option
def verify(ctx: click.Context, as_json: bool) -> None:
    """Check the database schema and the parsers' sandbox. Exits 1 if a check fails.

    Checks extension, roles, tables, columns, enums, indexes, foreign keys, policies, rights,
    functions, constraints and settings; inserts, reads, updates and deletes a row of every table
    and rolls back. The sandbox is the workers' as they have measured it, or is measured here where
    none runs.
    """
    with session.opened() as servers:
        checks = verification.verify(servers.database_url)
        with db.transaction(None, role=Role.RELAY) as conn:
            found = parser_sandbox.of_workers(conn)
    found = found or parser_sandbox.of_this_machine()
    checks.append(VerificationCheck("sandbox", found.ok, found.detail))
    ok = all(check.ok for check in checks)
    if as_json:
        rows = [{"name": one.name, "ok": one.ok, "detail": one.detail} for one in checks]
        print_json({"ok": ok, "checks": rows})
    else:
        marks = (("ok" if one.ok else "WRONG", one.name, one.detail) for one in checks)
        print_table(("", "check", "detail"), marks)
    ctx.exit(0 if ok else 1)


@click.command()
@json_option
def config(as_json: bool) -> None:
    """Print the settings by environment variable, with secrets masked."""
    found = settings()
    document = {
        field.alias or f"AILYDIAN_{name.upper()}": _shown(name, getattr(found, name))
        for name, field in Settings.model_fields.items()
    }
    if as_json:
        print_json(document)
    else:
        print_fields(document)


def _shown(name: str, value: object) -> object:
    if isinstance(value, SecretStr):
        is_place = name.endswith("_url")
        return without_password(value.get_secret_value()) if is_place else MASK
    if isinstance(value, str) and name.endswith("_url"):
        return without_password(value)
    return value if isinstance(value, bool | int | float | None) else str(value)
