"""Connections of the HTTP server: how many there are, and how slow a client may be.

uvicorn itself bounds neither the time in which a request must come nor its headers, and waits for a
reader for ever. A client that is cut off holds up nobody else.
"""

import asyncio
import resource
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from producers.web import problems

REQUEST_S: Final = 5.0  # for a request without a body to come
BODY_BYTES_PER_S_MIN: Final = 20_000
HEAD_BYTES_MAX: Final = 64 * 1024
PIECE_BYTES: Final = 16 * 1024  # what is read between two looks at how long headers are
READER_S: Final = 20.0
FILES_SPARE: Final = 224  # for all that is not a connection
PIPELINED_MAX: Final = 16  # requests that are sent before the first is answered
CONNECTIONS_MAX: Final = 800  # a process may open 1,024 files by default
CONNECTIONS_MOST: Final = 5_000  # where it may open more
_LOOK_S: Final = 0.1


def connections_allowed() -> int:
    """Return how many connections this process has files for; it takes as many as it is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS_MOST + FILES_SPARE
    files = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return max(1, files - FILES_SPARE)


class Connections:
    """All connections of a server, in the order in which they came.

    Attributes:
        clock: Seconds, as `time.monotonic`.
    """

    def __init__(
        self, most: int = CONNECTIONS_MAX, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.clock = clock
        self._most = most
        self._open: dict[_Connection, None] = {}
        self._looks = False  # or will, in some moments

    def protocol(self, **named: Any) -> "_Connection":  # noqa: ANN401 - uvicorn's own arguments
        """Return the protocol of a new connection, as uvicorn calls for it."""
        return _Connection(self, **named)

    def came(self, connection: "_Connection") -> None:
        """Take a connection. One of too many is cut off: who waits for us is the last to go.

        First the oldest that still sends its request, then the oldest that does not read.
        """
        if not self._looks:
            self._looks = True
            connection.loop.call_later(_LOOK_S, self.look)
        self._open[connection] = None
        if len(self._open) > self._most:
            sends = (one for one in self._open if one.sends and one is not connection)
            unread = (one for one in self._open if one.unread_bytes)
            victim = next(sends, None) or next(unread, connection)
            self._open.pop(victim)
            victim.cut_off()

    def left(self, connection: "_Connection") -> None:
        """Forget a connection."""
        self._open.pop(connection, None)

    def look(self) -> None:
        """Cut off who is late; called all the time."""
        now = self.clock()
        for one in [one for one in self._open if one.is_late(now)]:
            self._open.pop(one, None)
            one.cut_off()
        self._looks = bool(self._open)
        if self._looks:
            next(iter(self._open)).loop.call_later(_LOOK_S, self.look)


class _HeadTooLarge(Exception):
    """Headers are larger than they may be; the parser ends where it is raised."""


class _Connection(HttpToolsProtocol):
    def __init__(self, all_: Connections, **named: Any) -> None:  # noqa: ANN401
        super().__init__(**named)
        self._all = all_
        self.sends = True  # its request has not come whole
        self._head = True  # nor have its headers
        self._began = 0.0
        self._came_bytes = 0
        self._head_bytes = 0  # of headers that have come whole
        self._answers: RequestResponseCycle | None = None  # `cycle` is the last that came
        self._unread_before = 0
        self._stuck_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._began = self._all.clock()
        self._all.came(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.left(self)
        self._disconnect()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self.sends and (self.cycle is None or self.cycle.response_complete):
            self._next_request()
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            self._came_bytes += len(piece)
            super().data_received(piece)
            if self.transport.is_closing():
                return
            if self._head and self._came_bytes > HEAD_BYTES_MAX:
                self._refuse_head()
                return

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not HTTP as every other error is answered."""
        if self._head_bytes > HEAD_BYTES_MAX:
            self._refuse_head()
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, "invalid_request", msg)

    def on_message_begin(self) -> None:
        if not self.sends:  # it follows one that is not answered yet
            self._next_request()
        super().on_message_begin()
        # For answers that go on: how to end one whose client does not read.
        self.scope["extensions"] = {"ailydian.cut_off": self.cut_off}  # type: ignore[dict-item]

    def on_url(self, url: bytes) -> None:
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.sends = False
        super().on_message_complete()
        if len(self.pipeline) > PIPELINED_MAX:
            self.cut_off()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.sends and not self._head:
            self._began = self._all.clock()  # what is left of its body was not read until now

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answers = cycle
        super()._start_asgi_task(cycle, app)

    def cut_off(self) -> None:
        """End the connection at once: what is still to be written is dropped."""
        self._disconnect()
        self.pipeline.clear()
        self.transport.abort()

    @property
    def unread_bytes(self) -> int:
        """What is written and the system does not take, as the client does not."""
        return int(self.transport.get_write_buffer_size())

    def is_late(self, now: float) -> bool:
        """Whether the client's time is over."""
        if self.sends and (self._head or self._answers is self.cycle):
            allowed_s = REQUEST_S + (0 if self._head else self._came_bytes / BODY_BYTES_PER_S_MIN)
            if now - self._began > allowed_s:
                return True
        unread = self.unread_bytes
        if unread == 0 or unread < self._unread_before:
            self._stuck_since = None
        elif self._stuck_since is None:
            self._stuck_since = now
        self._unread_before = unread
        return self._stuck_since is not None and now - self._stuck_since > READER_S

    def _disconnect(self) -> None:
        """Tell the request that is answered; uvicorn tells the one that came last."""
        for one in (self._answers, self.cycle):
            if one is not None and not one.response_complete:
                one.disconnected = True
                one.message_event.set()

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES_MAX:
            raise _HeadTooLarge

    def _refuse_head(self) -> None:
        self._refuse(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            "headers_too_large",
            f"The headers must be at most {HEAD_BYTES_MAX:,} bytes.",
        )

    def _refuse(self, status: HTTPStatus, code: str, sentence: str) -> None:
        """Answer a request that no route will see, and end the connection.

        While another is answered, it is just ended: this would be read as a part of that answer.
        """
        one = self._answers
        if one is not None and not one.response_complete:
            is_its_body = self.sends and not self._head and one is self.cycle
            if one.response_started or not is_its_body:
                self.cut_off()
                return
        answer = problems.answer(status, code, sentence, headers={"Connection": "close"})
        head = b"".join(b"%b: %b\r\n" % header for header in answer.raw_headers)
        first = f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
        self.transport.write(b"%b%b\r\n%b" % (first, head, bytes(answer.body)))
        self.transport.close()

    def _next_request(self) -> None:
        self.sends = self._head = True
        self._began = self._all.clock()
        self._came_bytes = self._head_bytes = 0
