"""What peers do as well: steps in a row, a drain, a fan-out; all sides in each round.

A round has every side once, in an order of chance, on the same Postgres. Bars are ratios within
a round, to the better of DBOS's two settings there; the median of the rounds is judged.
"""

import random
import sys
from collections.abc import Callable
from statistics import median
from typing import TypeVar

from tests.benchmarks import workflow_sides
from tests.benchmarks.harness import Figure, World
from tests.benchmarks.workflow_ours import Ours
from tests.benchmarks.workflow_sides import PROCESSES, Drained, Side, percentile

STEPS = 10
WIDTH, WIDE = 1_000, 10_000
BEST = "x DBOS's best"
T = TypeVar("T")


def rounds(sides: list[Side], repeat: int, measure: Callable[[Side], T]) -> list[dict[str, T]]:
    """What every side showed in every round, by its title."""
    found = []
    for number in range(repeat):
        found.append({one.title: measure(one) for one in random.sample(sides, len(sides))})
        print(f"round {number + 1} of {repeat}", file=sys.stderr)
    return found


def to_best(found: list[dict[str, float]]) -> list[float]:
    """Our seconds in parts of the best other side's, median of the rounds; empty without others."""
    pairs = [
        (one[Ours.title], min(took for title, took in one.items() if title != Ours.title))
        for one in found
        if len(one) > 1
    ]
    return [median(ours / best for ours, best in pairs)] if pairs else []


def linear(sides: list[Side], repeat: int, runs: int) -> list[Figure]:
    """Ten steps in a row, one run at a time."""

    def measure(side: Side) -> list[float]:
        with side.at_work(processes=PROCESSES if isinstance(side, Ours) else 0):
            return sorted(side.linear(runs, STEPS))

    found = rounds(sides, repeat, measure)
    figures = []
    for side in sides:
        together = sorted(took for one in found for took in one[side.title])
        p99 = percentile(together, 0.99)
        figures += [
            Figure(f"10 steps in a row, {side.title}: p50", 1e3 * median(together), "ms"),
            Figure(f"10 steps in a row, {side.title}: p99", 1e3 * p99, "ms"),
        ]
    ratio = to_best([{title: median(took) for title, took in one.items()} for one in found])
    return figures + [
        Figure("10 steps in a row: p50", one, BEST, 1.0, 0.5, at_most=True, gates=True)
        for one in ratio
    ]


def drain(here: World, sides: list[Side], repeat: int, runs: int) -> list[Figure]:
    """Runs that wait, done by two processes."""
    found = rounds(sides, repeat, lambda side: workflow_sides.drain(here, side, runs, STEPS))
    figures = []
    for side in sides:
        figures += _drained(side, [one[side.title] for one in found])
    ratio = to_best([{title: 1 / one.per_s for title, one in it.items()} for it in found])
    return figures + [Figure("drain: speed", 1 / one, BEST, 2.0, gates=True) for one in ratio]


def _drained(side: Side, found: list[Drained]) -> list[Figure]:
    ours = isinstance(side, Ours)
    name = f"drain, {side.title}"
    speed = median(one.per_s for one in found)
    cpu = median(one.cpu_ms for one in found)
    commits = median(one.commits / one.steps for one in found)
    most = 1.3 if ours else None
    figures = [
        Figure(f"{name}: speed", speed, "steps/s", 1_000 if ours else None),
        Figure(f"{name}: CPU", cpu, "ms/step", most, at_most=True, gates=ours),
    ]
    for kind in found[0].cpu_s:
        part = median(1e3 * one.cpu_s[kind] / one.steps for one in found)
        if part > 0.005:
            figures.append(Figure(f"{name}: CPU of {kind}", part, "ms/step"))
    return [
        *figures,
        Figure(f"{name}: commits", commits, "/step", most, at_most=True, gates=ours),
    ]


def fan(sides: list[Side], repeat: int) -> list[Figure]:
    """One step, a thousand, one; ours ten times as wide too."""
    wide: list[float] = []

    def measure(side: Side) -> dict[str, float]:
        with side.at_work(processes=PROCESSES):
            found = side.fan_out(WIDTH)
            if isinstance(side, Ours):
                wide.extend(side.fan_out(WIDE).values())
            return found

    found = rounds(sides, repeat, measure)
    figures = []
    for side in sides:
        for way in found[0][side.title]:
            took = median(one[side.title][way] for one in found)
            figures.append(Figure(f"fan-out 1-1,000-1, {side.title}, {way}", took, "s"))
    best = [{title: min(ways.values()) for title, ways in one.items()} for one in found]
    wider = median(ten / one[Ours.title] for ten, one in zip(wide, best, strict=True))
    return [
        *figures,
        Figure("fan-out 1-10,000-1, ours", median(wide), "s"),
        Figure("fan-out ten times as wide", wider, "x the time", 11, at_most=True, gates=True),
        *[
            Figure("fan-out 1-1,000-1", one, BEST, 0.4, at_most=True, gates=True)
            for one in to_best(best)
        ],
    ]
