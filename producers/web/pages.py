"""The pages of operators and orchestrators: /metrics, /health and /ready."""

import asyncio
import dataclasses
import json
import os
import threading
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import redis
from anyio import CapacityLimiter, to_thread
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from producers.web import metrics
from producers.web.health import Looks
from producers.web.metrics import MetricsCollector
from producers.web.problems import Refused
from shared.ledger.wakeups import Wire

JSON = "application/json; charset=utf-8"
PAGE_S: Final = 20.0
# What hangs holds so many threads of a page, and none of the API's.
MAKERS_MAX: Final = 16
Page = Callable[[], tuple[int, str, bytes]]


class Pages:
    """The pages without the HTTP server: each is (status, content type, body)."""

    def __init__(self, client: redis.Redis, wire: Wire) -> None:
        self.client, self.wire = client, wire
        self._looks = Looks(client, wire.namespace)
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
        checks = self._looks.look()
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
        self._looks.close()


def shown(page: Page) -> Callable[[], Awaitable[Response]]:
    """Return the endpoint of a page, which is made in a thread.

    A page that takes longer than `PAGE_S` is answered 503, and its thread still counts until it
    ends; where `MAKERS_MAX` are at it, the next is answered 503 at once.
    """
    threads = CapacityLimiter(MAKERS_MAX)
    making = 0
    lock = threading.Lock()

    def make() -> tuple[int, str, bytes]:
        nonlocal making
        try:
            return page()
        finally:
            with lock:
                making -= 1

    async def show() -> Response:
        nonlocal making
        with lock:
            if making >= MAKERS_MAX:
                raise _busy()
            making += 1
        try:
            async with asyncio.timeout(PAGE_S):
                status, kind, body = await to_thread.run_sync(
                    make, abandon_on_cancel=True, limiter=threads
                )
        except TimeoutError:
            raise _busy() from None
        return Response(body, status, media_type=kind)

    return show


def _busy() -> Refused:
    sentence = f"The page takes longer than {PAGE_S:.0f} s to make."
    return Refused(HTTPStatus.SERVICE_UNAVAILABLE, "busy", sentence, {"Retry-After": "5"})
