"""Options that select rows by ids, filters or all, for bulk commands."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import click
import psycopg

from producers.cli.ledger import payload_filters
from producers.cli.terminal import session
from producers.cli.terminal.output import Command, json_option
from producers.cli.terminal.values import JOB, MOMENT, QUEUE, RATE
from producers.errors import JobNotFound
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
    click.option("--until", type=MOMENT, help="Only before this time or age."),
    click.option("--since", type=MOMENT, help="Only after this time or age, such as 2h."),
    click.option(
        "--error", metavar="REGEX", help="Only errors that match this POSIX regular expression."
    ),
    click.option("--queue", type=QUEUE, help="Only this queue."),
)
OF_JOBS = (
    click.option(
        "--fingerprint", metavar="HEX", help="Only this failure, as shown by `list --grouped`."
    ),
    click.option("--tenant", "slug", metavar="SLUG", help="Only this tenant."),
    click.option("--job", type=JOB, help="Only this kind of job."),
    click.option(
        "--where",
        metavar="FIELD=VALUE",
        multiple=True,
        callback=lambda _, __, wanted: payload_filters.condition(wanted),
        help="Only jobs whose payload holds this, such as order_id=17 or order.currency=TRY; "
        "repeat it for several.",
    ),
)
LIMIT = click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=1_000,
    show_default=True,
    help="Maximum rows.",
)
DRY_RUN = click.option("--dry-run", is_flag=True, help="Only print how many match.")
ALL = click.option("--all", "every", is_flag=True, help="Select all.")
IDS = click.argument("ids", nargs=-1, metavar="[ID]...")
CHOICE = (json_option, DRY_RUN, ALL, *FILTERS, IDS)
PACE = click.option("--rate", type=RATE, metavar="N/s", help="Maximum rate.")


def options(*wanted: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Add several options to a command."""

    def give(function: Command) -> Command:
        for option in wanted:
            function = option(function)
        return function

    return give


@dataclass(frozen=True, slots=True)
class DeadLetterSelection:
    """Selected dead letters, and how to process them.

    Attributes:
        ids: Ids of jobs or letters; empty for any.
        wanted: Filters.
        words: The filters as they were given, for the audit log.
        dry_run: Only count.
        rate: Maximum per second.
    """

    ids: tuple[str, ...]
    wanted: DeadLetterFilters
    words: dict[str, Any]
    dry_run: bool
    rate: float | None

    @property
    def page(self) -> int:
        """Return the page size of one transaction."""
        return page_size(self.rate)


def page_size(rate: float | None) -> int:
    """Return the page size of one transaction that keeps a rate even."""
    return PAGE if rate is None else max(1, min(PAGE, int(rate / BATCHES_PER_SECOND)))


def read(options_given: dict[str, Any]) -> DeadLetterSelection:
    """Build a selection from the options of `CHOICE`, `OF_JOBS` and `PACE`; needs a session.

    Raises:
        TenantNotFound: No tenant has this slug.
        JobNotFound: An id belongs to neither a job nor a dead letter.
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
    """Build filters from options; needs an open session.

    Raises:
        TenantNotFound: No tenant has this slug.
    """
    rest = dict(given)
    slug = rest.pop("slug")
    tenant_id = None if slug is None else session.tenant_named(slug)
    return DeadLetterFilters(tenant_id=tenant_id, **rest)


def refuse_no_choice(ids: Sequence[str], every: bool, filters: dict[str, Any]) -> None:
    """Require ids, filters or an explicit --all.

    Raises:
        click.UsageError: Neither ids nor filters nor --all.
    """
    if not (ids or every or any(value is not None for value in filters.values())):
        raise click.UsageError("Give ids, filters, or --all; see --help.")


@contextmanager
def regex_checked() -> Iterator[None]:
    """Validate a regular expression in Postgres.

    Raises:
        click.UsageError: It is invalid.
    """
    try:
        yield
    except psycopg.errors.InvalidRegularExpression as error:
        raise click.UsageError(f"--error: {str(error).partition(chr(10))[0]}.") from error


def pages(choice: DeadLetterSelection, first: int | None = None) -> Iterator[list[DeadRow]]:
    """Yield pages of letters that were dead at the start; jobs that die again are not repeated.

    Args:
        choice: The selection.
        first: Size of the first page; None for the normal size.
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
    """Count the selected letters."""
    if choice.ids:
        return len(choice.ids)
    with db.transaction(None, role=Role.RELAY) as conn, regex_checked():
        return dead_letters.count_dead(conn, choice.wanted)


@contextmanager
def progress(title: str, total: Callable[[], int]) -> Iterator[Advance]:
    """Show a progress bar on a terminal; in a pipe nothing is shown or counted."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn  # noqa: PLC0415

    from producers.cli.terminal import drawing  # noqa: PLC0415 - as rich

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=drawing.console(sys.stderr), transient=True) as bar:
        task = bar.add_task(title, total=total())
        yield lambda done: bar.advance(task, done)


def _refuse_unknown(ids: Sequence[str]) -> None:
    """Reject ids that belong to neither a job nor a letter; jobs that are not dead are fine."""
    with db.transaction(None, role=Role.RELAY) as conn:
        known: set[str] = {row.id for row in ledger.select_by_ids(conn, [JobId(it) for it in ids])}
        letters = dead_letters.select_dead(conn, DeadLetterFilters(), ids=ids, limit=len(ids))
    known |= {row.letter_id for row in letters}
    unknown = [one for one in ids if one not in known]
    if unknown:
        raise JobNotFound(f"No job has the id {unknown[0]!r}: see `ailydian dead list`.")
