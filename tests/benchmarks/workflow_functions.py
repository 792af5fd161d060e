"""Functions that the measured workflows call: a plugin for workers."""

import os
import random
import time
from pathlib import Path

from workers.queries.operations import probes
from workers.steps.functions import function
from workers.steps.step import Step


@function("noop")
def noop(n: object = None) -> object:
    """Nothing."""
    return n


@function("count_up")
def count_up(width: int) -> list[int]:
    """0, 1, .., width - 1."""
    return list(range(width))


@function("total")
def total(parts: list[int]) -> int:
    """The sum of what other steps yielded."""
    return sum(parts)


@function("clock")
def clock() -> float:
    """When this step began, in seconds of the epoch."""
    return time.time()


@function("noted")
def noted(n: int, nap_ms: float, step: Step) -> int:
    """Work for a while, then write the one row that this step may write, and yield `n`."""
    time.sleep(random.uniform(0, nap_ms) / 1e3)
    with step.effect() as conn:
        probes.insert_entry(conn, step.step_id, n)  # type: ignore[arg-type]
        step.done(n)
    return n


@function("watched")
def watched(log: str, seconds: float, step: Step) -> int:
    """Work for a while, and say in a file when: a line survives whoever kills this process."""
    _say(log, step, "begins")
    time.sleep(seconds)
    _say(log, step, "ends")
    return step.attempt


def _say(log: str, step: Step, what: str) -> None:
    line = f"{step.run_id} {step.step_id} {os.getpid()} {time.time()} {what}\n"
    with Path(log).open("a") as file:  # one write of a short line: no other process gets between
        file.write(line)
