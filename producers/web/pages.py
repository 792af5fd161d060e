"""The pages of operators and orchestrators: /metrics, /health and /ready."""

import dataclasses
import json
import os
import time
from http import HTTPStatus

import redis
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from producers.web import health, metrics
from producers.web.metrics import MetricsCollector
from shared.ledger.wakeups import Wire

JSON = "application/json; charset=utf-8"


class Pages:
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
