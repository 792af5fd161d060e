"""From publish to the actor on an idle system, and what idle processes ask of Redis.

The clock starts in the publisher right before its COMMIT, and stops with the "wroteAt" of the
actor's own transaction: Postgres's time when the actor's first statement, its BEGIN, has arrived.
Both are the machine's one real-time clock. So the figure holds the commit, NOTIFY, relay, Redis,
claim, thread hand-over and one pool look-up.
"""

import time
from statistics import median

import redis

from shared import db
from shared.contracts import Probe
from shared.ids import TenantId
from shared.ledger.outbox import publish
from tests.benchmarks import harness
from tests.benchmarks.harness import Figure, World

EVERY_S = 0.2
SILENCE_S = 10.0
PROCESSES = 2


def latencies_ms(here: World, jobs: int, first: int) -> list[float]:
    """Publish probes at a steady pace and read back when each began, milliseconds, sorted."""
    sent: dict[int, float] = {}
    for n in range(first, first + jobs):
        with db.transaction(TenantId("t0")) as conn:
            publish(conn, Probe(n=n, mode="statement"))
            sent[n] = time.time()
        time.sleep(EVERY_S)
    harness.until(lambda: len(_begun(here, first)) == jobs, "probes")
    return sorted(1e3 * (at - sent[n]) for n, at in _begun(here, first))


def _begun(here: World, first: int) -> list[tuple]:
    return here.sql(
        """SELECT "n", extract(epoch FROM "wroteAt")::float8 FROM "ProbeEntry" WHERE "n" >= %s""",
        first,
    )


def calls_per_s(client: redis.Redis) -> float:
    """Redis commands a second over a silence, our own INFO left out."""
    before, began = harness.commands(client), time.monotonic()
    time.sleep(SILENCE_S)
    after = harness.commands(client)
    calls = sum(after.values()) - sum(before.values()) - 1
    return calls / (time.monotonic() - began)


def main() -> None:
    """Measure relay alone, then with workers, then the probes."""
    parser = harness.options(__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    chosen = parser.parse_args()
    with harness.world() as here, redis.Redis.from_url(here.redis_url) as client:
        here.start("relay", "tests.benchmarks.relay_role")
        harness.until(lambda: client.exists("ailydian:epoch") == 1, "relay")
        of_relay = calls_per_s(client)
        here.start("workers", "workers.process.supervisor", "--processes", str(PROCESSES))
        harness.until(lambda: here.sql(harness.WORKERS) == [(PROCESSES,)], "workers")
        latencies_ms(here, 10, first=0)
        of_worker = (calls_per_s(client) - of_relay) / PROCESSES
        [first, *_] = latencies_ms(here, 1, first=10)
        found = latencies_ms(here, chosen.jobs, first=11)
    figures = [
        Figure("publish to start, p50", median(found), "ms", 10, 5, at_most=True),
        Figure("p99", found[int(0.99 * (len(found) - 1))], "ms", 30, 15, at_most=True),
        Figure("the first after 10 s of silence", first, "ms"),
        Figure("Redis calls of an idle worker", of_worker, "/s", 5, at_most=True, gates=True),
        Figure("Redis calls of the idle relay", of_relay, "/s", 5, at_most=True, gates=True),
    ]
    harness.report("latency", figures, as_json=chosen.json)


if __name__ == "__main__":
    main()
