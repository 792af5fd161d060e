"""Functions that the workflows of the acceptance tests call: a plugin for their workers."""

import os
import signal
import time

from workers.queries.operations import probes
from workers.steps.functions import function
from workers.steps.step import Step

LONG_S = 60.0


@function("enter")
def enter(n: int, step: Step) -> dict[str, int]:
    """Write one row in the transaction that ends the step."""
    with step.effect() as conn:
        probes.insert_entry(conn, step.step_id, n)  # type: ignore[arg-type]
        step.done({"n": n})
    return {}


@function("die_once")
def die_once(n: int, step: Step) -> dict[str, int]:
    """Kill the whole process on the first attempt, before anything is written."""
    if step.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return enter(n, step)


@function("fail_until")
def fail_until(attempt: int, step: Step) -> int:
    """Fail before this attempt."""
    if step.attempt < attempt:
        raise RuntimeError(f"attempt {step.attempt} fails")
    return step.attempt


@function("work_long")
def work_long() -> None:
    """Work for a minute in short pieces."""
    until = time.monotonic() + LONG_S
    while time.monotonic() < until:
        time.sleep(0.01)


@function("forget")
def forget(step: Step) -> None:
    """Open an effect and end it without an output."""
    with step.effect():
        pass
