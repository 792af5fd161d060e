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
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import dramatiq
import redis

from shared import db
from shared.contracts import Contract, Probe, ProbeBatch
from shared.ids import TenantId
from shared.ledger.outbox import publish_many
from tests.benchmarks import harness
from tests.benchmarks.harness import Figure, World

QUEUE = Probe.queue_name
WARM_UP = 400
TENANTS = 10
PLAIN_DB = 1
PLAIN_LIST, PLAIN_HASH = "dramatiq:default", "dramatiq:default.msgs"
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
        "own transaction, one statement",
        lambda n: Probe(n=n, mode="statement"),
        TENANTS,
        0.45,
        0.6,
        2.4,
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
    def settling_us(self) -> float:
        return sum(us for kind, us in self.cpu_us.items() if kind != "relay")


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
    [(began, _)] = _pause(here, paused=False)
    harness.until(lambda: _empty(here), "our drain", every_s=0.1)
    used = harness.spent(before, here.cpu_s())
    [(ended, bad)] = here.sql(
        """SELECT max("finishedAt"), count(*) FILTER (WHERE "state" <> 'COMPLETED')
           FROM "Job" WHERE "id" BETWEEN %s AND %s AND "job" = %s""",
        min(ids),
        max(ids),
        make(0).actor_name,
    )
    assert bad == 0, f"{bad} jobs did not complete"
    return _drained(len(numbers), (ended - began).total_seconds(), used)


def _pause(here: World, *, paused: bool) -> list[tuple]:
    if paused:
        return here.sql(
            """INSERT INTO "JobHold" ("queue", "heldBy") VALUES (%s, 'the benchmark')
               ON CONFLICT DO NOTHING RETURNING clock_timestamp(), NULL""",
            QUEUE,
        )
    return here.sql(
        """DELETE FROM "JobHold" WHERE "queue" = %s
           RETURNING clock_timestamp(), pg_notify('ailydian_outbox', '')""",
        QUEUE,
    )


def _publish(make: Make, tenants: int, numbers: range) -> list[str]:
    ids: list[str] = []
    for tenant in range(tenants):
        part = numbers[tenant::tenants]
        for start in range(0, len(part), 1_000):
            jobs = [make(n) for n in part[start : start + 1_000]]
            with db.transaction(TenantId(f"t{tenant}")) as conn:
                ids += [one.id for one in publish_many(conn, jobs)]
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
        "workers",
        "workers.process.supervisor",
        "--processes",
        "2",
        "--threads",
        "8",
        "--queue",
        QUEUE,
    )
    harness.until(lambda: here.sql(harness.WORKERS) == [(2,)], "our workers")
    for variant in VARIANTS.values():
        drain_ours(here, variant.make, tenants=variant.tenants, numbers=numbers.take(WARM_UP))
    yield
    here.stop("workers", workers)
    here.stop("relay", relay)


@contextmanager
def plain_workers(here: World) -> Iterator[None]:
    """Plain Dramatiq with two processes of eight threads."""
    workers = here.start(
        "workers",
        "dramatiq",
        "tests.benchmarks.plain_role",
        "--processes",
        "2",
        "--threads",
        "8",
        PLAIN_REDIS_URL=_plain_url(here),
    )
    yield
    here.stop("workers", workers)


def drain_plain(here: World, jobs: int) -> Drained:
    """Enqueue out of the workers' sight, warm them up, hand the messages over."""
    with redis.Redis.from_url(_plain_url(here)) as client:
        _enqueue_plain(client, "warm", WARM_UP)
        _enqueue_plain(client, "held", jobs)
        client.rename("warm", PLAIN_LIST)
        harness.until(lambda: client.hlen(PLAIN_HASH) == jobs, "plain's warm-up", every_s=0.002)
        before = here.cpu_s()
        client.rename("held", PLAIN_LIST)
        harness.until(lambda: client.llen(PLAIN_LIST) < jobs, "plain's start", every_s=0.002)
        began = time.monotonic()
        harness.until(lambda: client.hlen(PLAIN_HASH) == 0, "plain's drain", every_s=0.01)
        wall_s = time.monotonic() - began
        return _drained(jobs, wall_s, harness.spent(before, here.cpu_s()))


def _plain_url(here: World) -> str:
    return f"{here.redis_url}?db={PLAIN_DB}"


def _enqueue_plain(client: redis.Redis, name: str, count: int) -> None:
    """As the stock broker enqueues, but the list of ids under a name that nobody reads."""
    with client.pipeline(transaction=False) as pipe:
        for n in range(count):
            key = str(uuid.uuid4())
            message = dramatiq.Message("default", "noop", (n,), {}, {"redis_message_id": key})
            pipe.hset(PLAIN_HASH, key, message.encode())
            pipe.rpush(name, key)
        pipe.execute()


def one_round(here: World, names: list[str], jobs: int, numbers: Numbers) -> dict[str, Drained]:
    """Plain and each of ours, in an order of chance."""
    found: dict[str, Drained] = {}

    def plain() -> None:
        with plain_workers(here):
            found["plain"] = drain_plain(here, jobs)

    def ours() -> None:
        with our_workers(here, numbers):
            for name in random.sample(names, len(names)):
                one = VARIANTS[name]
                found[name] = drain_ours(
                    here, one.make, tenants=one.tenants, numbers=numbers.take(jobs)
                )

    for drain in random.sample([plain, ours], 2):
        drain()
    return found


def bad_job_spoils_none(here: World, numbers: Numbers) -> bool:
    """Whether of 1,000 batched jobs with one bad one all the others take effect, each once."""
    with our_workers(here, numbers):
        before = here.sql('SELECT count(*) FROM "ProbeEntry"')[0][0]
        wanted = numbers.take(1_000)
        bad = wanted[500]
        _publish(lambda n: ProbeBatch(n=n, bad=n == bad), 1, wanted)
        harness.until(
            lambda: here.sql('SELECT count(*) FROM "ProbeEntry"')[0][0] - before >= 999, "the batch"
        )
        [(rows, once, spoiled)] = here.sql(
            """SELECT count(*), count(DISTINCT "n"), count(*) FILTER (WHERE "n" = %s)
               FROM "ProbeEntry" WHERE "n" BETWEEN %s AND %s""",
            bad,
            wanted[0],
            wanted[-1],
        )
        here.sql('DELETE FROM "JobOutbox"')
    return (rows, once, spoiled) == (999, 999, 0)


def figures(rounds: list[dict[str, Drained]], names: list[str]) -> list[Figure]:
    """Medians of the rounds, and of the rounds' ratios to plain."""
    found = []
    for name in ["plain", *names]:
        mine = [one[name] for one in rounds]
        found.append(Figure(f"{name}: drain", median(it.per_s for it in mine), "jobs/s"))
        for kind in ("workers", "postgres", "redis", "relay"):
            us = median(it.cpu_us.get(kind, 0.0) for it in mine)
            found.append(Figure(f"{name}: CPU of {kind}", us, "us/job"))
        if name != "plain":
            found += _judged(name, [(one[name], one["plain"]) for one in rounds])
    return found


def _judged(name: str, pairs: list[tuple[Drained, Drained]]) -> list[Figure]:
    asked = VARIANTS[name]
    speed = median(ours.per_s / plain.per_s for ours, plain in pairs)
    # facts.md H sets its bars on workers, Postgres and Valkey; the relay's own is in the table.
    cpu = median(ours.settling_us / plain.settling_us for ours, plain in pairs)
    return [
        Figure(f"{name}: speed", speed, "x plain", asked.bar, asked.target, gates=True),
        Figure(f"{name}: CPU", cpu, "x plain", asked.cpu_bar, at_most=True, gates=True),
    ]


def main() -> None:
    """Run the rounds and print the table."""
    parser = harness.options(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--variant", action="append", choices=VARIANTS, help="default: all")
    chosen = parser.parse_args()
    names = chosen.variant or list(VARIANTS)
    numbers = Numbers()
    with harness.world(tenants=TENANTS) as here:
        rounds = []
        for number in range(chosen.rounds):
            rounds.append(one_round(here, names, chosen.jobs, numbers))
            told = ", ".join(f"{it} {rounds[-1][it].per_s:,.0f}" for it in ["plain", *names])
            print(f"round {number + 1}: {told} jobs/s", file=sys.stderr)
        found = figures(rounds, names)
        if "batch" in names:
            whole = float(bad_job_spoils_none(here, numbers))
            found.append(Figure("batch: 999 of 1,000 beside a bad one", whole, "", 1.0, gates=True))
    harness.report("drain", found, as_json=chosen.json)


if __name__ == "__main__":
    main()
