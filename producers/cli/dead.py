"""`dead`: jobs that wait for an operator."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import click
import psycopg

from producers.cli import session
from producers.cli.failures import JobNotFound
from producers.cli.output import (
    Command,
    as_document,
    json_option,
    print_fields,
    print_json,
    print_table,
)
from producers.cli.values import JOB, MOMENT, QUEUE, RATE
from shared import db
from shared.db import Connection, Role
from shared.ids import JobId
from shared.queries import dead_letters
from shared.queries import jobs as ledger
from shared.queries.dead_letters import DeadRow, Filters

PAGE = 500
BATCHES_PER_SECOND = 4
Ids = tuple[str, ...]


FILTERS = (
    click.option("--until", type=MOMENT, help="Not later than this time or age."),
    click.option("--since", type=MOMENT, help="Not earlier than this time or age, such as 2h."),
    click.option("--error", metavar="REGEX", help="What the error must match (POSIX)."),
    click.option("--queue", type=QUEUE),
)
LIMIT = click.option("--limit", type=click.IntRange(1, 100_000), default=1_000, show_default=True)
CHOICE = (
    json_option,
    click.option("--dry-run", is_flag=True, help="Only say how many it would be."),
    click.option("--all", "every", is_flag=True, help="All there are."),
    *FILTERS,
    click.argument("ids", nargs=-1, metavar="[ID]..."),
)
_OF_JOBS = (click.option("--tenant", "slug", metavar="SLUG"), click.option("--job", type=JOB))
_RATE = click.option("--rate", type=RATE, metavar="N/s", help="Not faster than this.")


def options(*wanted: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Give a command several options at once."""

    def give(function: Command) -> Command:
        for option in wanted:
            function = option(function)
        return function

    return give


@click.group()
def dead() -> None:
    """List, show, replay and discard dead jobs: those that need a person."""


@dead.command("list")
@options(json_option, LIMIT, *FILTERS, *_OF_JOBS)
def list_dead(limit: int, as_json: bool, **filters: Any) -> None:  # noqa: ANN401
    """Dead jobs in the order of their deaths."""
    with session.opened():
        wanted = _read(filters)
        with db.transaction(None, role=Role.RELAY) as conn, regex_checked():
            rows = dead_letters.select_dead(conn, wanted, limit=limit)
    if as_json:
        print_json([as_document(row) for row in rows])
        return
    columns = ("id", "job", "queue", "tenant", "attempts", "reason", "died", "error")
    print_table(
        columns,
        [(r.id, r.job, r.queue, r.tenant, r.attempts, r.reason, r.died_at, r.error) for r in rows],
    )


@dead.command("show")
@click.argument("job_id", metavar="ID")
@json_option
def show_dead(job_id: str, as_json: bool) -> None:
    """One dead job: its payload, and every attempt with its traceback."""
    with session.opened(), db.transaction(None, role=Role.RELAY) as conn:
        rows = dead_letters.select_dead(conn, Filters(), ids=[job_id], limit=1)
        if not rows:
            raise JobNotFound(f"No dead job has the id {job_id!r}: see `ailydian dead list`.")
        job = ledger.select_by_ids(conn, [rows[0].id])[0]
        attempts = [as_document(one) for one in ledger.select_attempts(conn, rows[0].id)]
    document = as_document(rows[0]) | {"payload": job.payload, "key": job.key}
    if as_json:
        print_json(document | {"history": attempts})
        return
    print_fields(document)
    for attempt in attempts:
        click.echo(f"\nattempt {attempt['attempt']}, {attempt['verdict']}: {attempt['error']}")
        click.echo((attempt["traceback"] or "").rstrip())


@dead.command("replay")
@options(_RATE, *CHOICE, *_OF_JOBS)
def replay_dead(as_json: bool, **choice: Any) -> None:  # noqa: ANN401
    """Give dead jobs a new life: attempts from one, the old ones kept to be read.

    By ids or by filters. However often it is pressed, a dead job gets one new life.
    """
    _act(dead_letters.replay, "replayed", as_json, choice)


@dead.command("discard")
@options(_RATE, *CHOICE, *_OF_JOBS)
def discard_dead(as_json: bool, **choice: Any) -> None:  # noqa: ANN401
    """End dead jobs for good: they become CANCELLED and keep their error."""
    _act(dead_letters.discard, "discarded", as_json, choice)


def _act(
    act: Callable[[Connection, Sequence[JobId]], int],
    verb: str,
    as_json: bool,
    choice: dict[str, Any],
) -> None:
    ids: Ids = choice.pop("ids")
    every, rate = choice.pop("every"), choice.pop("rate")
    dry_run = choice.pop("dry_run")
    refuse_no_choice(ids, every, choice)
    with session.opened():
        wanted = _read(choice)
        if ids:
            _refuse_unknown(ids)
        matched = done = 0
        size = PAGE if rate is None else max(1, min(PAGE, int(rate / BATCHES_PER_SECOND)))
        for page in _pages(wanted, ids or None, size):
            began = time.monotonic()
            matched += len(page)
            if dry_run:
                continue
            with db.transaction(None, role=Role.RELAY) as conn:
                done += act(conn, [row.id for row in page])
            if rate is not None:
                time.sleep(max(0.0, len(page) / rate - (time.monotonic() - began)))
    if as_json:
        print_json({"matched": matched, verb: done} | ({"dryRun": True} if dry_run else {}))
    else:
        click.echo(f"{matched} matched, {done} {verb}.")


def refuse_no_choice(ids: Ids, every: bool, filters: dict[str, Any]) -> None:
    """Make sure that someone who means everything says so.

    Raises:
        click.UsageError: Neither ids nor filters nor --all.
    """
    if not (ids or every or any(value is not None for value in filters.values())):
        raise click.UsageError("Say which: ids, filters, or --all for every one; see --help.")


def _read(filters: dict[str, Any]) -> Filters:
    slug = filters.pop("slug")
    tenant_id = None if slug is None else session.tenant_named(slug)
    return Filters(tenant_id=tenant_id, **filters)


@contextmanager
def regex_checked() -> Iterator[None]:
    """Let Postgres, whose regular expressions these are, say what is wrong with one.

    Raises:
        click.UsageError: It does not parse.
    """
    try:
        yield
    except psycopg.errors.InvalidRegularExpression as error:
        raise click.UsageError(f"--error: {str(error).partition(chr(10))[0]}.") from error


def _pages(wanted: Filters, ids: Ids | None, size: int) -> Iterator[list[DeadRow]]:
    """What was dead when we began, a page at a time; who dies again meanwhile is not met twice."""
    with db.transaction(None, role=Role.RELAY) as conn:
        now = dead_letters.select_now(conn)
    wanted = replace(wanted, until=min(wanted.until or now, now))
    after: str | None = None
    while True:
        with db.transaction(None, role=Role.RELAY) as conn, regex_checked():
            page = dead_letters.select_dead(conn, wanted, ids=ids, after=after, limit=size)
        if page:
            yield page
            after = page[-1].letter_id
        if len(page) < size:
            return


def _refuse_unknown(ids: Ids) -> None:
    """An id that is neither a job's nor a letter's is a mistake; a job that lives is not."""
    with db.transaction(None, role=Role.RELAY) as conn:
        known = {row.id for row in ledger.select_by_ids(conn, [JobId(one) for one in ids])}
        letters = dead_letters.select_dead(conn, Filters(), ids=ids, limit=len(ids))
    known_letters = {row.letter_id for row in letters}
    unknown = [one for one in ids if one not in known and one not in known_letters]
    if unknown:
        raise JobNotFound(f"No job has the id {unknown[0]!r}: see `ailydian dead list`.")
