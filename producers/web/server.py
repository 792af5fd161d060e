"""The web role: /metrics for Prometheus, /health and /ready for orchestrators."""

import contextlib
import dataclasses
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
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


@dataclasses.dataclass
class _Open:
    """A connection: until when, and whether its request is still to come."""

    until: float
    waits: bool = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # one that hangs on a slow client must not keep the process
    request_queue_size = 128
    pages: dict[str, Callable[[], tuple[int, str, bytes]]]

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, _Handler)
        self._lock = threading.Lock()
        self._open: dict[socket.socket, _Open] = {}  # in the order in which they came

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        """Start a thread for a connection; of too many, the oldest that still sends is closed."""
        with self._lock:
            if len(self._open) >= CONNECTIONS_MAX:
                oldest = next((one for one, it in self._open.items() if it.waits), request)
                self._open.pop(oldest, None)
                _hang_up(oldest)
            self._open[request] = _Open(time.monotonic() + REQUEST_S)
        super().process_request(request, client_address)

    def request_came(self, request: socket.socket) -> None:
        """Give a connection the time that a page may take."""
        with self._lock:
            if request in self._open:
                self._open[request] = _Open(time.monotonic() + PAGE_S, waits=False)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        """Close a connection."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Close the connections whose time is over; `serve_forever` calls this all the time."""
        now = time.monotonic()
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
        self.server.request_came(self.connection)
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            names = sorted(self.server.pages)
            body = json.dumps({"error": "not_found", "pages": names}).encode()
            self._send(HTTPStatus.NOT_FOUND, JSON, body)
            return
        try:
            self._send(*page())
        except ConnectionError:
            log.debug("web.client_left", path=self.path)

    do_HEAD = do_GET  # noqa: N815 - as above

    def log_message(self, format: str, *args: object) -> None:
        """Suppress the log line per request."""

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def serve(web: Web, *, host: str, port: int) -> tuple[_Server, threading.Thread]:
    """Answer requests in a thread until the server's `shutdown`.

    Args:
        web: The pages.
        host: The address to listen on.
        port: 0 takes a free one.

    Returns:
        The server, whose `server_address` is where it listens, and its thread.

    Raises:
        OSError: The address is taken.
    """
    server = _Server((host, port))
    server.pages = {"/metrics": web.metrics, "/health": web.health, "/ready": web.ready}
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="web")
    thread.start()
    return server, thread
