"""The `webhooks` commands: where a tenant's events are posted."""

from typing import Any

import click

from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_fields, print_json, print_table, say
from producers.cli.terminal.values import tenant_option
from producers.json_rows import as_document
from producers.ledger import webhooks as hooks
from producers.ledger.webhooks import WHATS, WebhookSecret
from producers.queries.ledger.webhooks import WebhookRow
from shared import db


@click.group()
def webhooks() -> None:
    """Post a tenant's events to an address of theirs, signed.

    A delivery is a job, deliver_webhook: `jobs list --job deliver_webhook` shows them. What was not
    taken after 12 attempts is a dead letter: `dead replay` posts it again.
    """


@webhooks.command("create")
@click.argument("url")
@tenant_option
@click.option(
    "--event",
    "events",
    multiple=True,
    required=True,
    type=click.Choice(WHATS, case_sensitive=False),
    help="An event, such as DEAD or RUN_COMPLETED; repeat it for more.",
)
@click.option("--job", "jobs", multiple=True, metavar="NAME", help="Only of this kind of job.")
@json_option
def create_webhook(slug: str, url: str, as_json: bool, **wanted: Any) -> None:  # noqa: ANN401
    """Create a webhook. Its secret is printed once and stored nowhere."""
    with session.opened():
        made = hooks.create(session.tenant_named(slug), url, **wanted)
    _print_secret(made, as_json)


@webhooks.command("list")
@click.option("--tenant", "slug", metavar="SLUG", help="Only this tenant's.")
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=1_000,
    show_default=True,
    help="Maximum rows.",
)
@json_option
def list_webhooks(slug: str | None, limit: int, as_json: bool) -> None:
    """List webhooks, newest first."""
    with session.opened():
        tenant_id = None if slug is None else session.tenant_named(slug)
        rows = hooks.list_webhooks(tenant_id, limit=limit)
    if as_json:
        print_json([as_document(row) for row in rows])
        return
    columns = ("id", "tenant", "url", "events", "jobs", "enabled")
    print_table(columns, [(r.id, r.tenant, r.url, r.events, r.jobs, r.enabled) for r in rows])


@webhooks.command("rotate")
@click.argument("webhook_id", metavar="ID")
@tenant_option
@json_option
def rotate_webhook(webhook_id: str, slug: str, as_json: bool) -> None:
    """Sign with a new secret; for a day the old one signs too."""
    with session.opened():
        made = hooks.rotate(session.tenant_named(slug), webhook_id)
    _print_secret(made, as_json)


@webhooks.command("enable")
@click.argument("webhook_id", metavar="ID")
@tenant_option
@json_option
def enable_webhook(webhook_id: str, slug: str, as_json: bool) -> None:
    """Post events from now on."""
    with session.opened():
        tenant_id = session.tenant_named(slug)
        with db.transaction(tenant_id) as conn:
            row = hooks.enable(conn, tenant_id, webhook_id, enabled=True)
    _print(row, "enabled", as_json)


@webhooks.command("disable")
@click.argument("webhook_id", metavar="ID")
@tenant_option
@json_option
def disable_webhook(webhook_id: str, slug: str, as_json: bool) -> None:
    """Post no events; what happens meanwhile is not posted later."""
    with session.opened():
        tenant_id = session.tenant_named(slug)
        with db.transaction(tenant_id) as conn:
            row = hooks.enable(conn, tenant_id, webhook_id, enabled=False)
    _print(row, "disabled", as_json)


@webhooks.command("delete")
@click.argument("webhook_id", metavar="ID")
@tenant_option
@json_option
def delete_webhook(webhook_id: str, slug: str, as_json: bool) -> None:
    """Delete a webhook; deliveries that wait end without being posted."""
    with session.opened():
        tenant_id = session.tenant_named(slug)
        with db.transaction(tenant_id) as conn:
            row = hooks.delete(conn, tenant_id, webhook_id)
    _print(row, "deleted", as_json)


def _print(row: WebhookRow, done: str, as_json: bool) -> None:
    if as_json:
        print_json(as_document(row))
    else:
        click.echo(f"The webhook {row.id} is {done}.")


def _print_secret(made: WebhookSecret, as_json: bool) -> None:
    document = as_document(made)
    if as_json:
        print_json(document)
        return
    print_fields(document)
    say("Keep the secret now: it is not shown again.")
