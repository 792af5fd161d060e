"""The HTTP API: publishes beside an echo, latency beside an INSERT, the memory of an upload.

A latency counts from when a request was due, at a steady pace, not from when a client got to it.
"""

import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import psycopg

from producers.web.bodies import JSON, NDJSON
from shared import db
from shared.contracts import Probe
from shared.ids import TenantId
from shared.ledger.outbox import publish
from tests.benchmarks import harness
from tests.benchmarks.harness import Figure, World
from tests.support import http_api
from tests.support.factories import make_user

TENANT = TenantId("t0")
PEPPER = "a pepper of this benchmark that is long enough"
CLIENTS = 8
LINES = 5_000
PER_S, PACED = 200, 20
UPLOAD_MB = 100
BOUNDARY = "a-boundary-of-the-benchmark"


@dataclass(frozen=True)
class Server:
    """A process that listens."""

    port: int
    pid: int
    key: str = ""

    def connect(self) -> HTTPConnection:
        """Return a connection that stays."""
        return HTTPConnection("127.0.0.1", self.port, timeout=60)

    def post(
        self, connection: HTTPConnection, body: bytes, *, path: str = "/v1/jobs", kind: str = JSON
    ) -> bytes:
        """Send a request and return its answer."""
        headers = {"Content-Type": kind, "Authorization": f"Bearer {self.key}"}
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        found = answer.read()
        assert answer.status in (200, 202), (answer.status, found[:300])
        return found


def probe(n: int) -> bytes:
    """A job to publish."""
    return json.dumps({"job": "probe", "payload": {"n": n}}).encode()


def started(here: World, kind: str, *command: str, key: str = "", **environment: str) -> Server:
    """Start a server on a free port and wait until it listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    process = here.start(kind, *command, str(port), **environment)

    def listens() -> bool:
        assert process.poll() is None, f"{kind} has ended"
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) == 0

    harness.until(listens, f"{kind} listens")
    return Server(port, process.pid, key)


def per_cpu_s(here: World, server: Server, kinds: tuple[str, ...], first: int, jobs: int) -> float:
    """Requests one by one on a few connections: how many a CPU-second of the server's side."""

    def client(start: int) -> None:
        connection = server.connect()
        for n in range(start, start + jobs // CLIENTS):
            server.post(connection, probe(n))
        connection.close()

    before = here.cpu_s()
    together(client, range(first, first + jobs, jobs // CLIENTS))
    spent = harness.spent(before, here.cpu_s())
    return jobs / sum(spent[kind] for kind in kinds)


def bulk_per_cpu_s(here: World, server: Server, first: int, rounds: int) -> float:
    """Jobs published by lines, a CPU-second of the API and Postgres."""
    connection = server.connect()
    before = here.cpu_s()
    for start in range(first, first + rounds * LINES, LINES):
        lines = b"\n".join(probe(n) for n in range(start, start + LINES))
        server.post(connection, lines, kind=NDJSON)
    connection.close()
    spent = harness.spent(before, here.cpu_s())
    return rounds * LINES / (spent["web"] + spent["postgres"])


def together(work: Callable[[int], None], each: range) -> None:
    """Do it for each in a thread of its own."""
    threads = [threading.Thread(target=work, args=(one,)) for one in each]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def latencies_ms(act: Callable[[int], Callable[[int], None]], seconds: int) -> list[float]:
    """Do something `PER_S` times a second; milliseconds from when each was due, sorted.

    Args:
        act: Given the number of a client, returns what it does for a number.
        seconds: How long.
    """
    found: list[float] = []
    begins = time.monotonic() + 0.5

    def client(number: int) -> None:
        do = act(number)
        for n in range(number, seconds * PER_S, PACED):
            due = begins + n / PER_S
            time.sleep(max(0.0, due - time.monotonic()))
            do(n)
            found.append(1e3 * (time.monotonic() - due))

    together(client, range(PACED))
    return sorted(found)


def by_http(server: Server, first: int) -> Callable[[int], Callable[[int], None]]:
    """A client of the API, with a connection that stays."""

    def act(_: int) -> Callable[[int], None]:
        connection = server.connect()
        return lambda n: void(server.post(connection, probe(first + n)))

    return act


def by_insert(_: int) -> Callable[[int], None]:
    """A client that publishes in SQL, by the library."""

    def do(n: int) -> None:
        with db.transaction(TENANT) as conn:
            publish(conn, Probe(n=10**8 + n))

    return do


def bare_insert(url: str) -> Callable[[int], Callable[[int], None]]:
    """A client that inserts one row a transaction, of a table with no index but its key."""

    def act(_: int) -> Callable[[int], None]:
        conn = psycopg.connect(url, autocommit=True)
        return lambda n: void(
            conn.execute("INSERT INTO bench_bare (n, body) VALUES (%s, %s)", [n, probe(n).decode()])
        )

    return act


def void(_: object) -> None:
    """Nothing."""


def upload_mb(server: Server) -> float:
    """By how many MB the process's largest memory rises while a large file is uploaded."""
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")
    before = _memory_mb(server.pid)
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="large.txt"\r\n'
        "Content-Type: text/plain\r\n\r\n"
    ).encode()
    foot = f"\r\n--{BOUNDARY}--\r\n".encode()
    piece = b"a line of a large file, which has many of them\n" * 21_845  # a little above 1 MB
    size = len(head) + UPLOAD_MB * len(piece) + len(foot)
    connection = server.connect()
    connection.putrequest("POST", "/v1/documents")
    connection.putheader("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
    connection.putheader("Content-Length", str(size))
    connection.putheader("Authorization", f"Bearer {server.key}")
    connection.endheaders()
    connection.send(head)
    for _ in range(UPLOAD_MB):
        connection.send(piece)
    connection.send(foot)
    answer = connection.getresponse()
    assert answer.status == 202, answer.read()
    return _memory_mb(server.pid) - before


def _memory_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [kilobytes] = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return int(kilobytes) / 1024


def main() -> None:
    """Measure everything on one `ailydian web`."""
    parser = harness.options(__doc__)
    parser.add_argument("--jobs", type=int, default=4_000)
    parser.add_argument("--seconds", type=int, default=15)
    chosen = parser.parse_args()
    with harness.world(AILYDIAN_KEY_PEPPER=PEPPER) as here:
        db.open_pool(here.database_url, size=PACED)
        harness.owner_sql(
            here.database_url, "CREATE TABLE bench_bare (n int PRIMARY KEY, body text)"
        )
        http_api.make_busy(TENANT)
        key = http_api.make_key(
            TENANT,
            make_user(TENANT, "bench", role="ADMIN"),
            *("jobs:write", "documents:write"),
            pepper=PEPPER,
        )
        web = started(here, "web", "producers.cli", "web", "--port", key=key)
        echo = started(here, "echo", "tests.benchmarks.http_echo")
        per_cpu_s(here, web, ("web", "postgres"), 10**7, 400)
        floor = per_cpu_s(here, echo, ("echo",), 0, chosen.jobs)
        single = per_cpu_s(here, web, ("web", "postgres"), 2 * 10**7, chosen.jobs)
        bulk = bulk_per_cpu_s(here, web, 3 * 10**7, 3)
        bare = latencies_ms(bare_insert(here.database_url), chosen.seconds)
        library = latencies_ms(by_insert, chosen.seconds)
        paced = latencies_ms(by_http(web, 4 * 10**7), chosen.seconds)
        memory = upload_mb(web)
    figures = [
        Figure("echo, one by one", floor, "requests/CPU-s"),
        Figure("publish, one by one", single, "requests/CPU-s", 350, gates=True),
        Figure("publish, by lines", bulk, "jobs/CPU-s", 1_000, gates=True),
        Figure(f"a bare INSERT, {PER_S}/s: p50", at(bare, 0.5), "ms"),
        Figure(f"a bare INSERT, {PER_S}/s: p99", at(bare, 0.99), "ms"),
        Figure(f"publish by the library, {PER_S}/s: p99", at(library, 0.99), "ms"),
        Figure(f"publish, {PER_S}/s: p50", at(paced, 0.5), "ms"),
        Figure(f"publish, {PER_S}/s: p99", at(paced, 0.99), "ms", 25, at_most=True),
        Figure(
            f"publish, {PER_S}/s: p99",
            at(paced, 0.99) / at(bare, 0.99),
            "x INSERT",
            3,
            at_most=True,
        ),
        Figure(f"memory of a {UPLOAD_MB} MB upload", memory, "MB", 64, at_most=True, gates=True),
    ]
    harness.report("http", figures, as_json=chosen.json)


def at(values: list[float], share: float) -> float:
    """The value below which this share of sorted values lies."""
    return values[min(int(share * len(values)), len(values) - 1)]


if __name__ == "__main__":
    main()
