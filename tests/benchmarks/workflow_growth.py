"""What a step costs in a large run: a chain and a graph of 10,000 steps, a graph of 100,000.

A tenth is a tenth of the steps in the order in which they ended. CPU a step is that of everything,
beside a drain of 10-step runs with as many steps in the same session; the start of a run is not
counted in either, its first wake-up is.
"""

import random
import time
from statistics import median
from typing import Any

from tests.benchmarks import harness, workflow_texts
from tests.benchmarks.harness import Figure, World
from tests.benchmarks.workflow_ours import Ours
from tests.benchmarks.workflow_sides import PROCESSES

LARGE, HUGE = 10_000, 100_000
TENTHS = """
    SELECT extract(epoch FROM max("at"))::float8 FROM (
        SELECT s."completedAt" AS "at",
               ntile(10) OVER (ORDER BY s."completedAt", s."position") AS "tenth"
        FROM "WorkflowStep" s WHERE s."runId" = %s AND s."position" IS NOT NULL) t
    GROUP BY "tenth" ORDER BY "tenth"
"""
BEGAN = """SELECT extract(epoch FROM min("startedAt"))::float8 FROM "WorkflowStep"
           WHERE "runId" = %s"""
STATE = 'SELECT "state" FROM "WorkflowRun" WHERE "id" = %s'


class Grown:
    """One large run: how long its tenths took, and what a step cost."""

    def __init__(self, tenths_s: list[float], cpu_ms: float, wall_s: float) -> None:
        self.last_to_first = tenths_s[-1] / tenths_s[0]
        self.cpu_ms = cpu_ms
        self.wall_s = wall_s


def grown(ours: Ours, text: str, name: str, steps: int) -> Grown:
    """Start a run and see it through."""
    ours.put(name, text)
    before, began = ours.here.cpu_s(), time.monotonic()
    run_id = ours.start(name)
    started_s = sum(harness.spent(before, ours.here.cpu_s()).values())
    harness.until(lambda: _state(ours, run_id) != "running", f"{steps:,} steps", every_s=0.2)
    wall_s = time.monotonic() - began
    used_s = sum(harness.spent(before, ours.here.cpu_s()).values()) - started_s
    assert _state(ours, run_id) == "completed", f"a run of {steps:,} steps is {run_id}"
    ends = [row[0] for row in ours.sql(TENTHS, run_id)]
    began_at = ours.sql(BEGAN, run_id)[0][0]
    tenths = [end - start for start, end in zip([began_at, *ends], ends, strict=False)]
    return Grown(tenths, 1e3 * used_s / steps, wall_s)


def _state(ours: Ours, run_id: str) -> Any:
    return ours.sql(STATE, run_id)[0][0]


def small_cpu_ms(ours: Ours, steps: int) -> float:
    """CPU a step of 10-step runs, drained."""
    ours.fill(steps // 10, 10)
    before = ours.here.cpu_s()
    ours.hand_over()
    harness.until(lambda: ours.ended()[0] >= steps // 10, "the small runs", every_s=0.2)
    return 1e3 * sum(harness.spent(before, ours.here.cpu_s()).values()) / steps


def growth(here: World, repeat: int, *, large: int = LARGE, huge: int = HUGE) -> list[Figure]:
    """Chain, graph, and the largest there may be; a size of 0 leaves it out."""
    ours, rng = Ours(here), random.Random(4)
    texts = {
        "chain": lambda name: workflow_texts.chain(name, large),
        "graph": lambda name: workflow_texts.graph(name, large, rng),
    }
    found: dict[str, list[tuple[Grown, float]]] = {kind: [] for kind in texts}
    figures = []
    with ours.at_work(processes=PROCESSES):
        for _ in range(repeat if large else 0):
            small_ms = small_cpu_ms(ours, large)
            for kind, text in texts.items():
                name = ours.name(kind)
                one = grown(ours, text(name), name, large)
                found[kind].append((one, one.cpu_ms / small_ms))
        if huge:
            name = ours.name("huge")
            text_of_all = workflow_texts.graph(name, huge, rng, window=2_000)
            figures = _huge(f"graph of {huge:,}", grown(ours, text_of_all, name, huge))
    for kind, runs in found.items():
        figures += _told(f"{kind} of {large:,}", runs) if runs else []
    return figures


def _huge(name: str, one: Grown) -> list[Figure]:
    return [
        Figure(f"{name}: completed in", one.wall_s, "s"),
        Figure(f"{name}: CPU", one.cpu_ms, "ms/step"),
        Figure(f"{name}: last tenth", one.last_to_first, "x the first"),
    ]


def _told(name: str, runs: list[tuple[Grown, float]]) -> list[Figure]:
    last = median(one.last_to_first for one, _ in runs)
    ratio = median(ratio for _, ratio in runs)
    return [
        Figure(f"{name}: took", median(one.wall_s for one, _ in runs), "s"),
        Figure(f"{name}: last tenth", last, "x the first", 1.1, at_most=True, gates=True),
        Figure(f"{name}: CPU", median(one.cpu_ms for one, _ in runs), "ms/step"),
        Figure(f"{name}: CPU", ratio, "x 10-step runs", 1.15, at_most=True, gates=True),
    ]
