"""Workflows: ours beside DBOS, step for step; large runs, killed workers, timers, silence.

The peer is installed into an environment of its own, never into ours; AILYDIAN_BENCH_DBOS may name
a Python that has it. Both work on one embedded Postgres with fsync on. Our engine does not wait
for the disk with transitions that a crash would only make it do again, so DBOS is measured twice:
as it comes, and with `synchronous_commit = off`; ratios are to the better of the two.
"""

import argparse
import sys
from collections.abc import Callable

from tests.benchmarks import (
    harness,
    workflow_compare,
    workflow_functions,
    workflow_growth,
    workflow_moments,
)
from tests.benchmarks.harness import Figure, World
from tests.benchmarks.workflow_ours import Ours
from tests.benchmarks.workflow_peer import Dbos
from tests.benchmarks.workflow_sides import Side

Part = Callable[[World, argparse.Namespace], list[Figure]]


def sides(here: World, chosen: argparse.Namespace) -> list[Side]:
    """Ours, and the peer's two."""
    peers = [] if chosen.alone else [Dbos(here, waits=True), Dbos(here, waits=False)]
    return [Ours(here), *peers]


PARTS: dict[str, Part] = {
    "linear": lambda here, chosen: workflow_compare.linear(
        sides(here, chosen), chosen.repeat, chosen.linear
    ),
    "drain": lambda here, chosen: workflow_compare.drain(
        here, sides(here, chosen), chosen.repeat, chosen.runs
    ),
    "fan": lambda here, chosen: workflow_compare.fan(sides(here, chosen), chosen.repeat),
    "growth": lambda here, chosen: workflow_growth.growth(
        here, chosen.repeat, large=chosen.large, huge=chosen.huge
    ),
    "idle": lambda here, chosen: workflow_moments.idle(here, chosen.times, chosen.idle),
    "kill": lambda here, chosen: workflow_moments.kill(here, chosen.kills),
    "timers": lambda here, chosen: workflow_moments.timers(here, chosen.timers),
}


def options() -> argparse.ArgumentParser:
    """What may be asked for."""
    parser = harness.options(__doc__)
    parser.add_argument("--only", help=f"parts, by commas: {', '.join(PARTS)}")
    parser.add_argument("--repeat", type=int, default=3, help="rounds of each comparison")
    parser.add_argument("--alone", action="store_true", help="without the peer")
    parser.add_argument("--linear", type=int, default=20, help="runs of 10 steps in a row")
    parser.add_argument("--runs", type=int, default=1_000, help="runs of a drain")
    parser.add_argument("--large", type=int, default=workflow_growth.LARGE)
    parser.add_argument("--huge", type=int, default=workflow_growth.HUGE, help="0: none")
    parser.add_argument("--idle", type=float, default=5.0, help="seconds of silence")
    parser.add_argument("--times", type=int, default=20, help="silences")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--timers", type=int, default=workflow_moments.TIMERS)
    return parser


def main() -> None:
    """Each part in a world of its own."""
    parser = options()
    chosen = parser.parse_args()
    names = chosen.only.split(",") if chosen.only else list(PARTS)
    if unknown := set(names) - PARTS.keys():
        parser.error(f"no part {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
    figures: list[Figure] = []
    for name in names:
        print(f"{name} ...", file=sys.stderr)
        with harness.world(AILYDIAN_PLUGINS=workflow_functions.__name__) as here:
            here.environment["AILYDIAN_LOG_LEVEL"] = "error"
            figures += PARTS[name](here, chosen)
    harness.report("workflow", figures, as_json=chosen.json)


if __name__ == "__main__":
    main()
