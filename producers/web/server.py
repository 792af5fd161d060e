"""The web role: /metrics for Prometheus, /health and /ready for orchestrators."""

import dataclasses
import json
import os
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
CLIENT_TIMEOUT_S = 10.0


class Web:
    """The pages without the HTTP server: each is (status, content type, body)."""

    def __init__(self, client: redis.Redis, wire: Wire) -> None:
        self._client = client
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
        checks = health.look(self._client)
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


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # one that hangs on a slow client must not keep the process
    pages: dict[str, Callable[[], tuple[int, str, bytes]]]


class _Handler(BaseHTTPRequestHandler):
    timeout = CLIENT_TIMEOUT_S
    server: _Server

    def do_GET(self) -> None:
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
    server = _Server((host, port), _Handler)
    server.pages = {"/metrics": web.metrics, "/health": web.health, "/ready": web.ready}
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="web")
    thread.start()
    return server, thread
