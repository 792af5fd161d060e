"""The `retention` commands."""

from datetime import timedelta
from typing import Any

import click

from producers.cli.terminal import session
from producers.cli.terminal.output import json_option, print_json, print_table, say
from producers.cli.terminal.values import DURATION, QUEUE
from producers.ledger import retention as keeping
from producers.ledger.retention import Swept
from producers.queries.ledger import retentions as queries
from producers.queries.ledger.retentions import Keep
from shared import db
from shared.contracts import QUEUES
from shared.db import Role
from shared.operations import audit
from shared.queries.operations.audit_logs import AuditEntry
from shared.settings import settings

DAY_S, HOUR_S, MINUTE_S = 86_400, 3_600, 60


@click.group()
def retention() -> None:
    """Manage retention of ended jobs, per queue.

    The scheduler deletes expired rows once an hour. Dead letters and quarantined messages are
    written to the archive first, with all related rows.
    """


@retention.command("list")
@json_option
def list_retention(as_json: bool) -> None:
    """Show the retention of done jobs, dead letters and quarantined messages per queue."""
    with session.opened():
        rules = keeping.keeps()
    if as_json:
        print_json([_document(rule) for rule in rules])
        return
    rows = [(one.queue, *map(_text, (one.done, one.dead, one.quarantined))) for one in rules]
    print_table(("queue", "done", "dead", "quarantined"), rows)


@retention.command("set")
@click.argument("queue", type=QUEUE)
@click.option(
    "--done", "done_s", type=DURATION, help="Retention of completed and cancelled jobs, such as 7d."
)
@click.option("--dead", "dead_s", type=DURATION, help="Retention of dead letters and their jobs.")
@click.option(
    "--quarantined",
    "quarantined_s",
    type=DURATION,
    help="Retention of quarantined messages, since last seen.",
)
@json_option
def set_retention(queue: str, as_json: bool, **seconds: float | None) -> None:
    """Set the retention of a queue. Options that are not given stay unchanged.

    Deleting a job also deletes its idempotency key: publishing the same job again then creates a
    new one.
    """
    if all(value is None for value in seconds.values()):
        raise click.UsageError("Give --done, --dead or --quarantined; see --help.")
    keep = Keep(queue, *(_age(seconds[name]) for name in ("done_s", "dead_s", "quarantined_s")))
    with session.opened():
        keeping.keeps()  # a queue that is not in the table yet gets its row
        with db.transaction(None, role=Role.RELAY) as conn:
            queries.update_keep(conn, keep)
            [found] = queries.select_keeps(conn, [queue])
            what = {name: value for name, value in _document(keep).items() if value is not None}
            act = AuditEntry(None, session.actor(), "retention.set", "QueueState", queue, what)
            audit.write(conn, [act])
    if as_json:
        print_json(_document(found))
    else:
        kept = (("done", found.done), ("dead", found.dead), ("quarantined", found.quarantined))
        click.echo(f"{queue}: " + ", ".join(f"{name} {_text(age)}" for name, age in kept))


@retention.command("run")
@click.option("--dry-run", is_flag=True, help="Only print how many rows would be deleted.")
@json_option
def run_retention(dry_run: bool, as_json: bool) -> None:
    """Archive and delete expired jobs and messages now."""
    with session.opened():
        swept = keeping.run(settings(), dry_run=dry_run)
        document = _swept(swept)
        if swept.total and not dry_run:
            act = AuditEntry(None, session.actor(), "retention.run", "Job", None, document)
            with db.transaction(None, role=Role.RELAY) as conn:
                audit.write(conn, [act])
    if as_json:
        print_json(document | {"dryRun": dry_run})
        return
    print_table(
        ("queue", "done", "dead", "quarantined"),
        [tuple(row.values()) for row in document["queues"]],
    )
    say(f"{swept.total} {'would be' if dry_run else 'were'} deleted.")
    for file in document["files"]:
        click.echo(f"archived in {file}")


def _swept(swept: Swept) -> dict[str, Any]:
    queues = [
        {
            "queue": queue,
            "done": swept.done[queue],
            "dead": swept.dead[queue],
            "quarantined": swept.quarantined[queue],
        }
        for queue in QUEUES
    ]
    return {"queues": queues, "files": sorted(map(str, swept.files))}


def _document(keep: Keep) -> dict[str, Any]:
    ages = {"done": keep.done, "dead": keep.dead, "quarantined": keep.quarantined}
    return {"queue": keep.queue} | {
        f"{name}Seconds": None if age is None else age.total_seconds() for name, age in ages.items()
    }


def _age(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def _text(age: timedelta | None) -> str:
    """Format an age as it is typed: `7d`, `90m`."""
    assert age is not None, "a row has all three"
    seconds = age.total_seconds()
    for unit, size in (("d", DAY_S), ("h", HOUR_S), ("m", MINUTE_S)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s"
