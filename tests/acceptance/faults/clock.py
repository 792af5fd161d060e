"""A wrong wall clock: `time.time` of a process is shifted, runs fast, or jumps while it runs.

libfaketime comes in no wheel. What a process of ours reads is `time.time`; `time.monotonic` stays
right, as it does under a step of the real clock. The switch is a file with two numbers: seconds
to add, and the speed.
"""

import os
import time
from pathlib import Path

DIRECTORY = "FAULTS_DIRECTORY"
SWITCH = "clock"
_real = time.time
_real_ns = time.time_ns


def set_clock(directory: Path, shift_s: float, speed: float = 1.0) -> None:
    """Shift the clock of every process that looks at this directory."""
    growing = directory / f"{SWITCH}.new"
    growing.write_text(f"{shift_s} {speed} {_real()}")
    growing.rename(directory / SWITCH)


def install() -> None:
    """Let this process read the time that the switch gives."""
    directory = os.environ.get(DIRECTORY)
    if directory is None:
        return
    path = Path(directory) / SWITCH

    def shifted() -> float:
        now = _real()
        try:
            shift_s, speed, since = map(float, path.read_text().split())
        except (OSError, ValueError):
            return now
        return now + shift_s + (now - since) * (speed - 1.0)

    time.time = shifted
    time.time_ns = lambda: _real_ns() + int((shifted() - _real()) * 1e9)
