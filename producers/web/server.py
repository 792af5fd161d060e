"""The web role: /metrics for Prometheus, /health and /ready for orchestrators."""

import contextlib
import dataclasses
import enum
import json
import os
import socket
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import redis
import structlog
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from producers.web import health, metrics
from producers.web.metrics import MetricsCollector
from shared.ledger.wakeups import Wire

log = structlog.get_logger()

JSON = "application/json; charset=utf-8"
# A client has this long to send its request, and then this long to take the page, however slowly
# its bytes come; http.server itself bounds the length of a line and the number of headers.
REQUEST_S = 5.0
PAGE_S = 20.0
CONNECTIONS_MAX = 64
# So many threads make one page; of one that hangs, more requests are answered 503.
MAKERS_MAX = 16


class Web:
    """The pages without the HTTP server: each is (status, content type, body)."""

    def __init__(self, client: redis.Redis, wire: Wire) -> None:
        self._client = client
        self._namespace = wire.namespace
        self._figures = MetricsCollector(client, wire)
        self._registry = metrics.registry_of(self._figures)
        self._started = time.monotonic()

    def metrics(self) -> tuple[int, str, bytes]:
        """Return the metrics; 200 even if servers are down, because metrics report that."""
        return HTTPStatus.OK, CONTENT_TYPE_PLAIN_0_0_4, metrics.text(self._registry)

    def health(self) -> tuple[int, str, bytes]:
        """Return liveness: 200 if this process responds at all."""
        uptime_s = round(time.monotonic() - self._started, 3)
        page = {"ok": True, "pid": os.getpid(), "uptimeSeconds": uptime_s}
        return HTTPStatus.OK, JSON, json.dumps(page).encode()

    def ready(self) -> tuple[int, str, bytes]:
        """Return readiness: 503 with the names of failed checks."""
        checks = health.look(self._client, self._namespace)
        failed = [one.name for one in checks if not one.ok]
        page = {
            "ok": not failed,
            "failed": failed,
            "checks": [dataclasses.asdict(one) for one in checks],
        }
        status = HTTPStatus.SERVICE_UNAVAILABLE if failed else HTTPStatus.OK
        return status, JSON, json.dumps(page).encode()

    def close(self) -> None:
        """Close the connections of the pages."""
        self._figures.close()


class _Phase(enum.IntEnum):
    """What a connection is at; of too many, the oldest of the lowest is closed."""

    REQUEST = 0  # it is still to come
    PAGE = 1  # it is made, or taken by its client
    MAKING = 2


@dataclasses.dataclass
class _Open:
    """A connection, and until when it may stay."""

    until: float
    phase: _Phase = _Phase.REQUEST


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # one that hangs on a slow client must not keep the process
    request_queue_size = 128
    pages: dict[str, Callable[[], tuple[int, str, bytes]]]

    def __init__(self, address: tuple[str, int], clock: Callable[[], float]) -> None:
        super().__init__(address, _Handler)
        self._clock = clock
        self._lock = threading.Lock()
        self._makers: dict[str, int] = defaultdict(int)
        self._open: dict[socket.socket, _Open] = {}  # in the order in which they came

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        """Start a thread for a connection.

        Of too many, the oldest is closed that still sends its request; without one, the oldest that
        still takes its page. If all wait for us, the new one is closed.
        """
        with self._lock:
            if len(self._open) >= CONNECTIONS_MAX:
                slow = [one for one in self._open if self._open[one].phase is not _Phase.MAKING]
                closed = min(slow, key=lambda one: self._open[one].phase, default=request)
                self._open.pop(closed, None)
                _hang_up(closed)
            self._open[request] = _Open(self._clock() + REQUEST_S)
        super().process_request(request, client_address)

    @contextmanager
    def making(self, request: socket.socket, path: str) -> Iterator[bool]:
        """Give a connection the time that a page may take.

        Yields:
            Whether the page may be made: not where as many threads as may make it are at it.
        """
        with self._lock:
            if request in self._open:
                self._open[request] = _Open(self._clock() + PAGE_S, _Phase.MAKING)
            free = self._makers[path] < MAKERS_MAX
            self._makers[path] += free
        try:
            yield free
        finally:
            with self._lock:
                self._makers[path] -= free
                if request in self._open:
                    self._open[request].phase = _Phase.PAGE

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        """Close a connection."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Close the connections whose time is over; `serve_forever` calls this all the time."""
        now = self._clock()
        with self._lock:
            late = [one for one, it in self._open.items() if it.until < now]
            for one in late:
                del self._open[one]
                _hang_up(one)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """Log what a thread raised: a client that left or was too slow is not worth a line."""
        error = sys.exc_info()[1]
        expected = isinstance(error, OSError)
        (log.debug if expected else log.error)("web.request_failed", error=type(error).__name__)


def _hang_up(connection: socket.socket) -> None:
    """End a connection; the thread that reads from it or writes to it finds it over."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        page = self.server.pages.get(path, self._not_found)
        with self.server.making(self.connection, path if path in self.server.pages else "") as free:
            made = page() if free else self._busy()
        try:
            self._send(*made)
        except ConnectionError:
            log.debug("web.client_left", path=self.path)

    do_HEAD = do_GET  # noqa: N815 - as above

    def log_message(self, format: str, *args: object) -> None:
        """Suppress the log line per request."""

    def _not_found(self) -> tuple[int, str, bytes]:
        page = {"error": "not_found", "pages": sorted(self.server.pages)}
        return HTTPStatus.NOT_FOUND, JSON, json.dumps(page).encode()

    def _busy(self) -> tuple[int, str, bytes]:
        page = {"error": "busy", "message": f"{MAKERS_MAX} requests wait for this page already."}
        return HTTPStatus.SERVICE_UNAVAILABLE, JSON, json.dumps(page).encode()

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def serve(
    web: Web, *, host: str, port: int, clock: Callable[[], float] = time.monotonic
) -> tuple[_Server, threading.Thread]:
    """Answer requests in a thread until the server's `shutdown`.

    Args:
        web: The pages.
        host: The address to listen on.
        port: 0 takes a free one.
        clock: By which connections are closed, in seconds.

    Returns:
        The server, whose `server_address` is where it listens, and its thread.

    Raises:
        OSError: The address is taken.
    """
    server = _Server((host, port), clock)
    server.pages = {"/metrics": web.metrics, "/health": web.health, "/ready": web.ready}
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="web")
    thread.start()
    return server, thread
