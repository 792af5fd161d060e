"""The `trust` commands."""

import uuid

import click

from producers.accounts import users
from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_fields, print_json, print_table
from producers.cli.terminal.values import Between, tenant_option
from producers.json_rows import as_document
from producers.judgement import trust as judging
from shared import db
from shared.contracts import RefreshTrust
from shared.ledger.outbox import publish
from shared.queries.judgement import trust_scores


@click.group()
def trust() -> None:
    """Show trust scores of users."""


@trust.command("show")
@click.argument("name", metavar="EMAIL|ID")
@tenant_option
@json_option
def show_trust(name: str, slug: str, as_json: bool) -> None:
    """Show a user's score, its factors, their sources and its effects."""
    with session.opened():
        tenant_id = session.tenant_named(slug)
        user_id = users.named(tenant_id, name)
        with db.transaction(tenant_id) as conn:
            found = judging.show(conn, user_id)
    events = found.events
    document = as_document(found) | {"events": [as_document(one) for one in events]}
    if as_json:
        print_json(document)
        return
    document.pop("events")
    print_fields(document)
    if events:
        click.echo()
        columns = ("kind", "source", "value", "occurred", "withdrawn")
        print_table(columns, [list(as_document(one).values()) for one in events])


@trust.command("list")
@tenant_option
@click.option("--below", type=Between(0, 1), help="Only users with a lower score.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Maximum rows."
)
@json_option
def list_trust(slug: str, below: float | None, limit: int, as_json: bool) -> None:
    """List users with a score, lowest first."""
    most = 2.0 if below is None else below
    with session.opened(), db.transaction(session.tenant_named(slug)) as conn:
        found = trust_scores.select_trust(conn, below=most, limit=limit)
    rows = [as_document(one) for one in found]
    if as_json:
        print_json(rows)
    else:
        columns = ("userId", "email", "score", "updatedAt")
        print_table(columns, [[row[name] for name in columns] for row in rows])


@trust.command("recompute")
@tenant_option
@json_option
def recompute_trust(slug: str, as_json: bool) -> None:
    """Recompute all scores; the nightly maintenance does this too."""
    with session.opened(), db.transaction(session.tenant_named(slug)) as conn:
        published = publish(conn, RefreshTrust(day=f"by hand {uuid.uuid4().hex}"))
    (print_json if as_json else print_fields)({"id": published.id, "state": published.state})
