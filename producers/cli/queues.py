"""`queues`, `status`: what waits, what runs, what died."""

from typing import Any

import click

from producers.cli import session
from producers.cli.output import as_document, json_option, print_json, print_table, say
from producers.cli.values import without_password
from shared import db
from shared.broker import AWAY, connect
from shared.contracts import QUEUES
from shared.db import Role
from shared.queries import jobs, quarantines
from shared.queries.jobs import QueueFigures

SCAN_BYTES_MAX = 512 * 1024 * 1024
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


def _figures(names: tuple[str, ...] = QUEUES) -> list[QueueFigures]:
    with db.transaction(None, role=Role.RELAY) as conn:
        return jobs.select_figures(conn, names, scan_bytes_max=SCAN_BYTES_MAX)


def _print_figures(figures: list[QueueFigures]) -> None:
    print_table(COLUMNS, [list(as_document(one).values()) for one in figures])


@click.command()
@json_option
def queues(as_json: bool) -> None:
    """What each queue holds at this moment.

    ready: due, in the outbox or woken up in Redis. oldestSeconds: how long the oldest of those
    has been due. donePerSecond: over the last minute; null in a ledger above half a gigabyte.
    """
    with session.opened():
        figures = _figures()
    if as_json:
        print_json([as_document(one) for one in figures])
    else:
        _print_figures(figures)


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Queues, workers, lag and dead jobs on one page."""
    with session.opened() as servers:
        figures = _figures()
        with db.transaction(None, role=Role.RELAY) as conn:
            processes = jobs.select_processes(conn)
            quarantined = quarantines.count_quarantined(conn, quarantines.Filters())
        page: dict[str, Any] = {
            "database": without_password(servers.database_url),
            "redis": without_password(servers.redis_url),
            "redisAnswers": _answers(servers.redis_url),
            "lagSeconds": max((one.oldest_seconds or 0.0 for one in figures), default=0.0),
            "dead": sum(one.dead for one in figures),
            "quarantined": quarantined,
            "incidents": None,
        }
    if as_json:
        tables = {
            "queues": [as_document(one) for one in figures],
            "workers": [as_document(one) for one in processes],
        }
        print_json(page | tables)
        return
    click.echo(f"Postgres  {page['database']}")
    click.echo(f"Redis     {page['redis']}{'' if page['redisAnswers'] else '  DOES NOT ANSWER'}")
    click.echo(f"Lag {page['lagSeconds']:.1f} s, {page['dead']} dead, {quarantined} quarantined\n")
    _print_figures(figures)
    click.echo()
    columns = ("worker", "host", "pid", "queues", "threads", "started", "seen")
    print_table(columns, [list(as_document(one).values()) for one in processes])
    if not processes:
        say("No worker runs: start everything with `ailydian up`.")


def _answers(redis_url: str) -> bool:
    client = connect(redis_url)
    try:
        return bool(client.ping())
    except AWAY:
        return False
    finally:
        client.close()
