"""What is measured on both sides, and how: the same clock, the same server, the same counting.

Two sides never work at once. Commits are Postgres's own count of the side's database. A backend
reports it when it has been idle for ten seconds or ends, so a drain begins after such a silence,
and the count is read again when the side's processes are gone.
"""

import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import psycopg

from tests.benchmarks import harness
from tests.benchmarks.harness import World

PROCESSES, SLOTS = 2, 8
STATISTICS_S = 10.5
COMMITS = "SELECT xact_commit FROM pg_stat_database WHERE datname = %s"
BACKENDS = """SELECT count(*) FROM pg_stat_activity
              WHERE datname = %s AND pid <> pg_backend_pid() AND application_name <> 'bench'"""


@dataclass(frozen=True)
class Drained:
    """What a drain took: wall seconds, CPU seconds by kind of process, commits."""

    steps: int
    wall_s: float
    cpu_s: dict[str, float]
    commits: int

    @property
    def per_s(self) -> float:
        """Steps a second."""
        return self.steps / self.wall_s

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds a step, of everything."""
        return 1e3 * sum(self.cpu_s.values()) / self.steps


class Side(Protocol):
    """An engine that can be asked to do what is measured."""

    title: str
    database: str

    def at_work(self, *, processes: int) -> AbstractContextManager[None]:
        """Have its processes, warm, while the block runs."""

    def linear(self, runs: int, steps: int) -> list[float]:
        """Run no-op steps in a row, one run after the other. Returns seconds a run."""

    def fill(self, runs: int, steps: int) -> None:
        """Put runs on the wire, out of the workers' sight."""

    def hand_over(self) -> float:
        """Let the workers have them. Returns when, in seconds of the epoch."""

    def ended(self) -> tuple[int, float]:
        """How many of these runs have ended, and when the last of them did."""

    def fan_out(self, width: int) -> dict[str, float]:
        """One step, `width` at once, one with their results. Returns seconds by way to do it."""


def percentile(ordered: Sequence[float], part: float) -> float:
    """The smallest value that at least this part of them do not exceed."""
    return ordered[max(math.ceil(part * len(ordered)) - 1, 0)]


def drain(here: World, side: Side, runs: int, steps: int) -> Drained:
    """Fill, settle, hand over, wait for the last."""
    with psycopg.connect(
        here.database_url.replace("/ailydian?", "/postgres?"), autocommit=True
    ) as conn:
        with side.at_work(processes=PROCESSES):
            side.fill(runs, steps)
            time.sleep(STATISTICS_S)
            commits, before = _one(conn, COMMITS, side.database), here.cpu_s()
            began = side.hand_over()
            harness.until(lambda: side.ended()[0] >= runs, "the drain", every_s=0.25)
            used = harness.spent(before, here.cpu_s())
            wall_s = side.ended()[1] - began
        harness.until(lambda: _one(conn, BACKENDS, side.database) == 0, "the side's connections")
        commits = _one(conn, COMMITS, side.database) - commits
    return Drained(runs * steps, wall_s, used, commits)


def _one(conn: psycopg.Connection, query: str, database: str) -> int:
    [row] = conn.execute(query.encode(), [database]).fetchall()
    return int(row[0])
