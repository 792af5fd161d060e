"""What the system survives while jobs flow: kills, wipes, crashes of Postgres, Redis away, fuzz.

Every job writes one row in the transaction of its receipt. Lost is a job that has not ended, or
ended without its row; doubled one with a second row. The faults come at random moments; `--seed`
repeats them, as far as a machine repeats itself.
"""

import json
import os
import random
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from statistics import median

import psutil
import redis

from shared import db
from shared.contracts import Contract, Probe
from shared.errors import ServerUnavailable
from shared.ids import TenantId
from shared.ledger.outbox import publish_many
from shared.servers import embedded_postgres, embedded_valkey
from tests.benchmarks import harness
from tests.benchmarks.harness import Figure, World
from tests.support import misbehaving_jobs

QUEUE = "ailydian:queue:maintenance"
PROCESSES = 4
PAGE = 50


@contextmanager
def plant(*, processes: int = PROCESSES) -> Iterator[World]:
    """Servers, a relay, and workers that know the jobs of `tests.support.misbehaving_jobs`."""
    with harness.world(tenants=4, AILYDIAN_PLUGINS=misbehaving_jobs.__name__) as here:
        here.environment["AILYDIAN_LOG_LEVEL"] = "error"
        here.start("relay", "tests.benchmarks.relay_role")
        here.start(
            "workers",
            "workers.process.supervisor",
            "--queue",
            "maintenance",
            "--processes",
            str(processes),
        )
        harness.until(lambda: len(workers(here)) == processes, "workers")
        yield here


def workers(here: World) -> list[psutil.Process]:
    """The worker processes that live."""
    return [
        child
        for pid in here.trees["workers"]
        for child in psutil.Process(pid).children()
        if child.status() != psutil.STATUS_ZOMBIE
    ]


def publish(first: int, count: int, make: Callable[[int], Contract]) -> None:
    """Accept jobs, however long Postgres needs to answer; a commit in doubt is tried again."""
    for start in range(first, first + count, PAGE):
        jobs = [make(n) for n in range(start, min(start + PAGE, first + count))]
        while True:
            try:
                with db.transaction(TenantId(f"t{start // PAGE % 4}")) as conn:
                    publish_many(conn, jobs)
                break
            except ServerUnavailable:
                time.sleep(0.1)


def flow(count: int, seconds: float, make: Callable[[int], Contract]) -> threading.Thread:
    """Publish jobs at an even pace, beside whatever else happens."""

    def run() -> None:
        began = time.monotonic()
        for start in range(0, count, PAGE):
            publish(start, min(PAGE, count - start), make)
            time.sleep(max(0.0, began + seconds * (start + PAGE) / count - time.monotonic()))

    thread = threading.Thread(target=run, name="publisher")
    thread.start()
    return thread


def counts(here: World) -> tuple[int, int, int]:
    """Jobs, those of them that have COMPLETED, and rows written."""
    while True:
        try:
            return here.sql(  # type: ignore[return-value]
                """SELECT (SELECT count(*) FROM "Job"), (SELECT count(*) FROM "Job"
                   WHERE "state" = 'COMPLETED'), (SELECT count(*) FROM "ProbeEntry")"""
            )[0]
        except ServerUnavailable:
            time.sleep(0.1)


def outcome(here: World, jobs: int) -> list[Figure]:
    """Wait until all has ended, and say what was lost or done twice."""
    harness.until(lambda: counts(here)[1] >= jobs or _stuck(here), "the last job", every_s=0.5)
    accepted, completed, _ = counts(here)
    [(dead,)] = here.sql("""SELECT count(*) FROM "Job" WHERE "state" = 'DEAD'""")
    [(twice,)] = here.sql("""SELECT count(*) - count(DISTINCT "jobId") FROM "ProbeEntry" """)
    [(without,)] = here.sql(
        """SELECT count(*) FROM "Job" j WHERE j."state" = 'COMPLETED'
           AND NOT EXISTS (SELECT FROM "ProbeEntry" p WHERE p."jobId" = j."id")"""
    )
    return [
        Figure("jobs", accepted, ""),
        Figure("lost", jobs - completed - dead + without, "jobs", 0, at_most=True, gates=True),
        Figure("dead letters, for a third crash", dead, "jobs"),
        Figure("doubled", twice, "effects", 0, at_most=True, gates=True),
    ]


def _stuck(here: World) -> bool:
    left = """SELECT EXISTS (SELECT FROM "JobOutbox") OR EXISTS (SELECT FROM "JobFlight")"""
    try:
        return here.sql(left) == [(False,)]
    except ServerUnavailable:
        return False


def kills(rng: random.Random, jobs: int, faults: int) -> list[Figure]:
    """kill -9 of random workers at random moments."""
    killed: dict[int, float] = {}
    names: dict[int, str] = {}
    with plant() as here:
        publisher = flow(
            jobs, faults * 0.5, lambda n: misbehaving_jobs.Nap(n=n, ms=rng.randrange(40))
        )
        while len(killed) < faults:
            time.sleep(rng.expovariate(2.0))
            for row in here.sql('SELECT "pid", "id" FROM "WorkerProcess"'):
                names[row[0]] = row[1]
            victims = [one for one in workers(here) if one.pid in names and one.pid not in killed]
            if victims:
                victim = rng.choice(victims)
                killed[victim.pid] = time.time()
                victim.kill()
        publisher.join()
        found = outcome(here, jobs)
        waits = orphans_s(here, {names[pid]: at for pid, at in killed.items()})
    p99 = waits[int(0.99 * (len(waits) - 1))] if waits else 0.0
    return [
        Figure("kill -9", len(killed), "workers"),
        *found,
        Figure("orphans", len(waits), "jobs"),
        Figure("orphan started again, p50", median(waits) if waits else 0.0, "s"),
        Figure("orphan started again, p99", p99, "s", 10, at_most=True, gates=True),
    ]


def orphans_s(here: World, killed: dict[str, float]) -> list[float]:
    """From the kill to the next start of each job that the worker was doing, seconds, sorted."""
    rows = here.sql(
        """SELECT a."worker", extract(epoch FROM coalesce(
               lead(a."startedAt") OVER (PARTITION BY a."jobId" ORDER BY a."fence"), j."startedAt"
           ))::float8
           FROM "JobAttempt" a JOIN "Job" j ON j."id" = a."jobId" WHERE a."verdict" = 'crashed'"""
    )
    return sorted(at - killed[worker] for worker, at in rows if worker in killed)


def wipes(rng: random.Random, jobs: int, faults: int) -> list[Figure]:
    """FLUSHALL at random moments: the relay notices, and sends again what was lost."""
    took = []
    with plant(processes=2) as here, redis.Redis.from_url(here.redis_url) as client:
        publisher = flow(
            jobs, faults * 2.0, lambda n: misbehaving_jobs.Nap(n=n, ms=rng.randrange(40))
        )
        for _ in range(faults):
            time.sleep(rng.uniform(0.5, 2.5))
            client.flushall()
            began = time.monotonic()
            harness.until(lambda: client.exists("ailydian:epoch") == 1, "the refill", every_s=0.01)
            took.append(time.monotonic() - began)
        publisher.join()
        found = outcome(here, jobs)
    slowest = Figure("refilled, the slowest", max(took), "s", 30, at_most=True, gates=True)
    return [Figure("FLUSHALL", faults, "times"), *found, slowest]


def crashes(rng: random.Random, jobs: int, faults: int) -> list[Figure]:
    """Postgres stops as by `pg_ctl stop -m immediate`, and starts again."""
    with plant(processes=2) as here:
        publisher = flow(
            jobs, faults * 3.0, lambda n: misbehaving_jobs.Nap(n=n, ms=rng.randrange(40))
        )
        for _ in range(faults):
            time.sleep(rng.uniform(1.0, 4.0))
            postmaster = harness.pid_in(here.home / "postgres" / "postmaster.pid")
            watched = os.pidfd_open(postmaster)
            os.kill(postmaster, signal.SIGQUIT)
            assert select.select([watched], [], [], 60)[0], "Postgres did not end"
            os.close(watched)
            embedded_postgres.start(here.home, durable=True)
        publisher.join()
        found = outcome(here, jobs)
    return [Figure("Postgres stopped immediate", faults, "times"), *found]


def away(rng: random.Random, jobs: int, faults: int) -> list[Figure]:
    """Redis is gone for a while, then full: publishing goes on."""
    calm: list[float] = []
    without: list[float] = []
    full: list[float] = []
    with plant(processes=2) as here:
        numbers = iter(range(jobs))
        _publish_for(2.0, numbers, calm)
        valkey = psutil.Process(harness.pid_in(here.home / "valkey" / "pid"))
        valkey.kill()
        valkey.wait(10)
        _publish_for(float(faults), numbers, without)
        embedded_valkey.start(here.home)
        with redis.Redis.from_url(here.redis_url) as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "1mb")
            _publish_for(5.0, numbers, full)
            client.config_set("maxmemory", "0")
        published = len(calm) + len(without) + len(full)
        found = outcome(here, published)
    del rng

    def p99(waits: list[float]) -> float:
        return sorted(waits)[int(0.99 * (len(waits) - 1))] * 1e3

    return [
        Figure("Redis away", faults, "s"),
        *found,
        Figure("publish, p99", p99(calm), "ms"),
        Figure("publish while away, p99 more", p99(without) - p99(calm), "ms", 50, at_most=True),
        Figure("publish while full, p99 more", p99(full) - p99(calm), "ms", 50, at_most=True),
    ]


def _publish_for(seconds: float, numbers: Iterator[int], took: list[float]) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        publish(next(numbers), 1, lambda n: Probe(n=n, mode="statement"))
        took.append(time.monotonic() - began)
        time.sleep(0.02)


def fuzz(rng: random.Random, jobs: int, faults: int) -> list[Figure]:
    """Mutated wake-ups among good ones, beside the same jobs without."""
    seconds: dict[bool, float] = {}
    with plant(processes=2) as here, redis.Redis.from_url(here.redis_url) as client:
        before = workers(here)
        for round_, dirty in enumerate([False, False, True]):  # the first to warm up
            first = round_ * jobs
            noise = _mutants(rng, faults) if dirty else iter(())
            began = time.monotonic()
            for start in range(first, first + jobs, 500):
                publish(start, 500, lambda n: Probe(n=n, mode="statement"))
                if bad := list(islice(noise, faults // (jobs // 500))):
                    client.rpush(QUEUE, *bad)
            harness.until(lambda: counts(here)[1] >= first + jobs, "the jobs")  # noqa: B023
            seconds[dirty] = time.monotonic() - began
        harness.until(lambda: client.llen(QUEUE) == 0, "the last message")
        kept = 'SELECT coalesce(sum("seen"), 0) FROM "Quarantine"'
        harness.until(lambda: here.sql(kept)[0][0] >= faults, "the quarantine")
        [(quarantined,)] = here.sql(kept)
        found = outcome(here, 3 * jobs)
        dead = len({one.pid for one in before} - {one.pid for one in workers(here)})
        threads = here.sql(
            """SELECT coalesce(sum("threads" - coalesce(("figures" ->> 'threadsAlive')::int,
               "threads")), 0) FROM "WorkerProcess" WHERE "role" = 'worker'"""
        )[0][0]
    speed = seconds[False] / seconds[True]
    return [
        Figure("bad messages", faults, ""),
        *found,
        Figure("quarantined", float(quarantined), "", faults, gates=True),
        Figure("dead processes and threads", dead + threads, "", 0, at_most=True, gates=True),
        Figure("throughput beside clean", speed, "x", 0.9, gates=True),
    ]


def _mutants(rng: random.Random, count: int) -> Iterator[bytes]:
    """Bytes that no relay has signed, each different."""
    plain = {"v": 1, "job": "01a20000-0000-7000-8000-000000000000", "attempt": 0, "sig": "0" * 43}
    seen: set[bytes] = set()
    while len(seen) < count:
        n = len(seen)
        good = bytearray(json.dumps(plain | {"attempt": n}).encode())
        match rng.randrange(4):
            case 0:
                for _ in range(rng.randrange(1, 20)):
                    good[rng.randrange(len(good))] = rng.randrange(256)
            case 1:
                good = good[: rng.randrange(len(good))] + str(n).encode()
            case 2:
                good = bytearray(rng.randbytes(rng.randrange(8, 2_000)))
            case _:
                good = bytearray(json.dumps(plain | {"job": [n], "v": rng.random()}).encode())
        if bytes(good) not in seen:
            seen.add(bytes(good))
            yield bytes(good)


# name: what it does, jobs and faults by default
FAULTS: dict[str, tuple[Callable[[random.Random, int, int], list[Figure]], int, int]] = {
    "kills": (kills, 20_000, 500),
    "wipes": (wipes, 4_000, 20),
    "crashes": (crashes, 5_000, 20),
    "away": (away, 20_000, 60),
    "fuzz": (fuzz, 10_000, 10_000),
}


def main() -> None:
    """One fault or all, one after the other."""
    parser = harness.options(__doc__)
    parser.add_argument("fault", nargs="?", choices=[*FAULTS, "all"], default="all")
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--faults", type=int, help="how often, or for how many seconds")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    chosen = parser.parse_args()
    figures = []
    for name in FAULTS if chosen.fault == "all" else [chosen.fault]:
        do, jobs, faults = FAULTS[name]
        found = do(random.Random(chosen.seed), chosen.jobs or jobs, chosen.faults or faults)
        figures += [Figure(f"{name}: {one.name}", *_rest(one)) for one in found]
    harness.report(f"survive --seed {chosen.seed}", figures, as_json=chosen.json)


def _rest(one: Figure) -> tuple:
    return one.value, one.unit, one.bar, one.target, one.at_most, one.gates


if __name__ == "__main__":
    main()
