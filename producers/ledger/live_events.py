"""Live events, from now or from a position; none is missed or repeated."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from producers.json_rows import as_document
from producers.ledger import notifications
from producers.ledger.notifications import Listener
from producers.queries.ledger import events
from producers.queries.ledger.events import BEGINNING, Event, EventFilters, Page, Position
from shared import db
from shared.db import Connection, Role
from shared.errors import ServerUnavailable
from shared.ids import TenantId

__all__ = ["BEGINNING", "Event", "Position", "document", "follow", "follow_pages"]

# The relay notifies this channel after counting events; the payload is the tenant.
CHANNEL = "ailydian_events"
PAGE = 1_000
LOOK_S = 1.0
EVERYTHING = EventFilters()


def document(event: Event) -> dict[str, Any]:
    """Return an event as JSON has it."""
    named = {"position": str(event.position), "tenantId": event.tenant_id or None}
    return as_document(event) | named


def follow(
    tenant_id: TenantId | None = None,
    wanted: EventFilters = EVERYTHING,
    after: Position | None = None,
    *,
    listen_url: str | None = None,
    stop: threading.Event | None = None,
) -> Iterator[Event]:
    """Yield events until the caller stops.

    It continues after outages of Postgres. An event is yielded once: to resume after a restart,
    store `event.position` and pass it as `after`.

    Args:
        tenant_id: The tenant of the events; None for all tenants, which needs the relay's role.
        wanted: Filters.
        after: The position to resume after; None is now, `BEGINNING` the oldest stored event.
        listen_url: Where to LISTEN: a dedicated connection, not behind a transaction pooler.
        stop: Ends it within a second, when set.

    Yields:
        Events in the order of their positions. None is left out: one that commits late gets a
        later position.
    """
    stop = stop or threading.Event()
    for page in follow_pages(tenant_id, wanted, after, listen_url=listen_url, stop=stop):
        yield from page.events


def follow_pages(
    tenant_id: TenantId | None,
    wanted: EventFilters,
    after: Position | None,
    *,
    listen_url: str | None,
    stop: threading.Event,
    look_s: float = LOOK_S,
) -> Iterator[Page]:
    """Yield events page by page, as `follow` does, with the position up to which all is read.

    It looks every `look_s` seconds, and as soon as the relay notifies if `listen_url` is given.
    The first page is empty and tells where it starts, as does the first after an outage: a crash
    may have taken the newest events back.
    """
    reader = _Reader(tenant_id, wanted, after)
    while not stop.is_set():
        try:
            with _listening(listen_url) as listener:
                yield Page([], reader.resume(), full=False)
                told = False
                while not stop.is_set():
                    yield from reader.read(stop, placed=told)
                    told = _wait(listener, stop, look_s)
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

    def resume(self) -> Position:
        """Find the position to start at, and after a crash the one to go back to."""
        with self._transaction() as conn:
            if self._after is None:
                self._after = events.select_end(conn)
            else:
                self._after = events.select_last(conn, self._after)
        return self._after

    def read(self, stop: threading.Event, *, placed: bool) -> Iterator[Page]:
        """Yield what can be read now.

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
            # Before it is yielded: the next read starts after it, whatever happens.
            came, self._after, more = page.end > self._after, page.end, page.full
            if came:
                yield page

    def _transaction(self) -> AbstractContextManager[Connection]:
        role = Role.RELAY if self._tenant_id is None else Role.APP
        return db.transaction(self._tenant_id, role=role)


def _listening(url: str | None) -> AbstractContextManager[Listener | None]:
    return nullcontext() if url is None else notifications.listening(url, CHANNEL)


def _wait(listener: Listener | None, stop: threading.Event, look_s: float) -> bool:
    """Wait for the relay to notify, or until the next look. Returns whether it has."""
    if listener is None:
        stop.wait(look_s)
        return False
    told = listener.wait(look_s)
    while told and listener.wait(0):  # one poll answers all notifications that came together
        pass
    return told
