"""Which ones: ids, filters or all, for the commands that act on many things at once."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import click
import psycopg

from producers.cli.terminal import session
from producers.cli.terminal.failures import JobNotFound
from producers.cli.terminal.output import Command, json_option
from producers.cli.terminal.values import JOB, MOMENT, QUEUE, RATE
from producers.queries.ledger import dead_letters
from producers.queries.ledger import jobs as ledger
from producers.queries.ledger.dead_letters import DeadLetterFilters, DeadRow
from shared import db
from shared.db import Role
from shared.ids import JobId
from shared.queries.ledger import clock

PAGE = 2_000
BATCHES_PER_SECOND = 4
Advance = Callable[[int], None]

FILTERS = (
    click.option("--until", type=MOMENT, help="Not later than this time or age."),
    click.option("--since", type=MOMENT, help="Not earlier than this time or age, such as 2h."),
    click.option("--error", metavar="REGEX", help="What the error must match (POSIX)."),
    click.option("--queue", type=QUEUE),
)
OF_JOBS = (
    click.option("--fingerprint", metavar="HEX", help="As `list --grouped` shows it."),
    click.option("--tenant", "slug", metavar="SLUG"),
    click.option("--job", type=JOB),
)
LIMIT = click.option("--limit", type=click.IntRange(1, 100_000), default=1_000, show_default=True)
DRY_RUN = click.option("--dry-run", is_flag=True, help="Only say how many it would be.")
ALL = click.option("--all", "every", is_flag=True, help="All there are.")
IDS = click.argument("ids", nargs=-1, metavar="[ID]...")
CHOICE = (json_option, DRY_RUN, ALL, *FILTERS, IDS)
PACE = click.option("--rate", type=RATE, metavar="N/s", help="Not faster than this.")


def options(*wanted: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Give a command several options at once."""

    def give(function: Command) -> Command:
        for option in wanted:
            function = option(function)
        return function

    return give


@dataclass(frozen=True, slots=True)
class DeadLetterSelection:
    """Which dead letters, and whether and how fast.

    Attributes:
        ids: Of jobs or letters; empty for any.
        wanted: What they must be like.
        words: The filters as they were given, for the audit log.
        dry_run: Whether nothing shall happen.
        rate: At most so many a second.
    """

    ids: tuple[str, ...]
    wanted: DeadLetterFilters
    words: dict[str, Any]
    dry_run: bool
    rate: float | None

    @property
    def page(self) -> int:
        """How many go in one transaction."""
        return page_size(self.rate)


def page_size(rate: float | None) -> int:
    """How many go in one transaction, so that a rate is kept evenly."""
    return PAGE if rate is None else max(1, min(PAGE, int(rate / BATCHES_PER_SECOND)))


def read(options_given: dict[str, Any]) -> DeadLetterSelection:
    """What the options of `CHOICE`, `OF_JOBS` and `PACE` choose; needs an open session.

    Raises:
        TenantNotFound: No tenant has this slug.
        JobNotFound: An id is neither a job's nor a letter's.
        click.UsageError: Neither ids nor filters nor --all.
    """
    given = dict(options_given)
    ids, rate, dry_run = given.pop("ids"), given.pop("rate"), given.pop("dry_run")
    refuse_no_choice(ids, given.pop("every"), given)
    if ids:
        _refuse_unknown(ids)
    words = {name: str(value) for name, value in given.items() if value is not None}
    return DeadLetterSelection(ids, read_filters(given), words, dry_run, rate)


def read_filters(given: dict[str, Any]) -> DeadLetterFilters:
    """The filters of options; needs an open session.

    Raises:
        TenantNotFound: No tenant has this slug.
    """
    rest = dict(given)
    slug = rest.pop("slug")
    tenant_id = None if slug is None else session.tenant_named(slug)
    return DeadLetterFilters(tenant_id=tenant_id, **rest)


def refuse_no_choice(ids: Sequence[str], every: bool, filters: dict[str, Any]) -> None:
    """Make sure that someone who means everything says so.

    Raises:
        click.UsageError: Neither ids nor filters nor --all.
    """
    if not (ids or every or any(value is not None for value in filters.values())):
        raise click.UsageError("Say which: ids, filters, or --all for every one; see --help.")


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


def pages(choice: DeadLetterSelection, first: int | None = None) -> Iterator[list[DeadRow]]:
    """What was dead when we began, a page at a time; who dies again meanwhile is not met twice.

    Args:
        choice: Which ones.
        first: How many the first page has; None for as many as the others.
    """
    with db.transaction(None, role=Role.RELAY) as conn:
        now = clock.select_now(conn)
    wanted = replace(choice.wanted, until=min(choice.wanted.until or now, now))
    after: str | None = None
    size = min(first or choice.page, choice.page)
    while True:
        with db.transaction(None, role=Role.RELAY) as conn, regex_checked():
            page = dead_letters.select_dead(
                conn, wanted, ids=choice.ids or None, after=after, limit=size
            )
        if page:
            yield page
            after = page[-1].letter_id
        if len(page) < size:
            return
        size = choice.page


def count(choice: DeadLetterSelection) -> int:
    """How many letters a choice means."""
    if choice.ids:
        return len(choice.ids)
    with db.transaction(None, role=Role.RELAY) as conn, regex_checked():
        return dead_letters.count_dead(conn, choice.wanted)


@contextmanager
def progress(title: str, total: Callable[[], int]) -> Iterator[Advance]:
    """A bar on a terminal; nothing in a pipe, and then nothing is counted beforehand."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 - slow to import, and for terminals only
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn  # noqa: PLC0415

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total())
        yield lambda done: bar.advance(task, done)


def _refuse_unknown(ids: Sequence[str]) -> None:
    """An id that is neither a job's nor a letter's is a mistake; a job that lives is not."""
    with db.transaction(None, role=Role.RELAY) as conn:
        known: set[str] = {row.id for row in ledger.select_by_ids(conn, [JobId(it) for it in ids])}
        letters = dead_letters.select_dead(conn, DeadLetterFilters(), ids=ids, limit=len(ids))
    known |= {row.letter_id for row in letters}
    unknown = [one for one in ids if one not in known]
    if unknown:
        raise JobNotFound(f"No job has the id {unknown[0]!r}: see `ailydian dead list`.")
