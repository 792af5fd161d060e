"""Retention: expired jobs and messages are archived and deleted, queue by queue.

Ended jobs are found by their events, so that the ledger needs no index for it. Queues with equal
retention share a scan of the events; its position is stored under a name made of the queues and
the time, so a changed rule starts a new scan. Every batch is one short transaction, and batches
take turns: concurrent runs are safe.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import takewhile
from pathlib import Path

import structlog

from producers.ledger import archive
from producers.queries.ledger import events
from producers.queries.ledger import retentions as queries
from producers.queries.ledger.retentions import START, EventCursor, Keep
from shared import db
from shared.contracts import QUEUES
from shared.db import Connection, Role
from shared.queries.ledger import clock
from shared.settings import Settings

log = structlog.get_logger()

EVENTS_MAX = 2_000
# Rows that are archived are held in memory, each with its payload and tracebacks.
ARCHIVED_MAX = 200


@dataclass(slots=True)
class Swept:
    """The result of a run: deleted rows by queue, and the files written."""

    done: Counter[str] = field(default_factory=Counter)
    dead: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)
    files: set[Path] = field(default_factory=set)

    @property
    def total(self) -> int:
        """Total of jobs and messages."""
        return self.done.total() + self.dead.total() + self.quarantined.total()


def keeps() -> list[Keep]:
    """Return the retention of each queue."""
    with db.transaction(None, role=Role.RELAY) as conn:
        return queries.select_keeps(conn, QUEUES)


def run(config: Settings, *, dry_run: bool = False, stop: threading.Event | None = None) -> Swept:
    """Archive and delete everything older than its queue's retention.

    Deleting a job also deletes its idempotency key: publishing the same job again creates a new
    one.

    Args:
        config: The archive's folder, and whether done jobs are archived too.
        dry_run: Only count.
        stop: Ends the run after a batch.

    Raises:
        OSError: The archive cannot be written; rows not archived are not deleted.
        ServerUnavailable: Postgres is not responding. Committed batches stay.
    """
    sweep = _Sweep(config, dry_run, stop or threading.Event())
    rules = keeps()
    sweep.dead({keep.queue: _known(keep.dead) for keep in rules})
    sweep.quarantined({keep.queue: _known(keep.quarantined) for keep in rules})
    with db.transaction(None, role=Role.RELAY) as conn:
        events.place(conn)  # the relay does so, where one runs
    walks: dict[timedelta, list[str]] = defaultdict(list)
    for keep in rules:
        walks[_known(keep.done)].append(keep.queue)
    for age, queues in walks.items():
        sweep.walk(age, queues)
    if not dry_run:
        with db.transaction(None, role=Role.RELAY) as conn:
            queries.delete_other_walks(conn, [_name(age, names) for age, names in walks.items()])
    if sweep.swept.total:
        log.info("retention.swept", jobs=sweep.swept.total, dry_run=dry_run)
    return sweep.swept


class _Sweep:
    """A run and its progress."""

    def __init__(self, config: Settings, dry_run: bool, stop: threading.Event) -> None:
        self.swept = Swept()
        self._dry_run = dry_run
        self._stop = stop
        self._folder = config.archive_dir or config.home / "archive"
        self._archive_done = config.archive_done

    def dead(self, ages: Mapping[str, timedelta]) -> None:
        """Delete dead letters, with their jobs and attempts."""
        if self._dry_run:
            with _batch() as conn:
                self.swept.dead.update(queries.count_dead(conn, dict(ages)))
            return

        def delete(conn: Connection) -> int:
            ids = queries.lock_dead(conn, dict(ages), limit=ARCHIVED_MAX)
            self._file(conn, "dead", queries.select_job_lines(conn, ids))
            self.swept.dead.update(queries.delete_jobs(conn, ids))
            return len(ids)

        self._until_empty(delete)

    def quarantined(self, ages: Mapping[str, timedelta]) -> None:
        """Delete quarantined messages."""
        if self._dry_run:
            with _batch() as conn:
                self.swept.quarantined.update(queries.count_quarantined(conn, dict(ages)))
            return

        def delete(conn: Connection) -> int:
            ids = queries.lock_quarantined(conn, dict(ages), limit=ARCHIVED_MAX)
            self._file(conn, "quarantined", queries.select_quarantined_lines(conn, ids))
            self.swept.quarantined.update(queries.delete_quarantined(conn, ids))
            return len(ids)

        self._until_empty(delete)

    def walk(self, age: timedelta, queues: Sequence[str]) -> None:
        """Delete completed and cancelled jobs of queues with equal retention, and their events."""
        place = START
        more = True
        while more and not self._stop.is_set():
            with _batch() as conn:
                if not self._dry_run:  # a concurrent run moves it too
                    place = queries.select_place(conn, _name(age, queues))
                place, more = self._step(conn, place, age, queues)

    def _step(
        self, conn: Connection, place: EventCursor, age: timedelta, queues: Sequence[str]
    ) -> tuple[EventCursor, bool]:
        """Process one page of events. Returns its end, and whether more may have expired there."""
        limit = ARCHIVED_MAX if self._archive_done else EVENTS_MAX
        found = queries.select_events(conn, place, age=age, limit=limit)
        ripe = list(takewhile(lambda event: event.ripe, found))
        if not ripe:
            return place, False
        ids = sorted({event.job_id for event in ripe if event.ends and event.queue in queues})
        to = ripe[-1].place
        if self._dry_run:
            self.swept.done.update(queries.count_done(conn, ids, age=age))
            return to, len(ripe) == limit
        over = queries.lock_done(conn, ids, age=age)
        if self._archive_done:
            self._file(conn, "done", queries.select_job_lines(conn, over))
        self.swept.done.update(queries.delete_jobs(conn, over))
        gone = [event for event in ripe if event.queue in queues]
        queries.pass_by(conn, _name(age, queues), place, gone, to)
        return to, len(ripe) == limit

    def _until_empty(self, delete: Callable[[Connection], int]) -> None:
        more = True
        while more and not self._stop.is_set():
            with _batch() as conn:
                more = delete(conn) == ARCHIVED_MAX

    def _file(self, conn: Connection, kind: str, lines: Sequence[str]) -> None:
        if lines:
            now = clock.select_now(conn)
            self.swept.files.add(archive.append(self._folder, kind, lines, now))


def _batch() -> AbstractContextManager[Connection]:
    """Open a transaction in which no other run archives or deletes."""
    return db.transaction(None, role=Role.RELAY, first=queries.TAKE_TURNS)


def _name(age: timedelta, queues: Sequence[str]) -> str:
    return f"{age.total_seconds():.0f}:{','.join(sorted(queues))}"


def _known(age: timedelta | None) -> timedelta:
    assert age is not None, "a row has all three"
    return age
