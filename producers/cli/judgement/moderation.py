"""The `moderation` commands: verdicts, policies and appeals."""

import json
from typing import Any

import click

from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_fields, print_json, print_table
from producers.cli.terminal.values import JSON_OBJECT, TEXT, tenant_option
from producers.json_rows import as_document
from producers.judgement import moderation as steering
from shared import db
from shared.errors import UsageError
from shared.judgement import moderation_policy
from shared.queries.judgement import moderations, verdicts

ACTION = click.Choice(("allow", "flag", "block"))
LIMIT = click.IntRange(1, 100_000)


@click.group()
def moderation() -> None:
    """Manage moderation verdicts, policies and appeals."""


@moderation.command("list")
@tenant_option
@click.option("--action", type=ACTION, help="Only verdicts with this action.")
@click.option("--flagged", is_flag=True, help="Only flagged or blocked content.")
@click.option("--limit", type=LIMIT, default=100, show_default=True, help="Maximum rows.")
@json_option
def list_verdicts(slug: str, action: str | None, flagged: bool, limit: int, as_json: bool) -> None:
    """List current verdicts, newest first."""
    if flagged and action is not None:
        raise UsageError("--flagged and --action exclude each other.")
    actions = ("flag", "block") if flagged else (action,)
    with session.opened(), db.transaction(session.tenant_named(slug)) as conn:
        found = [
            row for one in actions for row in verdicts.select_latest(conn, action=one, limit=limit)
        ]
    found.sort(key=lambda row: (row.created_at, row.id), reverse=True)
    rows = [as_document(one) for one in found[:limit]]
    if as_json:
        print_json(rows)
        return
    columns = ("id", "createdAt", "contentType", "contentId", "action", "categories")
    print_table(columns, [[row[name] for name in columns] for row in rows])


@moderation.command("show")
@click.argument("verdict_id", metavar="ID")
@tenant_option
@json_option
def show_verdict(verdict_id: str, slug: str, as_json: bool) -> None:
    """Show a verdict: scores, thresholds, spans, engine and the engine's known gaps."""
    with session.opened(), db.transaction(session.tenant_named(slug)) as conn:
        row = steering.verdict(conn, verdict_id, slug)
    (print_json if as_json else print_fields)(as_document(row))


@moderation.group("policy")
def policies() -> None:
    """Manage moderation policies."""


@policies.command("show")
@tenant_option
@json_option
def show_policy(slug: str, as_json: bool) -> None:
    """Show the current policy; version 0 is the built-in one."""
    with session.opened(), db.transaction(session.tenant_named(slug)) as conn:
        document = as_document(steering.current_policy(conn))
    (print_json if as_json else print_fields)(document)


@policies.command("put")
@click.argument("document", type=JSON_OBJECT, metavar="JSON|@FILE")
@tenant_option
@json_option
def put_policy(document: dict[str, Any], slug: str, as_json: bool) -> None:
    """Set the moderation policy; content judged under older versions is judged again.

    Example: {"default": {"flag_at": 0.5, "block_at": 0.9}, "trust_adjusted": true, "categories":
    {"pii": {"flag_at": 0.5, "block_at": null}}}.
    """
    new = moderation_policy.read(document)
    with session.opened(), db.transaction(session.tenant_named(slug)) as conn:
        version = steering.put_policy(conn, new)
    if as_json:
        print_json({"version": version})
    else:
        click.echo(f"Version {version} is active; older verdicts are being re-evaluated.")


@policies.command("versions")
@tenant_option
@click.option("--limit", type=LIMIT, default=20, show_default=True, help="Maximum rows.")
@json_option
def list_policies(slug: str, limit: int, as_json: bool) -> None:
    """List policy versions, newest first."""
    with session.opened(), db.transaction(session.tenant_named(slug)) as conn:
        rows = [as_document(one) for one in moderations.select_policies(conn, limit=limit)]
    if as_json:
        print_json(rows)
        return
    columns = ("version", "createdAt", "createdBy")
    lines = [[*(row[name] for name in columns), json.dumps(row["policy"])] for row in rows]
    print_table((*columns, "policy"), lines)


@moderation.group("appeal")
def appeals() -> None:
    """Manage appeals against verdicts."""


@appeals.command("open")
@click.argument("verdict_id", metavar="VERDICT")
@tenant_option
@click.option("--reason", type=TEXT, required=True, help="Reason; @FILE reads it from a file.")
@json_option
def open_appeal(verdict_id: str, slug: str, reason: str, as_json: bool) -> None:
    """Appeal a verdict that flagged or blocked content."""
    with session.opened(), db.transaction(session.tenant_named(slug)) as conn:
        appeal_id = steering.open_appeal(conn, verdict_id, reason=reason)
    (print_json if as_json else print_fields)({"id": appeal_id, "state": "open"})


@appeals.command("list")
@tenant_option
@click.option(
    "--state", type=click.Choice(("open", "granted", "rejected")), help="Only this state."
)
@click.option("--limit", type=LIMIT, default=100, show_default=True, help="Maximum rows.")
@json_option
def list_appeals(slug: str, state: str | None, limit: int, as_json: bool) -> None:
    """List appeals, newest first."""
    with session.opened(), db.transaction(session.tenant_named(slug)) as conn:
        rows = [as_document(one) for one in verdicts.select_appeals(conn, state=state, limit=limit)]
    if as_json:
        print_json(rows)
        return
    columns = ("id", "state", "resultId", "openedBy", "openedAt", "reason")
    print_table(columns, [[row[name] for name in columns] for row in rows])


@appeals.command("decide")
@click.argument("appeal_id", metavar="APPEAL")
@tenant_option
@click.option("--grant/--reject", "granted", required=True, help="Grant or reject the appeal.")
@json_option
def decide_appeal(appeal_id: str, slug: str, granted: bool, as_json: bool) -> None:
    """Grant an appeal (reverts the verdict and its effects) or reject it."""
    with session.opened(), db.transaction(session.tenant_named(slug)) as conn:
        steering.decide_appeal(conn, appeal_id, granted=granted)
    document = {"id": appeal_id, "state": "granted" if granted else "rejected"}
    (print_json if as_json else print_fields)(document)
