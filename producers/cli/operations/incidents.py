"""The `incidents` commands."""

import click

from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_fields, print_json, print_table
from producers.json_rows import as_document
from producers.operations import incident_acts
from producers.queries.operations import incident_notices
from producers.queries.operations import incidents as queries
from producers.queries.operations.incidents import IncidentFilters, IncidentRow
from shared import db
from shared.db import Role
from shared.errors import UsageError

LIST_MAX = 1_000
NOTICES_MAX = 1_000
COLUMNS = ("id", "severity", "status", "tenant", "title", "detected", "last seen", "taken by")


@click.group()
def incidents() -> None:
    """List, acknowledge and close incidents.

    A cause has at most one open incident. It escalates until somebody acknowledges it and resolves
    when the cause is gone. AILYDIAN_INCIDENT_WEBHOOK_URL receives a notification of each change.
    """


@incidents.command("list")
@click.option("--tenant", "slug", metavar="SLUG", help="Only this tenant's.")
@click.option("--system", is_flag=True, help="Only incidents without a tenant.")
@click.option("--open", "only_open", is_flag=True, help="Only unresolved incidents.")
@json_option
def list_incidents(slug: str | None, system: bool, only_open: bool, as_json: bool) -> None:
    """List incidents, newest first."""
    if slug is not None and system:
        raise UsageError("--tenant and --system exclude each other.")
    with session.opened():
        tenant_id = None if slug is None else session.tenant_named(slug)
        wanted = IncidentFilters(tenant_id=tenant_id, system=system, only_open=only_open)
        with db.transaction(None, role=Role.RELAY) as conn:
            rows = queries.select_incidents(conn, wanted, limit=LIST_MAX)
    if as_json:
        print_json([as_document(row) for row in rows])
        return
    print_table(
        COLUMNS,
        [
            (
                *(row.id, row.severity, row.status, row.tenant, row.title),
                *(row.detected_at, row.last_seen_at, row.handled_by),
            )
            for row in rows
        ],
    )


@incidents.command("show")
@click.argument("incident_id", metavar="ID")
@json_option
def show(incident_id: str, as_json: bool) -> None:
    """Show an incident and its notifications."""
    with session.opened(), db.transaction(None, role=Role.RELAY) as conn:
        row = incident_acts.found(conn, incident_id)
        notices = incident_notices.select_notices(conn, incident_id, limit=NOTICES_MAX)
    if as_json:
        print_json(as_document(row) | {"notices": [as_document(one) for one in notices]})
        return
    print_fields(as_document(row))
    click.echo()
    print_table(
        ("event", "at", "attempts", "delivered", "next", "error"),
        [
            (one.event, one.created_at, one.attempts, one.sent_at, one.next_at, one.error)
            for one in notices
        ],
    )


@incidents.command("take")
@click.argument("incident_id", metavar="ID")
@json_option
def take(incident_id: str, as_json: bool) -> None:
    """Acknowledge an incident: it no longer escalates by time alone."""
    with session.opened(), db.transaction(None, role=Role.RELAY) as conn:
        row = incident_acts.take(conn, incident_id)
    _print_outcome(row, as_json)


@incidents.command("close")
@click.argument("incident_id", metavar="ID")
@click.option("--reason", required=True, metavar="TEXT", help="Reason, stored with the incident.")
@json_option
def close(incident_id: str, reason: str, as_json: bool) -> None:
    """Close an incident. The same cause stays quiet for an hour unless it gets worse."""
    if not reason.strip():
        raise UsageError("--reason must not be empty.")
    with session.opened(), db.transaction(None, role=Role.RELAY) as conn:
        row = incident_acts.close(conn, incident_id, reason)
    _print_outcome(row, as_json)


def _print_outcome(row: IncidentRow, as_json: bool) -> None:
    if as_json:
        print_json(as_document(row))
    else:
        click.echo(f"The incident {row.id} is {row.status}: {row.title}.")
