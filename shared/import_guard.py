"""A guard for the import of a foreign module, which may neither end nor hold this process.

What ends a process by itself (a crash in C, `os.abort`) and a loop in C that holds the
interpreter's lock cannot be caught: then Python's faulthandler writes the line on stderr.
"""

import faulthandler
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Never

IMPORT_S_MAX = 60.0
# A module that swallows the interruption is interrupted again.
_AGAIN_S: Final = 1.0
# So much later it is a loop in C that no interruption reaches.
HELD_S: Final = 5.0
_STDERR: Final = 2


class ImportTooLong(BaseException):
    """Raised where an import has taken longer than `IMPORT_S_MAX`."""


class ProcessLeft(BaseException):
    """Raised in place of `os._exit`, with its exit code."""


@contextmanager
def guarded() -> Iterator[None]:
    """Import inside this block: what would end or hold the process is raised instead."""
    with _with_stacks(), _without_leaving(), _in_time():
        yield


@contextmanager
def _without_leaving() -> Iterator[None]:
    ours, leave, importing = os.getpid(), os._exit, True

    def raise_instead(status: int) -> Never:
        if importing and os.getpid() == ours:  # not in a child that was forked
            raise ProcessLeft(status)
        leave(status)

    os._exit = raise_instead
    try:
        yield
    finally:
        importing = False  # the module may have kept what it found
        if os._exit is raise_instead:
            os._exit = leave


@contextmanager
def _in_time() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only there can signals raise
        yield
        return

    def interrupt(_number: int, _frame: object) -> Never:
        raise ImportTooLong(IMPORT_S_MAX)

    handler = signal.signal(signal.SIGALRM, interrupt)
    before = signal.setitimer(signal.ITIMER_REAL, IMPORT_S_MAX, _AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before)
        signal.signal(signal.SIGALRM, handler)


@contextmanager
def _with_stacks() -> Iterator[None]:
    ours = not faulthandler.is_enabled()
    if ours:
        faulthandler.enable(_STDERR)
    faulthandler.dump_traceback_later(IMPORT_S_MAX + HELD_S, exit=True, file=_STDERR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        if ours:
            faulthandler.disable()
