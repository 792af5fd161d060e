"""How fast jobs are accepted and relayed, beside plain Dramatiq's drain of the same run."""

import time
from collections.abc import Callable

import redis

from producers.ledger.relay import Relay
from shared import db
from shared.contracts import Probe
from shared.ids import TenantId
from shared.ledger import wakeups
from shared.ledger.outbox import publish, publish_many
from tests.benchmarks import drain, harness
from tests.benchmarks.harness import Figure, World

TENANT = TenantId("t0")
TOGETHER = 1_000


def timed(here: World, jobs: int, work: Callable[[], None]) -> tuple[float, float, float]:
    """Jobs a second, and CPU microseconds a job of this process and of Postgres."""
    before, client, began = here.cpu_s()["postgres"], time.process_time(), time.monotonic()
    work()
    wall_s = time.monotonic() - began
    mine, theirs = time.process_time() - client, here.cpu_s()["postgres"] - before
    return jobs / wall_s, 1e6 * mine / jobs, 1e6 * theirs / jobs


def publish_together(jobs: int) -> None:
    """Accept jobs a thousand a statement."""
    for start in range(0, jobs, TOGETHER):
        with db.transaction(TENANT) as conn:
            publish_many(conn, [Probe(n=start + n) for n in range(TOGETHER)])


def publish_singly(first: int, jobs: int) -> None:
    """Accept jobs one a transaction."""
    for n in range(first, first + jobs):
        with db.transaction(TENANT) as conn:
            publish(conn, Probe(n=n))


def relay_all(here: World) -> None:
    """Relay what waits; the list is emptied at once, as ideal workers would."""
    client = wakeups.connect(here.redis_url)
    wire = wakeups.Wire(here.config.redis_namespace, b"a key of the benchmark")
    relay = Relay(here.config, client, wire)
    while here.sql('SELECT EXISTS (SELECT FROM "JobOutbox")') == [(True,)]:
        for _ in range(20):
            relay.step()
            client.delete(wire.queue_key(Probe.queue_name))


def main() -> None:
    """Publish many, publish single, relay all of it, and drain plain."""
    parser = harness.options(__doc__)
    parser.add_argument("--jobs", type=int, default=20_000)
    chosen = parser.parse_args()
    jobs, single = chosen.jobs, chosen.jobs // 10
    with harness.world() as here:
        publish_singly(10**8, 100)
        many = timed(here, jobs, lambda: publish_together(jobs))
        one = timed(here, single, lambda: publish_singly(10**7, single))
        harness.owner_sql(here.database_url, 'VACUUM ANALYZE "JobOutbox"')
        relayed = timed(here, jobs + single + 100, lambda: relay_all(here))
        with redis.Redis.from_url(here.redis_url) as client:
            client.flushdb()
        with drain.plain_workers(here):
            plain = drain.drain_plain(here, jobs)
    figures = [Figure("plain Dramatiq's drain", plain.per_s, "jobs/s")]
    for name, (per_s, mine, theirs), target in (
        ("publish_many", many, 10.0),
        ("publish, one a transaction", one, None),
        ("relay", relayed, 8.0),
    ):
        figures += [
            Figure(name, per_s, "jobs/s"),
            Figure(f"{name}: CPU of this process", mine, "us/job"),
            Figure(f"{name}: CPU of Postgres", theirs, "us/job"),
        ]
        if target is not None:
            figures.append(
                Figure(f"{name}: speed", per_s / plain.per_s, "x plain", 5, target, gates=True)
            )
    harness.report("publish", figures, as_json=chosen.json)


if __name__ == "__main__":
    main()
