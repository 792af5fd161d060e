"""The `queues` and `status` commands."""

import dataclasses
import sys
import time
from typing import Any

import click

from producers.cli.terminal import session
from producers.cli.terminal.output import error_line, json_option, print_json, print_table, say
from producers.cli.terminal.values import without_password
from producers.json_rows import as_document
from producers.operations.incident_rules import PINNED_S
from producers.queries.ledger import dead_letters, events, job_limits, pauses, queue_figures
from producers.queries.ledger.queue_figures import ProcessRow, QueueFigures
from producers.queries.operations import horizons, incidents, metric_figures
from producers.queries.operations.horizons import Pin
from producers.queries.workflow import workflow_lists
from producers.web import health
from shared import db
from shared.contracts import QUEUES
from shared.db import Connection, Role
from shared.ledger.wakeups import connect
from shared.queries.ledger import quarantines
from shared.settings import settings

COLUMNS = (
    "queue",
    "ready",
    "delayed",
    "running",
    "dead",
    "oldest s",
    "done/s",
    "workers",
    "paused",
)
WATCH_S = 1.0
REDIS_TIMEOUT_S = 3.0
GROUPS_MAX = FAILING_MAX = INCIDENTS_MAX = PINS_MAX = 5


def _figures() -> list[QueueFigures]:
    with db.transaction(None, role=Role.RELAY) as conn:
        return queue_figures.select_figures(conn, QUEUES, rate_s=events.RATE_S)


def _print_figures(rows: list[QueueFigures]) -> None:
    print_table(COLUMNS, [list(as_document(one).values()) for one in rows])


@click.command()
@click.option("--watch", is_flag=True, help="Refresh every second until Ctrl-C.")
@json_option
def queues(watch: bool, as_json: bool) -> None:
    """Show the current counts of each queue.

    ready: due, in the outbox or sent to Redis. oldestSeconds: how long the oldest of those has
    been due. donePerSecond: average of about the last 15 seconds. Above 100,000 jobs, the counts
    are the relay's latest.
    """
    with session.opened():
        if not watch:
            _show(as_json)
            return
        try:
            _watch(as_json)
        except KeyboardInterrupt:
            return


def _show(as_json: bool) -> None:
    rows = _figures()
    if as_json:
        print_json([as_document(one) for one in rows])
    else:
        _print_figures(rows)


def _watch(as_json: bool) -> None:
    """Refresh the page: in place on a terminal, one page after another in a pipe."""
    if as_json or not sys.stdout.isatty():
        while True:
            _show(as_json)
            sys.stdout.flush()
            time.sleep(WATCH_S)
    from rich.live import Live  # noqa: PLC0415 - a tenth of a second that only this look needs

    from producers.cli.terminal import drawing  # noqa: PLC0415 - as rich

    console = drawing.console(sys.stdout)
    with Live(_live_table(_figures()), console=console, auto_refresh=False, screen=False) as live:
        while True:
            time.sleep(WATCH_S)
            live.update(_live_table(_figures()), refresh=True)


def _live_table(rows: list[QueueFigures]) -> Any:  # noqa: ANN401 - rich is imported late
    from rich.table import Table  # noqa: PLC0415 - as above

    table = Table(box=None, header_style="bold")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "queue" else "right")
    for row in rows:
        late = (row.oldest_seconds or 0) > health.LATE_S
        style = "red" if late else "dim" if not row.ready + row.running else ""
        table.add_row(*map(_cell, dataclasses.astuple(row)), style=style)
    return table


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else ""
        case float():
            return f"{value:.1f}"
        case _:
            return str(value)


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Show queues, workers, lag and dead jobs on one page."""
    with session.opened() as servers:
        page = _page(without_password(servers.database_url), servers.redis_url)
    if as_json:
        print_json(page)
    else:
        _print_page(page)


def _page(database: str, redis_url: str) -> dict[str, Any]:
    with connect(redis_url, timeout_s=REDIS_TIMEOUT_S) as client:
        found = health.look(client, settings().redis_namespace)
    with db.transaction(None, role=Role.RELAY) as conn:
        rows = queue_figures.select_figures(conn, QUEUES, rate_s=events.RATE_S)
        seen = queue_figures.select_seen(conn)
        batches_open, schedules_failing = metric_figures.count_open(conn)
        runs = workflow_lists.count_runs(conn)
        return {
            "database": database,
            "redis": without_password(redis_url),
            "redisAnswers": all(one.ok for one in found if one.name == "redis"),
            "lagSeconds": max((one.oldest_seconds or 0.0 for one in rows), default=0.0),
            "dead": sum(one.dead for one in rows),
            "quarantined": quarantines.count_quarantined(conn, quarantines.QuarantineFilters()),
            "incidents": sum(incidents.count_open(conn).values()),
            "openIncidents": _open_incidents(conn),
            "checks": [as_document(one) for one in found],
            "relaySeenSeconds": seen.relay_s,
            "schedulerSeenSeconds": seen.scheduler_s,
            "queues": [as_document(one) for one in rows],
            "workers": [_worker(one) for one in queue_figures.select_processes(conn)],
            "deadGroups": [
                as_document(one)
                for one in dead_letters.select_groups(
                    conn, dead_letters.DeadLetterFilters(), limit=GROUPS_MAX
                )
            ],
            "holds": [as_document(one) for one in pauses.list_pauses(conn)],
            "limits": [as_document(one) for one in job_limits.select_limits(conn)],
            "runs": {state: count for state, count in runs.items() if state != "failed"},
            "runsFailedLastHour": runs.get("failed", 0),
            "batchesOpen": batches_open,
            "schedulesFailing": schedules_failing,
            "failing": metric_figures.select_failing(conn, limit=FAILING_MAX),
            "horizon": [as_document(one) for one in _pins(conn)],
        }


def _open_incidents(conn: Connection) -> list[dict[str, Any]]:
    wanted = incidents.IncidentFilters(only_open=True)
    rows = incidents.select_incidents(conn, wanted, limit=INCIDENTS_MAX)
    names = ("id", "severity", "tenant", "title", "lastSeenAt")
    return [{name: as_document(row)[name] for name in names} for row in rows]


def _pins(conn: Connection) -> list[Pin]:
    return horizons.select_pins(conn, older_s=PINNED_S, limit=PINS_MAX)


def _worker(row: ProcessRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "host": row.host,
        "pid": row.pid,
        "queues": row.queues,
        "threads": row.threads,
        "threadsAlive": row.threads_alive,
        "threadsExpected": row.threads_expected,
        "busy": row.figures.get("busy"),
        "rssBytes": row.figures.get("rssBytes"),
        "startedAt": row.started_at,
        "seenAt": row.seen_at,
    }


def _print_page(page: dict[str, Any]) -> None:
    away = "" if page["redisAnswers"] else "  NOT RESPONDING"
    click.echo(f"Postgres  {page['database']}")
    click.echo(f"Redis     {page['redis']}{away}")
    click.echo(
        f"Relay {_ago(page['relaySeenSeconds'])}, scheduler {_ago(page['schedulerSeenSeconds'])}"
    )
    click.echo(
        f"Lag {page['lagSeconds']:.1f} s, {page['dead']} dead, {page['quarantined']} quarantined, "
        f"{page['batchesOpen']} batches open, {page['schedulesFailing']} schedules failing, "
        f"{page['incidents']} incidents open"
    )
    states = ", ".join(f"{count:,} {state}" for state, count in sorted(page["runs"].items()))
    click.echo(
        f"Runs: {states or 'none'}; {page['runsFailedLastHour']:,} failed in the last hour\n"
    )
    print_table(COLUMNS, [list(one.values()) for one in page["queues"]])
    click.echo()
    _print_workers(page["workers"])
    _print_exceptions(page)
    for check in page["checks"]:
        if not check["ok"]:
            say(f"Unhealthy: {check['name']}: {check['detail']}")


def _print_workers(workers: list[dict[str, Any]]) -> None:
    columns = ("worker", "host", "pid", "queues", "threads", "busy", "memory", "started", "seen")
    print_table(
        columns,
        [
            (
                *(one[name] for name in ("id", "host", "pid", "queues")),
                f"{one['threadsAlive']}/{one['threadsExpected']}",
                one["busy"],
                None if one["rssBytes"] is None else f"{one['rssBytes'] / 2**20:.0f} MB",
                one["startedAt"],
                one["seenAt"],
            )
            for one in workers
        ],
    )
    if not workers:
        say("No worker is running: start all roles with `ailydian up`.")


def _print_exceptions(page: dict[str, Any]) -> None:
    """Print tables that are shown only if they have rows."""
    if page["deadGroups"]:
        click.echo()
        names = ("fingerprint", "count", "job", "lastDiedAt")
        rows = [[*(one[it] for it in names), error_line(one)] for one in page["deadGroups"]]
        print_table(("dead group", "count", "job", "last", "error"), rows)
    if page["openIncidents"]:
        click.echo()
        rows = [list(one.values()) for one in page["openIncidents"]]
        print_table(("open incident", "severity", "tenant", "title", "last seen"), rows)
    if page["holds"]:
        click.echo()
        rows = [list(one.values()) for one in page["holds"]]
        print_table(("paused queue", "tenant", "job", "by", "since"), rows)
    if page["limits"]:
        click.echo()
        rows = [list(one.values())[1:] for one in page["limits"]]  # without their ids
        columns = ("limited tenant", "tier", "job", "per key", "at once", "per s", "burst", "unit")
        print_table(columns, rows)
    if page["failing"]:
        click.echo()
        rows = [list(one.values()) for one in page["failing"]]
        print_table(("failing schedule", "tenant", "error"), rows)
    if page["horizon"]:
        click.echo()
        pins = ("name", "kind", "pid", "database", "state", "ageS", "transactions")
        rows = [[one[name] for name in pins] for one in page["horizon"]]
        heads = ("vacuum held back by", "kind", "pid", "database", "state", "s", "transactions")
        print_table(heads, rows)


def _ago(seconds: float | None) -> str:
    return "never seen" if seconds is None else f"seen {seconds:.0f} s ago"
