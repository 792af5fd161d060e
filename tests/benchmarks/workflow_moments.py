"""Single moments of ours: the first step after silence, a killed worker, ten thousand timers."""

import itertools
import os
import random
import signal
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from tests.benchmarks import harness, workflow_texts
from tests.benchmarks.harness import Figure, World
from tests.benchmarks.workflow_ours import OPEN, Ours
from tests.benchmarks.workflow_sides import PROCESSES, percentile

TIMERS, A_RUN = 10_000, 100
KEPT_S, LONG_S = 1.5, 45.0
OUTPUT = """SELECT "output" FROM "WorkflowStep" WHERE "runId" = %s AND "state" = 'completed'"""
DONE = """SELECT 1 FROM "WorkflowRun" WHERE "id" = %s AND "state" = 'completed'"""
LATE = """
    SELECT extract(epoch FROM s."completedAt" AT TIME ZONE 'UTC')::float8, r."input" ->> 'until'
    FROM "WorkflowStep" s JOIN "WorkflowRun" r ON r."id" = s."runId"
    JOIN "Workflow" w ON w."id" = r."workflowId" WHERE w."name" = %s AND s."state" = 'completed'
"""


def idle(here: World, times: int, idle_s: float) -> list[Figure]:
    """From the start of a run to the first line of its first step, after a silence."""
    ours, took = Ours(here), []
    with ours.at_work(processes=PROCESSES):
        name = ours.name("clock")
        ours.put(name, workflow_texts.clock(name))
        for _ in range(times):
            time.sleep(idle_s)
            began = time.time()
            run_id = ours.start(name)
            harness.until(lambda: ours.sql(OUTPUT, run_id) != [], "the step")  # noqa: B023
            took.append(1e3 * (float(ours.sql(OUTPUT, run_id)[0][0]) - began))
    took.sort()
    p99 = percentile(took, 0.99)
    return [
        Figure(f"first step after {idle_s:g} s, p50", median(took), "ms"),
        Figure(f"first step after {idle_s:g} s, p99", p99, "ms", 25, at_most=True, gates=True),
        Figure(f"first step after {idle_s:g} s, of", len(took), "runs"),
    ]


@dataclass(frozen=True)
class Line:
    """What a watched step said of itself."""

    run: str
    step: str
    pid: int
    at: float
    what: str


def lines(log: Path) -> list[Line]:
    """All that watched steps have said so far."""
    found = (line.split() for line in log.read_text().splitlines())
    return [Line(run, step, int(pid), float(at), what) for run, step, pid, at, what in found]


def kill(here: World, kills: int) -> list[Figure]:
    """kill -9 of the worker inside a step, again and again; steps that outlast a lease beside it.

    Those may be hit as well, and one that three workers have died of is buried: that is the rule.
    A step is done twice if it begins while another beginning of it has neither ended nor lost its
    process.
    """
    ours, rng, log = Ours(here), random.Random(4), here.home / "watched"
    log.touch(mode=0o666)
    killed: dict[int, float] = {}
    with ours.at_work(processes=PROCESSES):
        name = ours.name("watched")
        ours.put(name, workflow_texts.watched(name))
        long = [ours.start(name, {"log": str(log), "seconds": LONG_S}) for _ in range(3)]
        waits = []
        for _ in range(kills):
            run_id = ours.start(name, {"log": str(log), "seconds": KEPT_S})
            pid = _begun(log, run_id, 1)[0].pid
            time.sleep(rng.uniform(0.05, 0.5))
            os.kill(pid, signal.SIGKILL)
            killed[pid] = time.time()
            waits.append(_begun(log, run_id, 2)[1].at - killed[pid])
            harness.until(lambda: ours.sql(DONE, run_id) != [], "the run")  # noqa: B023
        harness.until(lambda: ours.sql(OPEN) == [(0,)], "the last run", every_s=0.2)
        buried = sum(ours.sql(DONE, one) == [] for one in long)
    waits.sort()
    p99 = percentile(waits, 0.99)
    return [
        Figure("kill -9 inside a step", len(waits), "workers"),
        Figure("another takes over, p50", median(waits), "s"),
        Figure("another takes over, p99", p99, "s", 10, at_most=True, gates=True),
        Figure("slowest", waits[-1], "s"),
        Figure(f"steps of {LONG_S:g} s beside", len(long), ""),
        Figure("of them buried for a third crash", buried, ""),
        Figure("done twice", doubles(lines(log), killed), "steps", 0, at_most=True, gates=True),
    ]


def _begun(log: Path, run_id: str, times: int) -> list[Line]:
    def found() -> list[Line]:
        return [one for one in lines(log) if one.run == run_id and one.what == "begins"]

    harness.until(lambda: len(found()) >= times, f"beginning {times}", every_s=0.01)
    return found()


def doubles(said: list[Line], killed: dict[int, float]) -> int:
    """How often a step began although someone alive was doing it, or had done it."""
    by_step = defaultdict(list)
    for one in said:
        by_step[one.step].append(one)
    count = 0
    for of_step in by_step.values():
        begun = [one for one in of_step if one.what == "begins"]
        count += sum(
            not killed.get(before.pid, float("inf")) < after.at
            for before, after in itertools.pairwise(begun)
        )
    return count


def timers(here: World, count: int) -> list[Figure]:
    """Sleeping steps that are due within one second: how late each ended."""
    ours = Ours(here)
    with ours.at_work(processes=PROCESSES):
        name, runs = ours.name("timers"), count // A_RUN
        ours.put(name, workflow_texts.timers(name, A_RUN))
        # All must sleep before the first is due.
        first = datetime.now(UTC) + timedelta(seconds=20 + count / 500)
        for number in range(runs):
            until = first + timedelta(seconds=number / runs)
            ours.start(name, {"until": until.isoformat()})
        waiting = """SELECT count(*) FROM "WorkflowStep" WHERE "state" = 'waiting'"""
        harness.until(lambda: ours.sql(waiting) == [(count,)], "all timers", every_s=0.2)
        assert datetime.now(UTC) < first, "some were due before all slept"
        time.sleep((first - datetime.now(UTC)).total_seconds())
        harness.until(lambda: ours.sql(OPEN) == [(0,)], "the last timer", every_s=0.2)
        late = sorted(
            at - datetime.fromisoformat(until).timestamp() for at, until in ours.sql(LATE, name)
        )
    return [
        Figure("timers due in one second", len(late), "", count),
        Figure("the earliest", late[0], "s late", 0.0),
        Figure("late, p50", median(late), "s"),
        Figure("late, the last", late[-1], "s", 2, at_most=True, gates=True),
    ]
