"""Options that select rows by ids, filters or all, for bulk commands."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from producers.cli.terminal import session
from producers.cli.terminal.output import Command, json_option
from producers.cli.terminal.values import JOB, MOMENT, QUEUE, RATE
from producers.ledger import dead_selection, payload_filters
from producers.ledger.dead_selection import DeadLetterSelection, RegexRefused
from producers.ledger.payload_filters import ConditionRefused
from producers.queries.ledger.dead_letters import DeadLetterFilters
from shared import db
from shared.db import Role

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
        callback=lambda _, __, wanted: _condition(wanted),
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
        with db.transaction(None, role=Role.RELAY) as conn:
            dead_selection.refuse_unknown(conn, ids)
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


def _condition(wanted: Sequence[str]) -> str | None:
    try:
        return payload_filters.condition(wanted)
    except ConditionRefused as error:
        raise click.BadParameter(str(error)) from error


def refuse_no_choice(ids: Sequence[str], every: bool, filters: dict[str, Any]) -> None:
    """Require ids, filters or an explicit --all.

    Raises:
        click.UsageError: Neither ids nor filters nor --all.
    """
    if not (ids or every or any(value is not None for value in filters.values())):
        raise click.UsageError("Give ids, filters, or --all; see --help.")


@contextmanager
def regex_told() -> Iterator[None]:
    """Tell of an invalid regular expression as of any invalid option.

    Raises:
        click.UsageError: It is invalid.
    """
    try:
        yield
    except RegexRefused as error:
        raise click.UsageError(f"--error: {error}") from error


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
