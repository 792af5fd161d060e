"""Drain queues of 1,000 to 1,000,000 jobs: the rate stays; and what a wiped Redis costs then.

The queue is held, filled to its depth by INSERT ... SELECT, and let go; the clock is that of the
events, from the first start of a job to the last end of those measured. A queue of fewer jobs
than are measured is filled again and again. At the deepest, Redis is wiped under load: the rate
is back when a second has seen nine tenths of what was done a second before.
"""

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import redis

from producers.ledger.relay import RULES_EVERY_S
from shared import db
from shared.contracts import Probe
from shared.db import Role
from tests.benchmarks import harness
from tests.benchmarks.harness import Figure, World

QUEUE = Probe.queue_name
TENANTS = 10
FILL = 50_000
FLAT_PERCENT = 20.0
BACK_S, BACK_PART = 10.0, 0.9

HOLD = """
    INSERT INTO "JobHold" ("queue", "heldBy") VALUES (%s, 'the benchmark') ON CONFLICT DO NOTHING
"""
LET_GO = """
    DELETE FROM "JobHold" WHERE "queue" = %s
    RETURNING pg_current_xact_id()::text, pg_notify('ailydian_outbox', '')
"""
PUBLISH = """
    INSERT INTO "Job" ("tenantId", "job", "queue", "payload", "key", "attemptsMax")
    SELECT 't' || g %% %s, 'probe', %s, jsonb_build_object('n', g), 'flat:' || g, 8
    FROM generate_series(%s::int, %s::int) g
"""
# Each ending tells its time, and how long before it the attempt began.
TOOK = """
    WITH ends AS (
        SELECT "at", "at" - "tookS" * interval '1 second' AS "began",
               row_number() OVER (ORDER BY "at") AS "n"
        FROM "JobEvent" WHERE "xid" >= %s::text::xid8 AND "what" = 'COMPLETED'
    )
    SELECT extract(epoch FROM max("at") FILTER (WHERE "n" = %s) - min("began"))::float8, max("n")
    FROM ends
"""
PER_SECOND = """
    SELECT count(*) FILTER (WHERE "at" > now() - interval '1 second') FROM "JobEvent"
    WHERE "xid" >= %s::text::xid8 AND "what" = 'COMPLETED'
"""


@dataclass(frozen=True)
class Drained:
    """How a queue of one depth was drained: jobs a second, and CPU microseconds a job."""

    depth: int
    per_s: float
    cpu_us: dict[str, float]


class Bench:
    """A held queue, and how many jobs were ever put into it."""

    def __init__(self, here: World) -> None:
        self._here = here
        self._number = 0

    def hold(self) -> None:
        """Pause the queue and wait until nothing is in flight."""
        self._here.sql(HOLD, QUEUE)
        time.sleep(2 * RULES_EVERY_S)  # so long the relay may go by what it knew
        harness.until(
            lambda: self._here.sql('SELECT count(*) FROM "JobFlight"') == [(0,)], "the hold"
        )

    def let_go(self) -> str:
        """Resume. Returns the transaction that did."""
        return str(self._here.sql(LET_GO, QUEUE)[0][0])

    def fill(self, depth: int) -> None:
        """Let so many jobs wait, whatever waits already."""
        waiting = self._here.sql('SELECT count(*) FROM "JobOutbox"')[0][0]
        assert waiting <= depth, f"{waiting} jobs wait already"
        while waiting < depth:
            count = min(FILL, depth - waiting)
            first = self._number + 1
            self._number += count
            self._here.sql(PUBLISH, TENANTS, QUEUE, first, self._number)
            waiting += count
        tables = '"Job", "JobOutbox", "JobFlight", "JobEvent"'
        harness.owner_sql(self._here.database_url, f"VACUUM ANALYZE {tables}")
        harness.owner_sql(self._here.database_url, "CHECKPOINT")

    def drain(self, depth: int, jobs: int) -> Drained:
        """Drain so many jobs of a queue of this depth, in as many rounds as it takes."""
        took_s = counted = 0.0
        cpu_s: dict[str, float] = {}
        part, rounds = min(jobs, depth), max(1, math.ceil(jobs / depth))
        for _ in range(rounds):
            self.hold()
            self.fill(depth)
            before, wanted = self._here.cpu_s(), self.done() + part
            started = self.let_go()
            harness.until(partial(self._reached, wanted), "the drain", every_s=0.02)
            used = harness.spent(before, self._here.cpu_s())
            [(seconds, seen)] = self._here.sql(TOOK, started, part)
            took_s += seconds
            counted += seen
            cpu_s = {kind: cpu_s.get(kind, 0.0) + one for kind, one in used.items()}
        cpu_us = {kind: 1e6 * one / counted for kind, one in cpu_s.items()}
        return Drained(depth, part * rounds / took_s, cpu_us)

    def _reached(self, wanted: int) -> bool:
        return self.done() >= wanted

    def done(self) -> int:
        """How many probes the relay has counted as completed."""
        found = self._here.sql("""SELECT "completed" FROM "JobStat" WHERE "job" = 'probe'""")
        return int(found[0][0]) if found else 0

    def wipe(self, depth: int) -> float:
        """Wipe Redis under load. Returns after how many seconds the rate was back."""
        self.hold()
        self.fill(depth)
        started = self.let_go()
        warm = time.monotonic() + 4.0
        harness.until(lambda: time.monotonic() > warm, "the load", every_s=0.1)
        rate = self._here.sql(PER_SECOND, started)[0][0]
        with redis.Redis.from_url(self._here.redis_url) as client:
            client.flushall()
        wiped = time.monotonic()
        # The second that is looked at has to lie behind the wipe.
        harness.until(lambda: time.monotonic() > wiped + 1.0, "a second", every_s=0.05)
        harness.until(
            lambda: self._here.sql(PER_SECOND, started)[0][0] >= BACK_PART * rate, "the rate"
        )
        return time.monotonic() - wiped

    def empty(self) -> None:
        """Forget everything, for another round."""
        self.hold()
        tables = '"Job", "JobOutbox", "JobFlight", "JobEvent", "JobAttempt", "DeadLetter"'
        with db.transaction(None, role=Role.OWNER) as conn:
            conn.execute(f"TRUNCATE {tables}".encode())


def figures(rounds: Sequence[Sequence[Drained]], back_s: Sequence[float]) -> list[Figure]:
    """Medians of the rounds; the spread is that of the medians."""
    found, rates = [], []
    for of_depth in zip(*rounds, strict=True):
        rate = median(one.per_s for one in of_depth)
        rates.append(rate)
        name = f"{of_depth[0].depth:,} jobs"
        found.append(Figure(f"{name}: drain", rate, "jobs/s"))
        for kind in ("workers", "postgres", "relay"):
            us = median(one.cpu_us.get(kind, 0.0) for one in of_depth)
            found.append(Figure(f"{name}: CPU of {kind}", us, "us/job"))
    spread = 100 * (1 - min(rates) / max(rates))
    found.append(
        Figure("slowest below fastest", spread, "%", FLAT_PERCENT, at_most=True, gates=True)
    )
    if back_s:
        found.append(
            Figure("back after a wipe", median(back_s), "s", BACK_S, at_most=True, gates=True)
        )
    return found


def main() -> None:
    """Every depth, then the wipe."""
    parser = harness.options(__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--depth", type=int, action="append", help="default: 1,000 to 1,000,000")
    parser.add_argument("--no-wipe", action="store_true")
    chosen = parser.parse_args()
    depths = sorted(chosen.depth or [1_000, 10_000, 100_000, 1_000_000])
    rounds: list[list[Drained]] = []
    back_s: list[float] = []
    with harness.world(tenants=TENANTS) as here:
        bench = Bench(here)
        here.start("relay", "tests.benchmarks.relay_role")
        here.start(
            "workers",
            "workers.process.supervisor",
            "--processes",
            "2",
            "--threads",
            "8",
            "--queue",
            QUEUE,
        )
        alive = """SELECT count(*) FROM "WorkerProcess" WHERE "role" = 'worker'"""
        harness.until(lambda: here.sql(alive) == [(2,)], "our workers")
        bench.drain(1_000, 3_000)  # warm
        for number in range(chosen.rounds):
            rounds.append([])
            for depth in depths:
                rounds[-1].append(bench.drain(depth, chosen.jobs))
                one = rounds[-1][-1]
                us = ", ".join(f"{kind} {spent:,.0f}" for kind, spent in one.cpu_us.items())
                told = f"round {number + 1}: {depth:,}: {one.per_s:,.0f} jobs/s; us/job: {us}"
                print(told, file=sys.stderr)
            if not chosen.no_wipe:
                back_s.append(bench.wipe(depths[-1]))
            bench.empty()
    harness.report("flat", figures(rounds, back_s), as_json=chosen.json)


if __name__ == "__main__":
    main()
