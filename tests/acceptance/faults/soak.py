"""The soak: faults in random order while jobs flow, and every invariant checked after each.

`make soak MINUTES=30 SEED=7`. The same seed chooses the same faults in the same order, with the
same chances inside each. Ends 1 when an invariant was broken; prints one JSON document.
"""

import argparse
import json
import random
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field

from tests.acceptance.faults.catalogue import FAULTS, POINTS, Fault
from tests.acceptance.faults.checker import Verdict, check
from tests.acceptance.faults.flow import Flow
from tests.acceptance.faults.plant import Plant, built

# Of so many faults one is the walk through all kill points: it alone takes a minute.
POINTS_SHARE = 0.03


@dataclass
class Summary:
    """What the soak did and found."""

    seed: int
    minutes: float
    jobs: int = 0
    states: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    recovery_s_max: float = 0.0
    ended_s_max: float = 0.0
    restarts: int = 0
    rss_mb: list[int] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def choose(rng: random.Random) -> tuple[Fault, random.Random]:
    """The next fault, and its own source of chance."""
    fault = POINTS if rng.random() < POINTS_SHARE else rng.choice(FAULTS)
    return fault, random.Random(rng.getrandbits(64))


def strike(plant: Plant, fault: Fault, rng: random.Random, chosen: argparse.Namespace) -> Verdict:
    """Do one fault while jobs flow, and check everything."""
    failed: list[str] = []
    left = chosen.jobs - len(plant.accepted)
    with Flow(plant, per_s=chosen.per_s, jobs_max=max(left, 0)):
        plant.load(20)
        try:
            fault.inject(plant, rng)
        except Exception:
            failed = [traceback.format_exc(limit=-2)]
        plant.pause(0.5)
    verdict = check(plant)
    verdict.broken = [f"{fault.name}: {one}" for one in (*failed, *verdict.broken)]
    return verdict


def soak(plant: Plant, summary: Summary, chosen: argparse.Namespace) -> None:
    """Do faults until the time is over."""
    rng = random.Random(summary.seed)
    end = time.monotonic() + 60 * chosen.minutes
    while time.monotonic() < end:
        fault, own = choose(rng)
        verdict = strike(plant, fault, own, chosen)
        summary.faults[fault.name] = summary.faults.get(fault.name, 0) + 1
        summary.recovery_s_max = max(summary.recovery_s_max, verdict.figures["recovery_s"])
        summary.ended_s_max = max(summary.ended_s_max, verdict.figures["ended_s"])
        summary.broken += verdict.broken
        told = "; ".join(verdict.broken) or "sound"
        took = f"{verdict.figures['ended_s']:5.1f} s"
        print(f"{fault.name:<26} {took} {len(plant.accepted):>8} jobs  {told}", file=sys.stderr)
        if verdict.broken and chosen.first:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=None, help="chosen and printed if not given")
    parser.add_argument("--jobs", type=int, default=1_000_000, help="at most so many")
    parser.add_argument("--per-s", type=float, default=30.0, help="jobs that flow beside")
    parser.add_argument("--scale", type=float, default=10.0, help="shortens leases and outages")
    parser.add_argument("--first", action="store_true", help="stop at the first broken invariant")
    chosen = parser.parse_args()
    seed = random.SystemRandom().randrange(2**31) if chosen.seed is None else chosen.seed
    print(f"seed {seed}", file=sys.stderr)
    summary = Summary(seed, chosen.minutes)
    with built(scale=chosen.scale, durable=True) as plant:
        plant.start("relay")
        plant.start("relay")
        plant.start_workers()
        soak(plant, summary, chosen)
        summary.jobs, summary.restarts = len(plant.accepted), plant.restarts
        summary.states = plant.states()
        summary.rss_mb = [worker.memory_info().rss >> 20 for worker in plant.workers()]
    print(json.dumps(asdict(summary)))
    sys.exit(bool(summary.broken))


if __name__ == "__main__":
    main()
