"""Live events for many: one reader of this process, and streams that it is told to.

A thread reads all events once, in their order, and the server's loop tells each to the streams of
its tenant. Streams live in that loop alone, so a stream joins exactly where it has read up to: no
event is lost or told twice between the two.
"""

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import psycopg
import structlog
from starlette.concurrency import run_in_threadpool

from producers.accounts import scopes
from producers.accounts.scopes import Scope
from producers.ledger import live_events
from producers.queries.accounts import api_keys, sessions
from producers.queries.ledger.events import EventFilters, Position
from producers.web import access
from producers.web.event_streams import LiveStream, Told, told
from producers.web.problems import RETRY_AFTER_S, Refused
from shared import db
from shared.db import Role
from shared.errors import AilydianError
from shared.ids import TenantId
from shared.observability import outages

log = structlog.get_logger()

# Without being told: the relay comes five times a second, when it has work.
LOOK_S: Final = 0.05
HEARTBEAT_S: Final = 15.0
TICK_S: Final = 1.0
READERS_MAX: Final = 2
STREAMS_MAX: Final = 4_000
TENANT_STREAMS_MAX: Final = 1_000
_AWAY_S: Final = 1.0


class Streams:
    """The streams of a process, and the reader that serves them.

    Attributes:
        position: Up to here, all was told to the streams that have joined.
        reading: Who reads from the database on its own takes turns.
    """

    def __init__(
        self,
        listen_url: str | None = None,
        *,
        most: int = STREAMS_MAX,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self.position: Position | None = None
        self._listen_url = listen_url
        self._most = most
        self._heartbeat_s = heartbeat_s
        self._all: dict[LiveStream, None] = {}
        self._joined: dict[TenantId | None, dict[LiveStream, None]] = defaultdict(dict)
        self._stop = threading.Event()
        self._reader: threading.Thread | None = None
        self._ready = asyncio.Event()
        self.reading = asyncio.Semaphore(READERS_MAX)
        self._ticking: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._all)

    def check_room(self, tenant_id: TenantId | None) -> None:
        """Check that a tenant may have one more stream.

        Raises:
            Refused: There are too many.
        """
        alike = sum(one.tenant_id == tenant_id for one in self._all)
        if len(self._all) >= self._most or alike >= TENANT_STREAMS_MAX:
            raise Refused(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too_many_streams",
                "Too many streams of events are open: close some, or ask again.",
                {"Retry-After": str(RETRY_AFTER_S)},
            )

    async def open(self, stream: LiveStream) -> None:
        """Take a stream, and wait until it is known up to where all are told."""
        self._all[stream] = None
        if self._stop.is_set():
            stream.end()
        elif self._reader is None:
            self._loop = asyncio.get_running_loop()
            self._ticking = self._loop.create_task(self._tick())
            self._reader = threading.Thread(target=self._read, name="events", daemon=True)
            self._reader.start()
        if not self._stop.is_set():
            await self._ready.wait()

    def join(self, stream: LiveStream) -> bool:
        """Tell a stream all from here on, if it has read up to here. Returns whether it has."""
        assert self.position is not None, "it was opened"
        if stream.after < self.position:
            return False
        self._joined[stream.tenant_id][stream] = None
        return True

    def leave(self, stream: LiveStream) -> None:
        """Tell a stream nothing more: it is too slow, and reads on its own."""
        self._joined[stream.tenant_id].pop(stream, None)

    def close(self, stream: LiveStream) -> None:
        """Forget a stream."""
        self.leave(stream)
        self._all.pop(stream, None)

    def stop(self) -> None:
        """End all streams, from another thread; those who follow come back to another process."""
        self._stop.set()
        if self._reader is not None:
            assert self._loop is not None, "the reader was started in one"
            self._loop.call_soon_threadsafe(self._end_all)
            self._reader.join()

    def _end_all(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
        for stream in [*self._all]:
            stream.end()

    def _read(self) -> None:
        """Read all events, in a thread of its own; if it fails, all streams end, and resume."""
        assert self._loop is not None, "open comes first"
        try:
            self._read_on(self._loop)
        finally:
            if not self._stop.is_set():
                self._loop.call_soon_threadsafe(self._begin_anew)

    def _begin_anew(self) -> None:
        self._end_all()
        self._ready.clear()
        self.position = self._reader = None

    def _read_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read through outages of Postgres."""
        after = None
        while not self._stop.is_set():
            try:
                for page in live_events.follow_pages(
                    None,
                    EventFilters(),
                    after,
                    listen_url=self._listen_url,
                    stop=self._stop,
                    look_s=LOOK_S,
                ):
                    after = page.end
                    loop.call_soon_threadsafe(self._tell, told(page.events), page.end)
            except (AilydianError, psycopg.Error) as error:
                outages.note(error)
                self._stop.wait(_AWAY_S)

    def _tell(self, news: Sequence[Told], end: Position) -> None:
        if self.position is not None and end < self.position:
            # A crash of the server took back what was told: they find out when they come back.
            for stream in [*self._all]:
                stream.end()
        everyone = self._joined[None]
        for one in news:
            its = self._joined.get(one.event.tenant_id) if one.event.tenant_id else None
            for stream in [*everyone, *(its or ())]:
                stream.offer(one)
        self.position = end
        self._ready.set()

    async def _tick(self) -> None:
        """Once a second: heartbeats for quiet streams, and an end for those whose key has ended."""
        while True:
            await asyncio.sleep(TICK_S)
            quiet_since = time.monotonic() - self._heartbeat_s
            for stream in [*self._all]:
                stream.beat(quiet_since)
            try:
                await self._end_unfit()
            except (AilydianError, psycopg.Error) as error:
                outages.note(error)  # nothing is told either, while Postgres is away

    async def _end_unfit(self) -> None:
        ids = {stream.asks for stream in self._all}
        if ids:
            fit = await run_in_threadpool(_fit, sorted(ids))
            for stream in [*self._all]:
                if (stream.asks, stream.allowed) not in fit and stream.asks in ids:
                    stream.end()


def _fit(ids: Sequence[str]) -> set[tuple[str, TenantId | None]]:
    """Return those keys and sessions that may follow events, each with the tenant it acts for."""
    with db.transaction(None, role=Role.OWNER, durable=False) as conn:
        keys = api_keys.select_held_by_ids(conn, ids)
        people = sessions.select_live(conn, ids)
    fit = {
        (one.id, one.acts_for)
        for one in keys
        if access.why_not(one) is None
        and Scope.EVENTS_READ in scopes.effective(one.scopes, one.role)
    }
    return fit | {
        (one.id, one.acts_for) for one in people if Scope.EVENTS_READ in scopes.of_role(one.role)
    }
