"""Requests that are cut off and sent again: each is done once, and answered the same.

`python -m tests.acceptance.faults.http_retries --requests 10000`. Between the API and Postgres one
of twenty COMMITs loses its connection, one half before the server has it, the other half after its
answer; every tenth request is sent by a client that hangs up without reading. Clients send a
request again, with its Idempotency-Key, until it is answered with 202. Ends 1 when a job is missing
or doubled, or when an answer differs.
"""

import argparse
import json
import random
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.client import HTTPException
from urllib.parse import parse_qs, urlsplit

from shared import db
from tests.acceptance.faults.proxy import Proxy
from tests.benchmarks import harness
from tests.support.factories import make_tenant, make_user, rows
from tests.support.http_api import Api, make_busy, make_key, serving
from tests.support.patience import patience

COMMITS_LOST = 0.05
HUNG_UP = 0.1
THREADS = 4
TRIES_MAX = 100
AGAIN = frozenset({409, 500, 502, 503, 504})


@dataclass
class Outcome:
    """What was sent and what came of it."""

    requests: int = 0
    sent: int = 0
    hung_up: int = 0
    commits_lost: int = 0
    failed: int = 0
    jobs: int = 0
    differing: list[int] = field(default_factory=list)
    unanswered: list[int] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def right(self) -> bool:
        """Whether each request is one job, and each answer the same."""
        return self.jobs == self.requests and not self.differing and not self.unanswered


@contextmanager
def cut_off(database_url: str, redis_url: str, *, seed: int) -> Iterator[tuple[Api, Proxy, str]]:
    """Serve the API behind a wire to Postgres that breaks; its port, the wire, a key."""
    parts = urlsplit(database_url)
    folder = parse_qs(parts.query)["host"][0]
    tenant = make_tenant("acme")
    make_busy(tenant)
    key = make_key(tenant, make_user(tenant, "bob", role="ADMIN"), "jobs:write")
    wire = Proxy(f"{folder}/.s.PGSQL.5432", seed=seed)
    try:
        db.open_pool(f"postgresql://postgres@127.0.0.1:{wire.port}{parts.path}", size=8)
        with serving(redis_url) as api:
            yield api, wire, key
    finally:
        db.open_pool(database_url)
        wire.close()


def send(api: Api, wire: Proxy, key: str, *, requests: int, seed: int) -> Outcome:
    """Send requests until each is answered, and once more to see whether the answer is the same."""
    out, lock, began = Outcome(requests), threading.Lock(), time.monotonic()
    numbers = iter(range(requests))
    wire.commits_lost = COMMITS_LOST

    def client(rng: random.Random) -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            _until_answered(api, key, number, rng, out)

    threads = [
        threading.Thread(target=client, args=(random.Random(f"{seed} {n}"),))
        for n in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wire.heal()
    out.commits_lost, out.took_s = wire.lost, time.monotonic() - began
    return out


def jobs() -> int:
    """How many jobs there are, each of another request; fails if two are of one."""
    [(all_jobs, different)] = rows(
        """SELECT count(*), count(DISTINCT "payload"->>'n') FROM "Job" """
    )
    assert all_jobs == different, f"{all_jobs - different} requests made two jobs"
    return int(all_jobs)


def _until_answered(api: Api, key: str, number: int, rng: random.Random, out: Outcome) -> None:
    body = json.dumps({"job": "probe", "payload": {"n": number}}).encode()
    seen: list[bytes] = []
    for _ in range(TRIES_MAX):
        if rng.random() < HUNG_UP:
            _hang_up(api, key, number, body)
            out.hung_up += 1
            continue
        out.sent += 1
        try:
            reply = api.ask(
                "POST", "/v1/jobs", key=key, body=body, Idempotency_Key=f"request-{number}"
            )
        except (OSError, HTTPException):
            out.failed += 1
            continue
        if reply.status in AGAIN:
            out.failed += 1
            continue
        assert reply.status == 202, reply
        seen.append(reply.body)
        if len(seen) == 2:
            break
    if len(seen) < 2:
        out.unanswered.append(number)
    elif seen[0] != seen[1]:
        out.differing.append(number)


def _hang_up(api: Api, key: str, number: int, body: bytes) -> None:
    """Send a request and close the connection without reading the answer."""
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        f"Idempotency-Key: request-{number}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", api.port), timeout=patience(20)) as sock:
        sock.sendall(head.encode() + body)


def main() -> None:
    """Do it on servers of its own."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with harness.world(tenants=0) as here:
        with cut_off(here.database_url, here.redis_url, seed=chosen.seed) as (api, wire, key):
            out = send(api, wire, key, requests=chosen.requests, seed=chosen.seed)
        out.jobs = jobs()
    print(json.dumps(asdict(out)))
    sys.exit(not out.right)


if __name__ == "__main__":
    main()
