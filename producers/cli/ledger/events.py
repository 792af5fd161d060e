"""The `events` commands: job events, live or from a position."""

import contextlib
from collections.abc import Iterator
from datetime import UTC
from itertools import islice
from typing import Any

import click

from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_json, print_table
from producers.cli.terminal.values import Typed
from producers.ledger import live_events
from producers.ledger.live_events import BEGINNING, Event, Position, document
from producers.queries.ledger import events as ledger
from producers.queries.ledger import jobs
from producers.queries.ledger.events import EventFilters
from shared import db
from shared.db import Role
from shared.ids import JobId, TenantId
from shared.servers.embedded import Servers
from shared.settings import settings

POSITION = Typed("position", lambda text: BEGINNING if text == "0" else Position.parse(text))
ENDED = {"COMPLETED", "DEAD", "CANCELLED"}
PAGE = 1_000


@click.group()
def events() -> None:
    """Follow and list events of jobs, runs, steps, batches and incidents.

    Of jobs: COMPLETED, DEAD, CANCELLED, RETRY, REPLAYED, DISCARDED, with ids only. Of others
    RUN_..., STEP_..., BATCH_FINISHED, INCIDENT_..., with their ids. To resume after an event, pass
    its position to --after.
    """


@events.command("follow")
@click.option("--tenant", "slug", metavar="SLUG", help="Only this tenant.")
@click.option("--job", "job_id", metavar="ID", help="Only this job.")
@click.option("--batch", "batch_id", metavar="ID", help="Only jobs of this batch.")
@click.option(
    "--after",
    type=POSITION,
    help="Resume after this position; 0 starts at the oldest stored event.",
)
@click.option("--until-ended", "until", metavar="ID", help="Stop when this job has ended.")
@json_option
def follow_events(
    slug: str | None, until: str | None, as_json: bool, after: Position | None, **which: str | None
) -> None:
    """Print events as they arrive, one per line, until Ctrl-C; --json prints JSON Lines."""
    with session.opened() as servers, contextlib.suppress(KeyboardInterrupt):
        tenant_id = None if slug is None else session.tenant_named(slug)
        if until is not None and after is None:
            after = _now()
        if until is not None and _has_ended(until):
            return
        for event in _stream(servers, tenant_id, after, which):
            _print(event, as_json)
            if event.job_id == until and event.what in ENDED:
                return


@events.command("list")
@click.option("--tenant", "slug", metavar="SLUG", help="Only this tenant.")
@click.option("--job", "job_id", metavar="ID", help="Only this job.")
@click.option("--batch", "batch_id", metavar="ID", help="Only jobs of this batch.")
@click.option("--after", type=POSITION, default="0", help="Only events after this position.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Maximum rows."
)
@json_option
def list_events(
    slug: str | None, after: Position, limit: int, as_json: bool, **which: str | None
) -> None:
    """List stored events, oldest first."""
    with session.opened():
        tenant_id = None if slug is None else session.tenant_named(slug)
        found = list(islice(_kept(tenant_id, after, which), limit))
    if as_json:
        print_json([document(event) for event in found])
        return
    columns = ("position", "at", "what", "job", "jobId", "tenantId", "batchId", "tookS")
    print_table(columns, [[document(event)[name] for name in columns] for event in found])


def _stream(
    servers: Servers, tenant_id: TenantId | None, after: Position | None, which: dict[str, Any]
) -> Iterator[Event]:
    listen_url = settings().database_listen_url
    return live_events.follow(
        tenant_id,
        EventFilters(**which),
        after,
        listen_url=listen_url.get_secret_value() if listen_url else servers.database_url,
    )


def _kept(tenant_id: TenantId | None, after: Position, which: dict[str, Any]) -> Iterator[Event]:
    wanted = EventFilters(**which)
    role = Role.RELAY if tenant_id is None else Role.APP
    full = True
    while full:
        with db.transaction(tenant_id, role=role) as conn:
            ledger.place(conn)
            page = ledger.select_events(conn, after, wanted, limit=PAGE)
        yield from page.events
        after, full = page.end, page.full


def _now() -> Position:
    with db.transaction(None, role=Role.RELAY) as conn:
        return ledger.select_end(conn)


def _has_ended(job_id: str) -> bool:
    with db.transaction(None, role=Role.RELAY) as conn:
        rows = jobs.select_by_ids(conn, [JobId(job_id)])
    return bool(rows) and rows[0].state in ENDED


def _print(event: Event, as_json: bool) -> None:
    if as_json:
        print_json(document(event))
        return
    took = "" if event.took_s is None else f"  {event.took_s:.3f} s"
    at = event.at.astimezone(UTC)
    click.echo(
        f"{event.position}  {at:%H:%M:%S}  {event.what:<9}  {event.job}  {event.job_id}{took}"
    )
