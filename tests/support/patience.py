"""Deadlines for a machine that may be slow, or busy with other work.

Seconds in a test are meant for a quiet machine of the reference's speed. Every deadline and every
bound on a duration goes through `patience`, which stretches it by how much slower this machine is
now; who waits for a fact uses `until`, which measures again before it gives up.
"""

import os
import time
from collections.abc import Callable
from functools import cache

# What the fixed piece of work takes on the machine the deadlines were written for, in CPU seconds.
REFERENCE_S = 0.040
LOOK_AGAIN_S = 5.0
SLOWNESS_MAX = 40.0  # beyond it a test that waits tells nothing any more
POLL_S = 0.05

_measured: dict[str, tuple[float, float]] = {}  # when, and how slow it was


def patience(seconds: float) -> float:
    """These seconds of a quiet machine, as this machine needs them now."""
    return seconds * slowness()


def cpu_patience(seconds: float) -> float:
    """These seconds of processor time, as this machine's processors need them now."""
    return seconds * _remembered("processor", _processor)


def slowness() -> float:
    """How many times longer than on the reference a piece of work takes now; never below 1."""
    return _remembered("all", lambda: min(max(1.0, _speed()) * max(1.0, _crowding()), SLOWNESS_MAX))


def until(
    true: Callable[[], object],
    seconds: float = 60.0,
    *,
    tell: Callable[[], object] = lambda: "",
    meanwhile: Callable[[], object] = lambda: None,
) -> float:
    """Wait for something that must come to be. Returns how long it took, in seconds."""
    began = time.monotonic()
    while not true():
        waited_s = time.monotonic() - began
        if waited_s > seconds:
            limit_s = patience(seconds)
            assert waited_s < limit_s, f"still not true after {waited_s:.0f} s: {tell()}"
        meanwhile()
        time.sleep(POLL_S)
    return time.monotonic() - began


def _remembered(what: str, measure: Callable[[], float]) -> float:
    """A measure that is at most LOOK_AGAIN_S old: measuring takes time itself."""
    if what not in _measured or time.monotonic() - _measured[what][0] > LOOK_AGAIN_S:
        found = measure()
        _measured[what] = (time.monotonic(), found)
    return _measured[what][1]


def _processor() -> float:
    """How many times more processor time than on the reference the work takes now, at least 1."""
    began = time.thread_time()
    _work()
    return max(1.0, (time.thread_time() - began) / REFERENCE_S)


@cache
def _speed() -> float:
    """How many times longer than on the reference the work takes, processor time alone."""
    spent = []
    for _ in range(3):
        began = time.thread_time()
        _work()
        spent.append(time.thread_time() - began)
    return min(spent) / REFERENCE_S


def _crowding() -> float:
    """How many times longer than by itself the work takes beside the others that run now."""
    began, cpu = time.monotonic(), time.thread_time()
    for _ in range(2):
        _work()
    wall_s, cpu_s = time.monotonic() - began, time.thread_time() - cpu
    # A short piece of work may get through between two turns of the others: they count as well.
    waiting = os.getloadavg()[0] / (os.cpu_count() or 1)
    return max(wall_s / cpu_s, waiting)


def _work() -> None:
    sum(number * number for number in range(1_000_000))
