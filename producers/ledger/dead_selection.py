"""Selected dead letters, in pages: by ids, by filters, or all."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import psycopg

from producers.errors import JobNotFound
from producers.queries.ledger import dead_letters
from producers.queries.ledger import jobs as ledger
from producers.queries.ledger.dead_letters import DeadLetterFilters, DeadRow
from shared import db
from shared.db import Connection, Role
from shared.errors import UsageError
from shared.ids import JobId, TenantId
from shared.queries.ledger import clock

PAGE: Final = 2_000
BATCHES_PER_SECOND: Final = 4


COMPARED_S: Final = 5.0
_comparing: Final = threading.Lock()


class RegexRefused(UsageError):
    """Postgres cannot read the regular expression, or is busy with it for too long."""

    code = "regex_refused"


class RegexBusy(UsageError):
    """Another regular expression is being compared."""

    code = "regex_busy"


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


@contextmanager
def regex_checked(conn: Connection, pattern: str | None) -> Iterator[None]:
    """Compare with a regular expression: one at a time in a process, and for some seconds at most.

    A short one can keep Postgres busy for half a minute, whatever it is compared with.

    Raises:
        RegexBusy: Another one is being compared.
        RegexRefused: It is invalid, or takes too long.
    """
    if pattern is None:
        yield
        return
    if not _comparing.acquire(blocking=False):
        raise RegexBusy("Another regular expression is being compared: ask again.")
    try:
        dead_letters.limit_time(conn, seconds=COMPARED_S)
        yield
    except psycopg.errors.InvalidRegularExpression as error:
        raise RegexRefused(f"{str(error).partition(chr(10))[0]}.") from error
    except psycopg.errors.QueryCanceled as error:
        raise RegexRefused(
            f"The regular expression takes longer than {COMPARED_S:g} s: write a simpler one."
        ) from error
    finally:
        _comparing.release()


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
    pattern = None if choice.ids else wanted.error
    while True:
        with db.transaction(None, role=Role.RELAY) as conn, regex_checked(conn, pattern):
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
    with db.transaction(None, role=Role.RELAY) as conn, regex_checked(conn, choice.wanted.error):
        return dead_letters.count_dead(conn, choice.wanted)


def refuse_unknown(conn: Connection, ids: Sequence[str], tenant_id: TenantId | None = None) -> None:
    """Reject ids that belong to neither a job nor a letter; jobs that are not dead are fine.

    Args:
        conn: A connection in the relay's role.
        ids: Of jobs or letters.
        tenant_id: Whose they must be; None for any.

    Raises:
        JobNotFound: The first one that is unknown.
    """
    jobs = ledger.select_by_ids(conn, [JobId(it) for it in ids], tenant_id=tenant_id)
    known: set[str] = {row.id for row in jobs}
    wanted = DeadLetterFilters(tenant_id=tenant_id)
    letters = dead_letters.select_dead(conn, wanted, ids=ids, limit=len(ids))
    known |= {row.letter_id for row in letters}
    unknown = [one for one in ids if one not in known]
    if unknown:
        raise JobNotFound(f"No job has the id {unknown[0]!r}: see `ailydian dead list`.")
