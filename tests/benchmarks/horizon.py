"""A steady load beside transactions that hold the horizon of vacuum back.

Jobs are published at one rate through four phases: nothing else is open; a writer leaves its
transaction open; four readers at REPEATABLE READ join it; all have ended. Dead rows cannot be
removed meanwhile, and events must be told all the same. Each phase tells what was done of what was
offered, the CPU of a job, and how late a follower of events saw its end.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import quantiles

import psycopg

from producers.ledger import live_events
from shared import db
from shared.contracts import Probe
from shared.ids import TenantId
from shared.ledger.outbox import publish_many
from tests.benchmarks import harness
from tests.benchmarks.harness import Figure, World

QUEUE = Probe.queue_name
TENANTS = 10
PAGE = 50
READERS = 4
DONE_PERCENT, CPU_TIMES, TOLD_S = 99.0, 1.4, 1.0
# The phases, and their parts of the whole time.
PHASES = {"clean": 0.1, "writer": 0.4, "readers": 0.4, "after": 0.1}
DEAD = """
    SELECT coalesce(sum(n_dead_tup), 0)::bigint FROM pg_stat_user_tables
    WHERE relname IN ('Job', 'JobOutbox', 'JobFlight', 'JobStat', 'EventCursor')
"""


@dataclass(frozen=True)
class Phase:
    """What was offered and done in a phase, the CPU of a job by kind, delays, dead rows.

    A job counts as done when a follower was told of its end.
    """

    offered: int
    done: int
    seconds: float
    cpu_us: dict[str, float]
    told_s: list[float]
    dead: int


@dataclass
class Load:
    """A publisher at one rate, and a follower that notes how late it sees each end."""

    here: World
    rate: int
    mode: str
    offered: int = 0
    told: list[float] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Publish and follow until the block ends."""
        threads = [threading.Thread(target=one) for one in (self._publish, self._follow)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stop.set()
            for thread in threads:
                thread.join()

    def phase(self, seconds: float) -> Phase:
        """Measure so many seconds."""
        began, before = time.monotonic(), self.here.cpu_s()
        offered, done = self.offered, len(self.told)
        time.sleep(seconds)
        took_s, used = time.monotonic() - began, harness.spent(before, self.here.cpu_s())
        offered, delays = self.offered - offered, self.told[done:]
        cpu_us = {kind: 1e6 * spent / max(1, len(delays)) for kind, spent in used.items()}
        return Phase(offered, len(delays), took_s, cpu_us, delays, int(self.here.sql(DEAD)[0][0]))

    def _publish(self) -> None:
        began = time.monotonic()
        while not self.stop.wait(0.005):
            due = int((time.monotonic() - began) * self.rate) - self.offered
            while due >= PAGE:
                tenant = TenantId(f"t{self.offered // PAGE % TENANTS}")
                numbers = range(self.offered, self.offered + PAGE)
                with db.transaction(tenant) as conn:
                    publish_many(conn, [Probe(n=n, mode=self.mode) for n in numbers])
                self.offered += PAGE
                due -= PAGE

    def _follow(self) -> None:
        events = live_events.follow(listen_url=self.here.database_url, stop=self.stop)
        for event in events:
            self.told.append((datetime.now(UTC) - event.at).total_seconds())


def _writer(stack: ExitStack, here: World) -> None:
    """Leave a transaction open that has written."""
    conn = stack.enter_context(psycopg.connect(here.database_url))
    conn.execute("CREATE TEMPORARY TABLE held (n int)")


def _readers(stack: ExitStack, here: World) -> None:
    """Leave transactions open that see one moment, as a dump does."""
    for _ in range(READERS):
        conn = stack.enter_context(psycopg.connect(here.database_url))
        conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        conn.execute("SELECT 1")


def measure(load: Load, seconds: float) -> dict[str, Phase]:
    """Go through the phases."""
    found = {}
    opening = {"writer": _writer, "readers": _readers}
    with ExitStack() as stack:
        for name, part in PHASES.items():
            if name == "after":
                stack.close()
            elif name in opening:
                opening[name](stack, load.here)
            found[name] = load.phase(seconds * part)
            one = found[name]
            price = ", ".join(f"{kind} {used:,.0f}" for kind, used in one.cpu_us.items())
            told = f"{name}: {one.done / one.seconds:,.0f} jobs/s, CPU us a job: {price}"
            print(f"{told}; {one.dead:,} dead rows", file=sys.stderr)
    return found


def figures(phases: dict[str, Phase]) -> list[Figure]:
    """Each phase beside the clean one."""
    found = []
    clean = sum(phases["clean"].cpu_us.values())
    for name, one in phases.items():
        price = sum(one.cpu_us.values())
        late = quantiles(one.told_s, n=100)[98] if len(one.told_s) > 1 else one.seconds
        share = 100 * min(1.0, one.done / max(1, one.offered))
        found += [
            Figure(f"{name}: offered", one.offered / one.seconds, "jobs/s"),
            Figure(f"{name}: done of offered", share, "%", DONE_PERCENT, gates=True),
            Figure(f"{name}: told, p99", late, "s", TOLD_S, at_most=True, gates=True),
            Figure(f"{name}: told, latest", max(one.told_s, default=one.seconds), "s"),
            Figure(f"{name}: CPU", price, "us/job"),
            Figure(
                f"{name}: CPU of clean",
                price / clean,
                "x",
                CPU_TIMES,
                at_most=True,
                gates=name != "clean",
            ),
            Figure(f"{name}: dead rows", one.dead, ""),
        ]
    return found


def main() -> None:
    """Phase after phase."""
    parser = harness.options(__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="all phases together")
    parser.add_argument("--seconds", type=float, help="the same, instead of minutes")
    parser.add_argument("--rate", type=int, default=1_000, help="jobs offered a second")
    parser.add_argument("--mode", default="group", help="how the probes settle")
    chosen = parser.parse_args()
    with harness.world(tenants=TENANTS) as here:
        here.start("relay", "tests.benchmarks.relay_role")
        supervisor = ("workers.process.supervisor", "--processes", "2", "--threads", "8")
        here.start("workers", *supervisor, "--queue", QUEUE)
        harness.until(lambda: here.sql(harness.WORKERS) == [(2,)], "our workers")
        load = Load(here, chosen.rate, chosen.mode)
        with load.running():
            load.phase(5.0)  # warm
            phases = measure(load, chosen.seconds or chosen.minutes * 60)
    harness.report("horizon", figures(phases), as_json=chosen.json)


if __name__ == "__main__":
    main()
