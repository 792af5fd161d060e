"""Live job events, from now or from a position; none is missed or repeated."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

from producers.queries.ledger import events
from producers.queries.ledger.events import BEGINNING, Event, EventFilters, Position
from shared import db
from shared.db import Connection, Listener, Role
from shared.errors import ServerUnavailable
from shared.ids import JobId, TenantId

__all__ = ["BEGINNING", "Event", "Position", "follow"]

# The relay notifies this channel after counting events; the payload is the tenant.
CHANNEL = "ailydian_events"
PAGE = 1_000
LOOK_S = 1.0


def follow(
    tenant_id: TenantId | None = None,
    job_id: JobId | None = None,
    after: Position | None = None,
    *,
    batch_id: str | None = None,
    listen_url: str | None = None,
    stop: threading.Event | None = None,
) -> Iterator[Event]:
    """Yield job events until the caller stops.

    It polls once a second, and as soon as the relay notifies if `listen_url` is given. It continues
    after outages of Postgres. An event is yielded once: to resume after a restart, store
    `event.position` and pass it as `after`.

    Args:
        tenant_id: The tenant of the jobs; None for all tenants, which needs the relay's role.
        job_id: Only this job.
        after: The position to resume after; None is now, `BEGINNING` the oldest stored event.
        batch_id: Only the jobs of this batch.
        listen_url: Where to LISTEN: a dedicated connection, not behind a transaction pooler.
        stop: Ends it within a second, when set.

    Yields:
        Events in the order of their positions. None is left out: one that commits late gets a
        later position.
    """
    reader = _Reader(tenant_id, EventFilters(job_id, batch_id), after)
    stop = stop or threading.Event()
    while not stop.is_set():
        try:
            with _listening(listen_url) as listener:
                reader.resume()
                told = False
                while not stop.is_set():
                    yield from reader.read(stop, placed=told)
                    told = _wait(listener, stop)
        except ServerUnavailable:
            stop.wait(LOOK_S)


class _Reader:
    """The position of a reader."""

    def __init__(
        self, tenant_id: TenantId | None, wanted: EventFilters, after: Position | None
    ) -> None:
        self._tenant_id = tenant_id
        self._wanted = wanted
        self._after = after

    def resume(self) -> None:
        """Find the position to start at, and after a crash the one to go back to."""
        with self._transaction() as conn:
            if self._after is None:
                self._after = events.select_end(conn)
            else:
                self._after = events.select_last(conn, self._after)

    def read(self, stop: threading.Event, *, placed: bool) -> Iterator[Event]:
        """Yield the events that can be read now.

        Args:
            stop: Ends it, when set.
            placed: Whether the relay has just given the newest events their place.
        """
        more = True
        while more and not stop.is_set():
            assert self._after is not None, "resume comes first"
            with self._transaction() as conn:
                if not placed:
                    events.place(conn)
                page = events.select_events(conn, self._after, self._wanted, limit=PAGE)
            for event in page.events:
                # Before it is yielded: the next read starts after it, whatever happens.
                self._after = event.position
                yield event
            self._after, more = page.end, page.full

    def _transaction(self) -> AbstractContextManager[Connection]:
        role = Role.RELAY if self._tenant_id is None else Role.APP
        return db.transaction(self._tenant_id, role=role)


def _listening(url: str | None) -> AbstractContextManager[Listener | None]:
    return nullcontext() if url is None else db.listening(url, CHANNEL)


def _wait(listener: Listener | None, stop: threading.Event) -> bool:
    """Wait for the relay to notify, or for a second. Returns whether it has."""
    if listener is None:
        stop.wait(LOOK_S)
        return False
    told = listener.wait(LOOK_S)
    while told and listener.wait(0):  # one poll answers all notifications that came together
        pass
    return told
