"""A stream of server-sent events: one answer that goes on until its client leaves.

A stream reads on its own from the database until it has come to where all are told, then joins. One
that is too slow for what it is told leaves, and reads on its own again, as fast as its client does.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import psycopg
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from producers import json_rows
from producers.ledger import live_events
from producers.queries.ledger import events, retentions
from producers.queries.ledger.events import BEGINNING, Event, EventFilters, Page, Position
from producers.web.access import Acting
from producers.web.bounds import Receive, Scope, Send
from shared import db
from shared.db import Role
from shared.errors import AilydianError
from shared.observability import outages

MEDIA_TYPE: Final = "text/event-stream"
RETRY_MS: Final = 1_000
PAGE: Final = 500
# Told and not sent yet; the bytes are shared by all who are told the same.
WAITING_MAX: Final = 5_000
SEND_BYTES: Final = 32 * 1024
_CUT_S: Final = 1.0
_HEARTBEAT: Final = b": heartbeat\n\n"


@dataclass(frozen=True, slots=True)
class Told:
    """An event, and its bytes in a stream."""

    event: Event
    frame: bytes


def told(found: Iterable[Event]) -> list[Told]:
    """Return events with their bytes."""
    return [
        Told(one, _frame(one.subject, one.position, live_events.document(one))) for one in found
    ]


class Hub(Protocol):
    """Who tells streams of events; see `producers.web.streams.Streams`."""

    position: Position | None
    reading: asyncio.Semaphore

    async def open(self, stream: "LiveStream") -> None:
        """Take a stream, and wait until it is known up to where all are told."""

    def join(self, stream: "LiveStream") -> bool:
        """Tell a stream all from here on, if it has read up to here. Returns whether it has."""

    def leave(self, stream: "LiveStream") -> None:
        """Tell a stream nothing more."""

    def close(self, stream: "LiveStream") -> None:
        """Forget a stream."""


class LiveStream(Response):
    """The answer that is a stream.

    Attributes:
        tenant_id: Whose events; None for all tenants'.
        allowed: The tenant that the key is bound to, if it is.
        asks: The id of the key or session that asked.
        after: All up to here was sent, or waits to be.
    """

    def __init__(
        self, hub: Hub, acting: Acting, wanted: EventFilters, after: Position | None
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self.raw_headers.append((b"content-type", MEDIA_TYPE.encode()))
        self.tenant_id = acting.tenant_id
        self.allowed = acting.by.tenant_id
        self.asks = acting.by.id
        self.after = after or BEGINNING
        self._begun = False
        self._resumes = after is not None
        self._hub = hub
        self._wanted = wanted
        self._waiting: list[tuple[Position, bytes]] = []
        self._sent = self.after
        self._sent_at = 0.0
        self._behind = True
        self._ending = False
        self._task: asyncio.Task[None] | None = None

    async def __call__(
        self,
        scope: Scope,
        receive: Receive,  # noqa: ARG002 - an ASGI application has it
        send: Send,
    ) -> None:
        """Begin the answer; the server goes on with `follow` when all that routed it has ended."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        self._cut_off = scope["extensions"]["ailydian.cut_off"]
        scope["extensions"]["ailydian.later"].append(self.follow)

    async def follow(self, receive: Receive, send: Send) -> None:
        """Serve until the client leaves, or the stream is ended."""
        self._send = send
        try:
            await self._hub.open(self)
            self._work_on()
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            self._hub.close(self)
            if self._task is not None:
                self._task.cancel()

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

    def beat(self, quiet_since: float) -> None:
        """Send a sign of life if nothing was sent since then."""
        if self._begun and self._sent_at < quiet_since and not self._works and not self._ending:
            self._waiting.append((self._sent, _HEARTBEAT))
            self._work_on()

    def end(self) -> None:
        """End the stream soon, whether its client reads or not."""
        if not self._ending:
            self._ending = True
            self._work_on()
            asyncio.get_running_loop().call_later(_CUT_S, self._cut)

    def _cut(self) -> None:
        if self._works:
            self._cut_off()

    @property
    def _works(self) -> bool:
        return self._task is not None and not self._task.done()

    def _work_on(self) -> None:
        if not self._works:
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        try:
            while (self._behind or self._waiting) and not self._ending:
                if self._behind:
                    await self._catch_up()
                else:
                    await self._send_waiting()
        except (AilydianError, psycopg.Error) as error:
            outages.note(error)
            self._ending = True  # the client comes back, and goes on after what it has
        if self._ending:
            self._hub.leave(self)
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        self._task = None

    async def _catch_up(self) -> None:
        """Read and send what is stored, up to where all are told; join them."""
        self._behind = False
        self.after = self._sent
        if not self._begun:
            await self._begin()
        while not self._ending and not self._hub.join(self):
            async with self._hub.reading:
                page = await run_in_threadpool(self._read)
            for frame in _joined(one.frame for one in told(page.events)):
                await self._write(frame)
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
        await self._write(f"retry: {RETRY_MS}\n".encode() + _frame(subject, self.after, document))
        self._begun = True

    def _read(self) -> Page:
        role = Role.RELAY if self.tenant_id is None else Role.APP
        with db.transaction(self.tenant_id, role=role) as conn:
            return events.select_events(conn, self.after, self._wanted, limit=PAGE)

    async def _send_waiting(self) -> None:
        size = count = 0
        for _, frame in self._waiting:
            size += len(frame)
            count += 1
            if size >= SEND_BYTES:
                break
        some, self._waiting = self._waiting[:count], self._waiting[count:]
        await self._write(b"".join(frame for _, frame in some))
        self._sent = some[-1][0]

    async def _write(self, some: bytes) -> None:
        self._sent_at = time.monotonic()
        await self._send({"type": "http.response.body", "body": some, "more_body": True})


def _joined(frames: Iterable[bytes]) -> Iterable[bytes]:
    """Join frames to pieces of about `SEND_BYTES`."""
    size, some = 0, []
    for frame in frames:
        some.append(frame)
        size += len(frame)
        if size >= SEND_BYTES:
            yield b"".join(some)
            size, some = 0, []
    if some:
        yield b"".join(some)


def _bounds() -> tuple[Position, Position]:
    """Return the last event that retention deleted, and the newest position."""
    with db.transaction(None, role=Role.RELAY) as conn:
        gone = retentions.select_gone(conn)
        return Position(int(gone.fold), gone.position), events.select_end(conn)


def _frame(subject: str, position: Position, document: object) -> bytes:
    return f"id: {position}\nevent: {subject}\ndata: {json_rows.text(document)}\n\n".encode()
