"""Many who follow events over HTTP: how late, with how much memory, and at which cost.

Jobs are done at one rate, spread over tenants; each tenant's keys follow its events at
`GET /v1/events` of one `ailydian web`. An event is as late as its bytes come after the moment that
Postgres noted it at, in the transaction that ended its job.
"""

import re
import selectors
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from statistics import quantiles

import psutil

from producers.accounts import api_keys
from producers.accounts.api_keys import Wish
from producers.accounts.scopes import Scope
from shared import db
from shared.contracts import Probe
from shared.db import Role
from shared.ids import TenantId, UserId
from shared.ledger.outbox import publish_many
from shared.servers import embedded
from tests.benchmarks import harness
from tests.benchmarks.harness import Figure, World

RSS_MB, LATE_MS, TOLD_PERCENT = 150.0, 250.0, 100.0
OPEN_AT_ONCE = 50
_NUMBERS = count()
AT = re.compile(rb'"at": "([^"]+)"')
USER = """
    INSERT INTO "User" ("id", "email", "passwordHash", "role", "tenantId", "updatedAt")
    VALUES (%s, %s, '', 'ADMIN', %s, now())
"""


@dataclass
class Follower:
    """A client: its socket, and what of an event has come."""

    sock: socket.socket
    rest: bytes = b""


@dataclass
class Crowd:
    """All clients, read by one thread."""

    port: int
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    late_s: list[float] = field(default_factory=list)
    ready: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def open(self, key: str) -> None:
        """Begin to follow."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        head = (
            f"GET /v1/events?types=job HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n"
        )
        sock.sendall(head.encode())
        sock.setblocking(False)
        self.selector.register(sock, selectors.EVENT_READ, Follower(sock))

    def read(self) -> None:
        """Read what comes, until told to stop."""
        while not self.stop.is_set():
            for ready, _ in self.selector.select(0.1):
                self._take(ready.data)

    def _take(self, one: Follower) -> None:
        with suppress(BlockingIOError):
            data = one.sock.recv(65_536)
            if not data:
                raise RuntimeError("the server has ended a stream")
            now = datetime.now(UTC)
            *whole, one.rest = (one.rest + data).split(b"\n\n")
            for event in whole:
                if b"event: ready" in event:
                    self.ready += 1
                elif (found := AT.search(event)) is not None:
                    at = datetime.fromisoformat(found[1].decode())
                    self.late_s.append((now - at).total_seconds())


def _keys(here: World, tenants: int) -> list[str]:
    """Make a key of each tenant."""
    peppers = api_keys.peppers(here.config, embedded.signing_key(here.config))
    made = []
    for n in range(tenants):
        with db.transaction(None, role=Role.OWNER) as conn:
            conn.execute(USER, [f"u{n}", f"u{n}@example.com", f"t{n}"])
        wish = Wish("bench", [Scope.EVENTS_READ])
        made.append(api_keys.create(peppers, TenantId(f"t{n}"), UserId(f"u{n}"), wish).key)
    return made


def _publish(rate: float, tenants: int, seconds: float) -> int:
    """Publish at a rate, one job at a time, from tenant to tenant. Returns how many."""
    began, published = time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        while published < passed * rate:
            with db.transaction(TenantId(f"t{published % tenants}")) as conn:
                publish_many(conn, [Probe(n=next(_NUMBERS), mode="receipt")])
            published += 1
        time.sleep(0.002)
    return published


def measure(here: World, chosen: "Chosen") -> list[Figure]:
    """Open all streams, then publish."""
    keys = _keys(here, chosen.tenants)
    port = _free_port()
    web = here.start("web", "producers.cli", "web", "--port", str(port))
    harness.until(lambda: _answers(port), "the HTTP server")
    crowd = Crowd(port)
    thread = threading.Thread(target=crowd.read)
    thread.start()
    try:
        process = psutil.Process(web.pid)
        empty_mb = process.memory_info().rss / 1e6
        began = time.monotonic()
        for n in range(chosen.streams):
            crowd.open(keys[n % chosen.tenants])
            if n % OPEN_AT_ONCE == OPEN_AT_ONCE - 1:
                harness.until(lambda n=n: crowd.ready > n, "streams to begin")  # type: ignore[misc]
        harness.until(lambda: crowd.ready == chosen.streams, "all streams to begin")
        opened_s = time.monotonic() - began
        _publish(chosen.rate, chosen.tenants, 3.0)  # warm
        time.sleep(1.5)
        crowd.late_s.clear()
        before = here.cpu_s()
        published = _publish(chosen.rate, chosen.tenants, chosen.seconds)
        expected = published * chosen.streams // chosen.tenants
        with suppress(TimeoutError):
            harness.until(lambda: len(crowd.late_s) >= expected, "all events")
        used = harness.spent(before, here.cpu_s())
        figures = [
            Figure("streams", chosen.streams, ""),
            Figure("opened in", opened_s, "s"),
            Figure("events", published / chosen.seconds, "/s"),
            Figure("told", 100 * len(crowd.late_s) / expected, "%", TOLD_PERCENT, gates=True),
            *_lateness(crowd.late_s),
            Figure("memory before", empty_mb, "MB"),
            Figure(
                "memory", process.memory_info().rss / 1e6, "MB", RSS_MB, at_most=True, gates=True
            ),
            Figure("CPU of web", 100 * used["web"] / chosen.seconds, "% of a core"),
            Figure("CPU of postgres", 100 * used["postgres"] / chosen.seconds, "% of a core"),
        ]
    finally:
        crowd.stop.set()
        thread.join()
    return figures


def _lateness(late_s: list[float]) -> list[Figure]:
    cuts = [1_000 * cut for cut in quantiles(late_s, n=100)]
    return [
        Figure("from commit to bytes, p50", cuts[49], "ms"),
        Figure("from commit to bytes, p99", cuts[98], "ms", LATE_MS, at_most=True, gates=True),
        Figure("from commit to bytes, latest", 1_000 * max(late_s), "ms"),
    ]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@dataclass(frozen=True)
class Chosen:
    """The options."""

    streams: int
    tenants: int
    rate: float
    seconds: float


def main() -> None:
    """One web process, many clients."""
    parser = harness.options(__doc__)
    parser.add_argument("--streams", type=int, default=2_000)
    parser.add_argument("--tenants", type=int, default=20)
    parser.add_argument("--rate", type=float, default=20.0, help="events a second, of all tenants")
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    chosen = Chosen(given.streams, given.tenants, given.rate, given.seconds)
    with harness.world(tenants=chosen.tenants) as here:
        here.start("relay", "tests.benchmarks.relay_role")
        here.start("workers", "workers.process.supervisor", "--processes", "1", "--threads", "4")
        harness.until(lambda: here.sql(harness.WORKERS) == [(1,)], "our workers")
        figures = measure(here, chosen)
    harness.report("streams", figures, as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
