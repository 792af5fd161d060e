"""What all streams of server-sent events have: their headers, frames, heartbeats and their end.

A stream is counted before it is answered, and ends when who asked for it may not read it any more.
"""

import asyncio
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar, Final, Protocol

import psycopg
from fastapi.responses import Response

from producers import json_rows
from producers.accounts import scopes
from producers.web.access import Acting
from producers.web.bounds import Receive, Scope, Send
from producers.web.heads import IS_HEAD
from shared.errors import AilydianError
from shared.ids import TenantId
from shared.observability import outages

MEDIA_TYPE: Final = "text/event-stream"
STREAMS_MAX: Final = 4_000  # of a process
SEND_BYTES: Final = 32 * 1024
_CUT_S: Final = 1.0
_HEARTBEAT: Final = b": heartbeat\n\n"


def frame(name: str, document: object, event_id: object = None) -> bytes:
    """Return an event's bytes."""
    numbered = "" if event_id is None else f"id: {event_id}\n"
    return f"{numbered}event: {name}\ndata: {json_rows.text(document)}\n\n".encode()


class StreamHub(Protocol):
    """Who counts streams, and ends them; see `producers.web.streams.Streams`."""

    def take(self, stream: "OpenStream") -> None:
        """Count a stream, if there is room."""

    def close(self, stream: "OpenStream") -> None:
        """Forget a stream."""


class OpenStream(Response, ABC):
    """An answer that goes on until its client leaves, or it is ended.

    Attributes:
        scope_needed: What who reads must be allowed all the time.
        process_max: How many of its kind a process has.
        tenant_max: How many of its kind a tenant has there.
        tenant_id: Whose it is; None for all tenants'.
        allowed: The tenant that the key is bound to, if it is.
        asks: The id of the key or session that asked.
    """

    scope_needed: ClassVar[scopes.Scope]
    process_max: ClassVar[int] = STREAMS_MAX
    tenant_max: ClassVar[int]

    def __init__(self, hub: StreamHub, acting: Acting) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self.raw_headers.append((b"content-type", MEDIA_TYPE.encode()))
        self.tenant_id: TenantId | None = acting.tenant_id
        self.allowed = acting.by.tenant_id
        self.asks = acting.by.id
        self._hub = hub
        self._send: Send | None = None
        self._sent_at = math.inf  # nothing was
        self._beats = False
        self._ending = False
        self._task: asyncio.Task[None] | None = None

    async def __call__(
        self,
        scope: Scope,
        receive: Receive,  # noqa: ARG002 - an ASGI application has it
        send: Send,
    ) -> None:
        """Begin the answer; the server goes on with `follow` when all that routed it has ended.

        Raises:
            Refused: There are too many.
        """
        self._cut_off = scope["extensions"]["ailydian.cut_off"]
        self._hub.take(self)
        goes_on = False
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            goes_on = not scope.get(IS_HEAD, False)
        finally:
            if not goes_on:
                self._hub.close(self)
        scope["extensions"]["ailydian.later"].append(self.follow)

    async def follow(self, receive: Receive, send: Send) -> None:
        """Serve until the client leaves, or the stream is ended."""
        self._send = send
        try:
            self._work_on()
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            self._hub.close(self)
            if self._task is not None:
                self._task.cancel()

    def beat(self, quiet_since: float) -> None:
        """Send a sign of life if nothing was sent since then."""
        if self._sent_at < quiet_since and not self._ending:
            self._beats = True
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
        if self._send is not None and not self._works:
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        try:
            while not self._ending and (self._beats or self._has_more):
                if self._beats:
                    await self._write(_HEARTBEAT)
                else:
                    await self._serve()
        except (AilydianError, psycopg.Error) as error:
            outages.note(error)
            self._ending = True  # the client comes back, and goes on after what it has
        if self._ending:
            await self._send_on(b"", more=False)
        self._task = None

    @property
    @abstractmethod
    def _has_more(self) -> bool:
        """Whether there is something to do."""

    @abstractmethod
    async def _serve(self) -> None:
        """Do some of it."""

    async def _write(self, some: bytes) -> None:
        self._sent_at = time.monotonic()
        self._beats = False
        await self._send_on(some, more=True)

    async def _send_on(self, some: bytes, *, more: bool) -> None:
        assert self._send is not None, "it is followed"
        await self._send({"type": "http.response.body", "body": some, "more_body": more})


def joined(frames: Iterable[bytes]) -> Iterable[bytes]:
    """Join frames to pieces of about `SEND_BYTES`."""
    size, some = 0, []
    for one in frames:
        some.append(one)
        size += len(one)
        if size >= SEND_BYTES:
            yield b"".join(some)
            size, some = 0, []
    if some:
        yield b"".join(some)
