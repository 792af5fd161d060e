"""Messages between a supervisor and its children, and the Unix signals that both handle.

A child writes one byte at a time to its supervisor's pipe. People send signals: SIGTERM and
SIGINT stop, SIGHUP asks a supervisor to restart its children one by one.
"""

import contextlib
import os
import select
import signal
from typing import Final

ALIVE: Final = b"."
READY: Final = b"R"  # connected, taking jobs
WORN: Final = b"W"  # too large or too old: replace me
BROKEN: Final = b"B"  # a thread of mine is dead: I am ending

# Exit codes of a child that ended in order, but not well.
THREAD_DEAD: Final = 70
UNSETTLED: Final = 75  # jobs could not be returned to the ledger
MISCONFIGURED: Final = 78  # a setting or a plugin; it has said which

STOPS: Final = frozenset({signal.SIGTERM, signal.SIGINT})


def send(pulse_fd: int | None, what: bytes) -> bool:
    """Send one byte to the supervisor, if there is one. Returns False if it was killed."""
    if pulse_fd is not None:
        try:
            os.write(pulse_fd, what)
        except BrokenPipeError:
            return False
    return True


class Bell:
    """Signals as bytes in a pipe: no lock that the interrupted code may hold is ever taken."""

    def __init__(self, *numbers: signal.Signals) -> None:
        self.fd, self._rope = os.pipe()
        for end in (self.fd, self._rope):
            os.set_blocking(end, False)
        for number in numbers:
            signal.signal(number, self._ring)

    def _ring(self, number: int, _: object) -> None:
        with contextlib.suppress(BlockingIOError):  # a signal storm: enough of them wait to be read
            os.write(self._rope, bytes([number]))

    def received(self) -> set[signal.Signals]:
        """The signals that came since the last call."""
        try:
            return {signal.Signals(number) for number in os.read(self.fd, 65_536)}
        except BlockingIOError:
            return set()

    def wait(self, timeout_s: float) -> bool:
        """Wait for a signal. Returns whether one came."""
        select.select([self.fd], [], [], timeout_s)
        return bool(self.received())
