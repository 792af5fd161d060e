"""One tenant floods a queue, others go on; and rates and concurrency, held over all processes.

The flood is 100,000 probes of one tenant, each writing its row in a transaction of its own. While
it drains, another tenant publishes one job every 50 ms; "startedAt" - "dueAt" is Postgres's time
on both ends. The rates are counted over the seconds between the first and the last start.
"""

import threading
import time
from collections.abc import Callable

from producers.queries.ledger import job_limits, pauses
from producers.queries.ledger.job_limits import Limit
from producers.queries.ledger.pauses import Pause
from shared import db
from shared.contracts import Contract, Probe
from shared.db import Role
from shared.ids import TenantId
from shared.ledger.outbox import publish, publish_many
from tests.benchmarks import harness
from tests.benchmarks.harness import Figure, World
from tests.support import misbehaving_jobs

PROCESSES = 2
CONCURRENCY = 5
RATE, COST = 200.0, 30
PAGE = 1_000


def publish_all(tenant: str, count: int, make: Callable[[int], Contract]) -> None:
    """Publish many jobs of one tenant, a thousand in a transaction."""
    for start in range(0, count, PAGE):
        jobs = [make(n) for n in range(start, min(count, start + PAGE))]
        with db.transaction(TenantId(tenant)) as conn:
            publish_many(conn, jobs)


def waits_of_the_small_s(here: World, seconds: float, flood: int) -> list[float]:
    """How long jobs of a small tenant wait while another's flood drains, sorted."""
    hold = Pause(None, TenantId("t0"), None)
    with db.transaction(None, role=Role.RELAY) as conn:
        pauses.put(conn, hold, held_by="the benchmark")
    publish_all("t0", flood, lambda n: Probe(n=n, mode="statement"))
    with db.transaction(None, role=Role.RELAY) as conn:
        pauses.delete(conn, hold)
    end, n = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        with db.transaction(TenantId("t1")) as conn:
            publish(conn, Probe(n=n, mode="statement"))
        n += 1
        time.sleep(0.05)
    still = here.sql("""SELECT count(*) FROM "JobOutbox" WHERE "tenantId" = 't0'""")[0][0]
    assert still, "the flood is over before the measurement is: give it more jobs"
    waits = """SELECT extract(epoch FROM "startedAt" - "dueAt")::float8 FROM "Job"
               WHERE "tenantId" = 't1' AND "startedAt" IS NOT NULL ORDER BY 1"""
    harness.until(lambda: len(here.sql(waits)) == n, "the small tenant's jobs")
    return [row[0] for row in here.sql(waits)]


def set_limit(**fields: object) -> None:
    """Set one limit of the kind `keyed` of tenant t2, t3 or t4."""
    plain: dict[str, object] = {"id": "", "tier": None, "job": "keyed", "per_key": False}
    plain |= {"concurrency_max": None, "rate_per_s": None, "burst": 1.0, "unit": "jobs"}
    with db.transaction(None, role=Role.RELAY) as conn:
        job_limits.put(conn, Limit(**(plain | fields)))  # type: ignore[arg-type]


def rate_of(here: World, tenant: str, seconds: float) -> float:
    """Starts a second over the given time, the first half second left out."""
    time.sleep(seconds)
    started = """SELECT count(*), extract(epoch FROM max("startedAt") - min("startedAt"))::float8
        FROM "Job" WHERE "tenantId" = %s AND "startedAt" >= (
            SELECT min("startedAt") + interval '500 milliseconds' FROM "Job" WHERE "tenantId" = %s)
        """
    [(count, took)] = here.sql(started, tenant, tenant)
    return (count - 1) / took


def most_at_once(here: World, tenant: str) -> int:
    """The most jobs of a tenant that ran at the same moment, by their own times."""
    moments = here.sql(
        """SELECT max("n") FROM (SELECT sum("by") OVER (ORDER BY "at", "by") AS "n" FROM (
               SELECT "startedAt" AS "at", 1 AS "by" FROM "Job" WHERE "tenantId" = %s
               UNION ALL
               SELECT "finishedAt", -1 FROM "Job" WHERE "tenantId" = %s) m) s""",
        tenant,
        tenant,
    )
    return int(moments[0][0])


def main() -> None:
    """Flood, then limits."""
    parser = harness.options(__doc__)
    parser.add_argument("--flood", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=15.0)
    chosen = parser.parse_args()
    with harness.world(tenants=5, AILYDIAN_PLUGINS=misbehaving_jobs.__name__) as here:
        here.start("relay", "tests.benchmarks.relay_role")
        here.start("relay", "tests.benchmarks.relay_role")
        here.start("workers", "workers.process.supervisor", "--processes", str(PROCESSES))
        alive = """SELECT count(*) FROM "WorkerProcess" WHERE "role" = 'worker'"""
        harness.until(lambda: here.sql(alive) == [(PROCESSES,)], "workers")
        set_limit(tenant_id="t2", rate_per_s=RATE)
        set_limit(tenant_id="t3", rate_per_s=RATE * COST, unit="cost")
        set_limit(tenant_id="t4", concurrency_max=CONCURRENCY)
        rates: dict[str, float] = {}
        for tenant in ("t2", "t3"):
            publish_all(
                tenant,
                int(RATE * chosen.seconds * 2),
                lambda n: misbehaving_jobs.Keyed(n=n, weight=COST),
            )
        watchers = [
            threading.Thread(target=lambda t=t: rates.update({t: rate_of(here, t, chosen.seconds)}))
            for t in ("t2", "t3")
        ]
        for one in watchers:
            one.start()
        for one in watchers:
            one.join()
        publish_all("t4", 2_000, lambda n: misbehaving_jobs.Keyed(n=n))
        done = """SELECT count(*) FROM "Job" WHERE "tenantId" = 't4' AND "state" = 'COMPLETED'"""
        harness.until(lambda: here.sql(done) == [(2_000,)], "concurrency")
        together = most_at_once(here, "t4")
        waits = waits_of_the_small_s(here, chosen.seconds, chosen.flood)
    p50, p99 = waits[len(waits) // 2], waits[int(0.99 * (len(waits) - 1))]
    off = {tenant: abs(rate / RATE - 1) * 100 for tenant, rate in rates.items()}
    figures = [
        Figure("wait beside a flood, p50", p50 * 1e3, "ms"),
        Figure("wait beside a flood, p99", p99 * 1e3, "ms", 2_000, at_most=True, gates=True),
        Figure("rate by count", rates["t2"], "/s"),
        Figure("off its limit", off["t2"], "%", 2, at_most=True, gates=True),
        Figure("rate by cost", rates["t3"] * COST, "/s"),
        Figure("off its limit", off["t3"], "%", 2, at_most=True, gates=True),
        Figure("most at once", together, "jobs", CONCURRENCY, at_most=True, gates=True),
    ]
    harness.report("fair", figures, as_json=chosen.json)


if __name__ == "__main__":
    main()
