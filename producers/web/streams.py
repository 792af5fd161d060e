"""The streams of a process: how many there are, who may read, and one reader of events for all.

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
from starlette.concurrency import run_in_threadpool

from producers.accounts import scopes
from producers.accounts.scopes import Scope
from producers.ledger import live_events
from producers.queries.accounts import api_keys, sessions
from producers.queries.ledger.events import EventFilters, Position
from producers.web import access
from producers.web.event_streams import LiveStream, Told, told
from producers.web.open_streams import STREAMS_MAX, OpenStream
from producers.web.problems import RETRY_AFTER_S, Refused
from shared import db
from shared.db import Role
from shared.errors import AilydianError
from shared.ids import TenantId
from shared.observability import outages

# Without being told: the relay comes five times a second, when it has work.
LOOK_S: Final = 0.05
HEARTBEAT_S: Final = 15.0
TICK_S: Final = 1.0
READERS_MAX: Final = 2
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
        self._all: dict[OpenStream, None] = {}
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

    def take(self, stream: OpenStream) -> None:
        """Count a stream, in the server's loop, if there is room for one more of its tenant.

        Raises:
            Refused: There are too many.
        """
        alike = [one for one in self._all if type(one) is type(stream)]
        its = sum(one.tenant_id == stream.tenant_id for one in alike)
        if (
            len(self._all) >= self._most
            or len(alike) >= stream.process_max
            or its >= stream.tenant_max
        ):
            raise Refused(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too_many_streams",
                "Too many streams are open: close some, or ask again.",
                {"Retry-After": str(RETRY_AFTER_S)},
            )
        self._all[stream] = None
        if self._ticking is None:
            self._loop = asyncio.get_running_loop()
            self._ticking = self._loop.create_task(self._tick())
        if self._stop.is_set():
            stream.end()

    async def open(self) -> None:
        """Wait until it is known up to where all are told."""
        if self._reader is None and not self._stop.is_set():
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

    def close(self, stream: OpenStream) -> None:
        """Forget a stream."""
        if isinstance(stream, LiveStream):
            self.leave(stream)
        self._all.pop(stream, None)

    def stop(self) -> None:
        """End all streams, from another thread; those who follow come back to another process."""
        self._stop.set()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._end_all)
        if self._reader is not None:
            self._reader.join()

    def _end_all(self) -> None:
        for stream in [*self._all]:
            stream.end()

    def _read(self) -> None:
        """Read all events, in a thread of its own; if it fails, all streams end, and resume."""
        assert self._loop is not None, "take comes first"
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
            self._end_all()
        everyone = self._joined[None]
        for one in news:
            its = self._joined.get(one.event.tenant_id) if one.event.tenant_id else None
            for stream in [*everyone, *(its or ())]:
                stream.offer(one)
        self.position = end
        self._ready.set()

    async def _tick(self) -> None:
        """Once a second: heartbeats for quiet streams, and an end when the right is lost."""
        while not self._stop.is_set():
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
            allowed = await run_in_threadpool(_allowed, sorted(ids))
            for stream in [*self._all]:
                may = allowed.get((stream.asks, stream.allowed), ())
                if stream.asks in ids and stream.scope_needed not in may:
                    stream.end()


def _allowed(ids: Sequence[str]) -> dict[tuple[str, TenantId | None], frozenset[Scope]]:
    """Return what those of the keys and sessions that live may do, each with its tenant."""
    with db.transaction(None, role=Role.OWNER, durable=False) as conn:
        keys = api_keys.select_held_by_ids(conn, ids)
        people = sessions.select_live(conn, ids)
    fit = {
        (one.id, one.acts_for): scopes.effective(one.scopes, one.role)
        for one in keys
        if access.why_not(one) is None
    }
    return fit | {(one.id, one.acts_for): scopes.of_role(one.role) for one in people}
