"""Half an hour of steady load: the rate and the price of a job stay, the tables do not bloat.

The queue is kept at one depth: what has been done is published anew, a third of each way in which
probes settle. Every minute tells what was done in it, the CPU of a job, and what the tables hold;
the last fifth of the minutes is compared with the first. The ledger itself grows, for nothing is
old enough for retention: its size is told by the job.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from shared import db
from shared.contracts import Probe
from shared.ids import TenantId
from shared.ledger.outbox import publish_many
from tests.benchmarks import harness
from tests.benchmarks.harness import Figure, World

QUEUE = Probe.queue_name
TENANTS = 10
PAGE = 500
MODES = ("group", "receipt", "statement")
FLAT_PERCENT = 20.0
MOVING = ("JobOutbox", "JobFlight")
TABLES = """
    SELECT s.relname, pg_relation_size(s.relid), pg_indexes_size(s.relid), s.n_live_tup,
           s.n_dead_tup, s.autovacuum_count
    FROM pg_stat_user_tables s
    WHERE s.relname IN ('Job', 'JobOutbox', 'JobFlight', 'JobEvent', 'JobStat')
    ORDER BY s.relname
"""
DONE = """SELECT "completed" FROM "JobStat" WHERE "job" = 'probe'"""


@dataclass(frozen=True)
class Table:
    """A table at one moment; sizes in bytes."""

    size: int
    indexes: int
    live: int
    dead: int
    vacuums: int


@dataclass(frozen=True)
class Minute:
    """What was done in a minute: jobs a second, CPU microseconds a job, and the tables after it."""

    per_s: float
    cpu_us: dict[str, float]
    tables: dict[str, Table]


class Load:
    """A publisher that keeps the queue at its depth."""

    def __init__(self, here: World, depth: int) -> None:
        self._here = here
        self._depth = depth
        self._published = 0

    def done(self) -> int:
        found = self._here.sql(DONE)
        return int(found[0][0]) if found else 0

    def run(self, seconds: float) -> Minute:
        """Keep the load up for so long."""
        began, before, done = time.monotonic(), self._here.cpu_s(), self.done()
        while time.monotonic() < began + seconds:
            if self._published - self.done() < self._depth:
                self._publish()
            else:
                time.sleep(0.01)
        took_s, count = time.monotonic() - began, self.done() - done
        assert count > 0, "nothing was done: is the relay alive?"
        used = harness.spent(before, self._here.cpu_s())
        cpu_us = {kind: 1e6 * spent / count for kind, spent in used.items()}
        tables = {name: Table(*rest) for name, *rest in self._here.sql(TABLES)}
        return Minute(count / took_s, cpu_us, tables)

    def _publish(self) -> None:
        tenant = TenantId(f"t{self._published // PAGE % TENANTS}")
        numbers = range(self._published, self._published + PAGE)
        with db.transaction(tenant) as conn:
            publish_many(conn, [Probe(n=n, mode=MODES[n % 3]) for n in numbers])
        self._published += PAGE


def figures(minutes: Sequence[Minute]) -> list[Figure]:
    """The first fifth beside the last, and the tables at the end."""
    part = max(1, len(minutes) // 5)
    first, last = minutes[:part], minutes[-part:]
    rates = [median(one.per_s for one in some) for some in (first, last)]
    prices = [median(sum(one.cpu_us.values()) for one in some) for some in (first, last)]
    found = [
        Figure("first minutes", rates[0], "jobs/s"),
        Figure("last minutes", rates[1], "jobs/s"),
        Figure("slower at the end", _slower(rates), "%", FLAT_PERCENT, at_most=True, gates=True),
        Figure("first minutes: CPU", prices[0], "us/job"),
        Figure("last minutes: CPU", prices[1], "us/job"),
    ]
    after, before = minutes[-1].tables, minutes[0].tables
    for name, table in after.items():
        found.append(Figure(f"{name}: table", table.size / 2**20, "MiB"))
        found.append(Figure(f"{name}: indexes", table.indexes / 2**20, "MiB"))
        found.append(Figure(f"{name}: dead rows", table.dead, ""))
        found.append(Figure(f"{name}: autovacuums", table.vacuums, ""))
    for name in MOVING:
        sizes = [some[name].size + some[name].indexes for some in (before, after)]
        found.append(Figure(f"{name}: grown since minute 1", sizes[1] / max(1, sizes[0]), "x"))
    return found


def _slower(rates: Sequence[float]) -> float:
    return max(0.0, 100 * (1 - rates[1] / rates[0]))


def main() -> None:
    """Minute after minute."""
    parser = harness.options(__doc__)
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--depth", type=int, default=2_000)
    chosen = parser.parse_args()
    with harness.world(tenants=TENANTS) as here:
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
        load = Load(here, chosen.depth)
        load.run(5.0)  # warm
        minutes = []
        for number in range(chosen.minutes):
            minutes.append(load.run(60.0))
            one = minutes[-1]
            price = sum(one.cpu_us.values())
            outbox = one.tables["JobOutbox"]
            told = f"minute {number + 1}: {one.per_s:,.0f} jobs/s, {price:,.0f} us/job"
            told += f", outbox {(outbox.size + outbox.indexes) / 2**20:.1f} MiB"
            print(f"{told}, {outbox.dead:,} dead rows", file=sys.stderr)
    harness.report("steady", figures(minutes), as_json=chosen.json)


if __name__ == "__main__":
    main()
