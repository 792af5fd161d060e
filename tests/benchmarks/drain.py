"""Drain 20,000 no-op jobs: ours from the ledger, plain Dramatiq's from Redis, in the same minute.

Before each drain the workers run, have done a few hundred jobs, and wait. Ours: the queue is
paused, the jobs are published and the relay waits; the transaction that resumes the queue notes
the time, so the clock starts a moment before the relay's first claim, and it stops at the last
"finishedAt", which Postgres writes in the statement before the last commit. Plain: its list of
messages is held under another name and renamed; its clock starts when the list is first seen
to shrink, so that its idle back-off (up to a second) is not held against it, and stops when the
last message is acknowledged.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import batched
from statistics import median

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker

from shared import db
from shared.contracts import Contract, Probe, ProbeBatch
from shared.outbox import publish_many
from tests.benchmarks import harness
from tests.benchmarks.harness import Figure, World

QUEUE = Probe.queue_name
WARM_UP = 400
TENANTS = 10
PLAIN_DB = 1
Make = Callable[[int], Contract]


@dataclass(frozen=True)
class Variant:
    """One way to settle jobs, and what issue section 5 and facts.md H ask of it."""

    title: str
    make: Make
    tenants: int
    bar: float
    target: float
    cpu_bar: float


VARIANTS = {
    "receipt": Variant(
        "own transaction", lambda n: Probe(n=n, mode="receipt"), TENANTS, 0.75, 0.9, 1.4
    ),
    "statement": Variant(
        "own transaction, one statement", lambda n: Probe(n=n, mode="statement"), TENANTS, 0.45,
        0.6, 2.4,
    ),
    "group": Variant("group completion", lambda n: Probe(n=n), TENANTS, 2.0, 3.0, 0.55),
    "batch": Variant("batch actor", lambda n: ProbeBatch(n=n), 1, 2.25, 3.0, 0.45),
}


@dataclass(frozen=True)
class Drained:
    """What a drain took: wall seconds, and CPU microseconds a job by kind of process."""

    jobs: int
    wall_s: float
    cpu_us: dict[str, float]

    @property
    def per_s(self) -> float:
        return self.jobs / self.wall_s

    @property
    def all_us(self) -> float:
        return sum(self.cpu_us.values())


class Numbers:
    """Numbers no job has had yet: equal fields would be a duplicate."""

    def __init__(self) -> None:
        self._next = 0

    def take(self, count: int) -> range:
        self._next += count
        return range(self._next - count, self._next)


def drain_ours(here: World, make: Make, *, tenants: int, numbers: range) -> Drained:
    """Publish under a paused queue, resume it, and wait for the last commit."""
    _pause(here, paused=True)
    ids = _publish(make, tenants, numbers)
    harness.owner_sql(here.database_url, 'ANALYZE "Job", "JobOutbox"')
    before = here.cpu_s()
    [(began,)] = _pause(here, paused=False)
    harness.until(lambda: _empty(here), "our drain", every_s=0.1)
    used = harness.spent(before, here.cpu_s())
    [(ended, bad)] = here.sql(
        """SELECT max("finishedAt"), count(*) FILTER (WHERE "state" <> 'COMPLETED')
           FROM "Job" WHERE "id" BETWEEN %s AND %s AND "job" = %s""",
        min(ids), max(ids), make(0).actor_name,
    )
    assert bad == 0, f"{bad} jobs did not complete"
    return _drained(len(numbers), (ended - began).total_seconds(), used)


def _pause(here: World, *, paused: bool) -> list[tuple]:
    return here.sql(
        """INSERT INTO "QueueState" ("queue", "paused") VALUES (%s, %s)
           ON CONFLICT ("queue") DO UPDATE SET "paused" = excluded."paused"
           RETURNING clock_timestamp(), pg_notify('ailydian_outbox', '')""",
        QUEUE, paused,
    ) and here.sql("SELECT clock_timestamp()")


def _publish(make: Make, tenants: int, numbers: range) -> list[str]:
    ids: list[str] = []
    share = -(-len(numbers) // tenants)
    for tenant, part in enumerate(batched(numbers, share)):
        for some in batched(part, 1_000):
            with db.transaction(f"t{tenant}") as conn:
                ids += [one.id for one in publish_many(conn, [make(n) for n in some])]
    return ids


def _empty(here: World) -> bool:
    [(empty,)] = here.sql(
        """SELECT NOT EXISTS (SELECT FROM "JobOutbox") AND NOT EXISTS (SELECT FROM "JobFlight")"""
    )
    return empty


def _drained(jobs: int, wall_s: float, used: dict[str, float]) -> Drained:
    return Drained(jobs, wall_s, {kind: 1e6 * seconds / jobs for kind, seconds in used.items()})


@contextmanager
def our_workers(here: World, numbers: Numbers) -> Iterator[None]:
    """Relay and two workers with eight threads, warm."""
    relay = here.start("relay", "tests.benchmarks.relay_role")
    workers = here.start(
        "workers", "workers.supervisor", "--processes", "2", "--threads", "8", "--queue", QUEUE
    )
    harness.until(
        lambda: here.sql('SELECT count(*) FROM "WorkerProcess"') == [(2,)], "our workers"
    )
    for variant in VARIANTS.values():
        drain_ours(here, variant.make, tenants=variant.tenants, numbers=numbers.take(WARM_UP))
    yield
    here.stop("workers", workers)
    here.stop("relay", relay)


@contextmanager
def plain_workers(here: World) -> Iterator[None]:
    """Plain Dramatiq with two processes of eight threads."""
    workers = here.start(
        "workers", "dramatiq", "tests.benchmarks.plain_role", "--processes", "2", "--threads", "8",
        PLAIN_REDIS_URL=_plain_url(here),
    )
    yield
    here.stop("workers", workers)


def drain_plain(here: World, jobs: int) -> Drained:
    """Enqueue out of the workers' sight, warm them up, hand the messages over."""
    with redis.Redis.from_url(_plain_url(here)) as client:
        broker = RedisBroker(client=client, middleware=[])
        client.delete("dramatiq:held", "dramatiq:held.msgs")
        for count, name in ((WARM_UP, "warm"), (jobs, "held")):
            for n in range(count):
                message = dramatiq.Message("default", "noop", (n,), {}, {})
                broker.enqueue(message.copy(queue_name=name))
            _rename_inside(client, name)
        _hand_over(client, "warm")
        harness.until(lambda: not client.hlen("dramatiq:default.msgs"), "warm-up", every_s=0.002)
        before = here.cpu_s()
        _hand_over(client, "held")
        harness.until(
            lambda: client.llen("dramatiq:default") < jobs, "plain's start", every_s=0.002
        )
        began = time.monotonic()
        harness.until(
            lambda: not client.hlen("dramatiq:default.msgs"), "plain's drain", every_s=0.01
        )
        wall_s = time.monotonic() - began
        return _drained(jobs, wall_s, harness.spent(before, here.cpu_s()))
