"""A stream of server-sent events: one answer that goes on until its client leaves.

A stream reads on its own from the database until it has come to where all are told, then joins. One
that is too slow for what it is told leaves, and reads on its own again, as fast as its client does.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from starlette.concurrency import run_in_threadpool

from producers.accounts.scopes import Scope
from producers.ledger import live_events
from producers.queries.ledger import events, retentions
from producers.queries.ledger.events import BEGINNING, Event, EventFilters, Page, Position
from producers.web.access import Acting
from producers.web.open_streams import SEND_BYTES, OpenStream, StreamHub, frame, joined
from shared import db
from shared.db import Role

RETRY_MS: Final = 1_000
PAGE: Final = 500
# Told and not sent yet; the bytes are shared by all who are told the same.
WAITING_MAX: Final = 5_000


@dataclass(frozen=True, slots=True)
class Told:
    """An event, and its bytes in a stream."""

    event: Event
    frame: bytes


def told(found: Iterable[Event]) -> list[Told]:
    """Return events with their bytes."""
    return [Told(one, frame(one.subject, live_events.document(one), one.position)) for one in found]


class Hub(StreamHub, Protocol):
    """Who tells streams of events; see `producers.web.streams.Streams`."""

    position: Position | None
    reading: asyncio.Semaphore

    async def open(self) -> None:
        """Wait until it is known up to where all are told."""

    def join(self, stream: "LiveStream") -> bool:
        """Tell a stream all from here on, if it has read up to here. Returns whether it has."""

    def leave(self, stream: "LiveStream") -> None:
        """Tell a stream nothing more."""


class LiveStream(OpenStream):
    """The stream of events of a tenant, or of all.

    Attributes:
        after: All up to here was sent, or waits to be.
    """

    scope_needed = Scope.EVENTS_READ
    tenant_max = 1_000
    _hub: Hub

    def __init__(
        self, hub: Hub, acting: Acting, wanted: EventFilters, after: Position | None
    ) -> None:
        super().__init__(hub, acting)
        self.after = after or BEGINNING
        self._begun = False
        self._resumes = after is not None
        self._wanted = wanted
        self._waiting: list[tuple[Position, bytes]] = []
        self._sent = self.after
        self._behind = True

    def offer(self, one: Told) -> None:
        """Be told of an event, in its turn."""
        if self._ending or one.event.position <= self.after or not self._wanted.match(one.event):
            return
        self.after = one.event.position
        self._waiting.append((one.event.position, one.frame))
        if len(self._waiting) > WAITING_MAX:
            self._hub.leave(self)
            self._waiting.clear()
            self._behind = True
        self._work_on()

    @property
    def _has_more(self) -> bool:
        return self._behind or bool(self._waiting)

    async def _serve(self) -> None:
        if self._behind:
            await self._catch_up()
        else:
            await self._send_waiting()

    async def _catch_up(self) -> None:
        """Read and send what is stored, up to where all are told; join them."""
        self._behind = False
        self.after = self._sent
        if not self._begun:
            await self._hub.open()
            if self._ending:
                return
            await self._begin()
        while not self._ending and not self._hub.join(self):
            async with self._hub.reading:
                page = await run_in_threadpool(self._read)
            for some in joined(one.frame for one in told(page.events)):
                await self._write(some)
            self.after = self._sent = page.end

    async def _begin(self) -> None:
        """Tell where it begins, so that a client that is cut off before an event comes can resume.

        Who resumes where some events are gone, or where none have been, is told that as well.
        """
        here = self._hub.position
        assert here is not None, "the stream was opened"
        subject, document = "ready", {"position": str(here)}
        if self._resumes:
            document = {"position": str(self.after)}
            async with self._hub.reading:
                gone, end = await run_in_threadpool(_bounds)
            if BEGINNING < self.after < gone:
                subject, document["reason"] = "reset", "events after this position are gone"
            elif self.after > max(end, here):
                subject, document["reason"] = "reset", "no event has had this position"
                self.after = end
                document["position"] = str(end)
        else:
            self.after = here
        self._sent = self.after
        await self._write(f"retry: {RETRY_MS}\n".encode() + frame(subject, document, self.after))
        self._begun = True

    def _read(self) -> Page:
        role = Role.RELAY if self.tenant_id is None else Role.APP
        with db.transaction(self.tenant_id, role=role) as conn:
            return events.select_events(conn, self.after, self._wanted, limit=PAGE)

    async def _send_waiting(self) -> None:
        size = count = 0
        for _, one in self._waiting:
            size += len(one)
            count += 1
            if size >= SEND_BYTES:
                break
        some, self._waiting = self._waiting[:count], self._waiting[count:]
        await self._write(b"".join(one for _, one in some))
        self._sent = some[-1][0]


def _bounds() -> tuple[Position, Position]:
    """Return the last event that retention deleted, and the newest position."""
    with db.transaction(None, role=Role.RELAY) as conn:
        gone = retentions.select_gone(conn)
        return Position(int(gone.fold), gone.position), events.select_end(conn)
