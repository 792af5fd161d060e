"""5,000 runs of 8 steps while workers are killed 200 times and Postgres 20 times.

Each step works for a moment, then writes one row in the transaction of its transition. All is right
when every run has completed with the output that its input asks for, and every step of every run
has its row, once. A step that three workers have died of is not tried a fourth time: its run
fails, and an operator's `retry` is the answer here as it is in production; how many needed one is
told. The faults come at random moments; `--seed` repeats them, as far as a machine repeats itself.
Runs are started all the while, so that every fault meets work.
"""

import contextlib
import os
import random
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from producers.workflow import workflows
from shared import db
from shared.errors import ServerUnavailable
from shared.ids import RunId, TenantId
from shared.servers import embedded
from tests.benchmarks import harness, survive, workflow_functions, workflow_texts
from tests.benchmarks.harness import Figure, World

TENANTS = 4
STEPS = 8
NAP_MS = 40.0
NAME = "survivor"
OPEN = """SELECT count(*) FROM "WorkflowRun"
          WHERE "state" NOT IN ('completed', 'failed', 'cancelled')"""
WRONG = """SELECT count(*) FROM "WorkflowRun" WHERE "state" <> 'completed'
           OR "output" -> 'n' IS DISTINCT FROM to_jsonb(15 * ("input" ->> 'n')::int + 30)"""
UNDONE = """SELECT count(*), "state", "error" FROM "WorkflowRun" WHERE "state" <> 'completed'
            GROUP BY 2, 3 ORDER BY 1 DESC LIMIT 10"""
POISONED = """SELECT "tenantId", "id" FROM "WorkflowRun"
              WHERE "state" = 'failed' AND "error" LIKE 'The worker process died%'"""
EFFECTS = """SELECT count(*), count(DISTINCT "jobId") FROM "ProbeEntry" """
WITHOUT = """SELECT count(*) FROM "WorkflowStep" s WHERE NOT EXISTS (
             SELECT FROM "ProbeEntry" p WHERE p."jobId" = s."id") AND s."stepName" <> 'outputs'"""


@dataclass(frozen=True)
class Survived:
    """What was done to the plant, and what became of the runs."""

    kills: int
    crashes: int
    open_at_last: int
    runs: int
    retried: int
    wrong: int
    effects: int
    doubled: int
    without: int


@contextmanager
def plant(*, processes: int, lease_s: float) -> Iterator[World]:
    """Servers, a relay and workers."""
    with harness.world(tenants=TENANTS, AILYDIAN_PLUGINS=workflow_functions.__name__) as here:
        here.environment |= {"AILYDIAN_LOG_LEVEL": "error", "AILYDIAN_LEASE_S": str(lease_s)}
        relay = here.start("relay", "tests.benchmarks.relay_role")
        queue = ["--queue", "workflow", "--processes", str(processes)]
        supervisor = here.start("workers", "workers.process.supervisor", *queue)
        harness.until(lambda: len(survive.workers(here)) == processes, "workers")
        for number in range(TENANTS):
            with db.transaction(TenantId(f"t{number}")) as conn:
                workflows.put(conn, workflow_texts.diamond(NAME))
        yield here
        here.stop("workers", supervisor)
        here.stop("relay", relay)


def start(number: int) -> None:
    """Start a run, however long Postgres needs to answer; its key makes a second try the same."""
    while True:
        try:
            with db.transaction(TenantId(f"t{number % TENANTS}")) as conn:
                given = {"n": number, "nap_ms": NAP_MS}
                workflows.start(conn, NAME, given, key=f"run {number}")
        except ServerUnavailable:
            time.sleep(0.1)
        else:
            return


def flow(runs: int, seconds: float) -> threading.Thread:
    """Start runs at an even pace, beside whatever else happens."""

    def run() -> None:
        began = time.monotonic()
        for number in range(runs):
            start(number)
            time.sleep(max(0.0, began + seconds * number / runs - time.monotonic()))

    thread = threading.Thread(target=run, name="starter")
    thread.start()
    return thread


def ask(here: World, statement: str) -> list[tuple]:
    """Ask Postgres, and again while it is away."""
    while True:
        try:
            with db.transaction(None, role=db.Role.OWNER) as conn:
                return conn.execute(statement.encode()).fetchall()
        except ServerUnavailable:
            time.sleep(0.1)


def crash(here: World) -> None:
    """Stop Postgres as by `pg_ctl stop -m immediate`, and start it again."""
    postmaster = harness.pid_in(here.home / "postgres" / "postmaster.pid")
    watched = os.pidfd_open(postmaster)
    os.kill(postmaster, signal.SIGQUIT)
    assert select.select([watched], [], [], 60)[0], "Postgres did not end"
    os.close(watched)
    # Not `embedded_postgres.start`: a new worker may be about to start it too, under its lock.
    with embedded.use(here.config):
        pass


def kill(here: World, rng: random.Random, killed: set[int]) -> bool:
    """kill -9 of a worker that has registered itself. Returns whether there was one."""
    registered = {row[0] for row in ask(here, 'SELECT "pid" FROM "WorkerProcess"')}
    with contextlib.suppress(psutil.NoSuchProcess):  # one has ended while we looked
        victims = [one for one in survive.workers(here) if one.pid in registered - killed]
        if victims:
            victim = rng.choice(victims)
            victim.kill()
            killed.add(victim.pid)
            return True
    return False


def finish(here: World) -> int:
    """See the last run end, those that were buried with their workers retried. Returns how many."""
    harness.until(lambda: ask(here, OPEN) == [(0,)], "the last run", every_s=0.5)
    poisoned = ask(here, POISONED)
    for tenant_id, run_id in poisoned:
        with db.transaction(TenantId(tenant_id)) as conn:
            workflows.retry(conn, RunId(run_id))
    harness.until(lambda: ask(here, OPEN) == [(0,)], "the retried", every_s=0.5)
    return len(poisoned)


def survived(
    rng: random.Random, *, runs: int, kills: int, crashes: int, lease_s: float = 30.0
) -> Survived:
    """Break it so often, wait for the last run, and count."""
    faults = ["kill"] * kills + ["crash"] * crashes
    rng.shuffle(faults)
    killed: set[int] = set()
    with plant(processes=4, lease_s=lease_s) as here:
        starter = flow(runs, 0.5 * kills + 4.0 * crashes)
        for fault in faults:
            time.sleep(rng.expovariate(2.0))
            if fault == "crash":
                crash(here)
            while fault == "kill" and not kill(here, rng, killed):
                time.sleep(0.05)
        [(still,)] = ask(here, OPEN)
        starter.join()
        retried = finish(here)
        [(count,)] = ask(here, 'SELECT count(*) FROM "WorkflowRun"')
        [(wrong,)], [(without,)] = ask(here, WRONG), ask(here, WITHOUT)
        [(effects, once)] = ask(here, EFFECTS)
        for told in ask(here, UNDONE):
            print(*told, file=sys.stderr)
    doubled = effects - once
    return Survived(len(killed), crashes, still, count, retried, wrong, effects, doubled, without)


def main() -> None:
    """The large form."""
    parser = harness.options(__doc__)
    parser.add_argument("--runs", type=int, default=5_000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--crashes", type=int, default=20, help="of Postgres")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    chosen = parser.parse_args()
    rng, began = random.Random(chosen.seed), time.monotonic()
    found = survived(rng, runs=chosen.runs, kills=chosen.kills, crashes=chosen.crashes)
    lost = chosen.runs * STEPS - found.effects + found.doubled
    figures = [
        Figure("kill -9", found.kills, "workers"),
        Figure("Postgres stopped immediate", found.crashes, "times"),
        Figure("took", time.monotonic() - began, "s"),
        Figure("runs open at the last fault", found.open_at_last, ""),
        Figure("runs", found.runs, "", chosen.runs, gates=True),
        Figure("failed for a third crash, then retried", found.retried, ""),
        Figure("not completed, or with another output", found.wrong, "", 0, None, True, True),
        Figure("effects", found.effects, ""),
        Figure("lost", max(lost, found.without), "effects", 0, at_most=True, gates=True),
        Figure("doubled", found.doubled, "effects", 0, at_most=True, gates=True),
    ]
    harness.report(f"workflow-survive --seed {chosen.seed}", figures, as_json=chosen.json)


if __name__ == "__main__":
    main()
