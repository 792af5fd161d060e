"""Log output that never fails the process which writes it.

The reader of a pipe may leave, a disk may be full, a job may close a descriptor: what cannot be
written is dropped and counted, and the next line that can be written is preceded by one that says
how many were dropped. The descriptor is a copy of one's own, so that a job which closes 1 or 2 does
not turn the next connection into the log.
"""

import contextlib
import fcntl
import io
import json
import os
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STANDARD = (0, 1, 2)
_lock = threading.Lock()  # for the counts; never held while writing
_totals = {"lines": 0}


class LogFile(io.RawIOBase):
    """The bytes of a standard descriptor; writing and closing them never fails."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._dropped = 0
        self._torn = False  # the last line was written in part

    def writable(self) -> bool:
        """Whether it may be written to, as text streams ask."""
        return True

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)

    def write(self, given: "ReadableBuffer", /) -> int:
        """Write all of it, or drop what is left. Returns how much was given."""
        data = bytes(given)
        with _lock:
            owed, self._dropped = self._dropped, 0
        text = (b"\n" if self._torn else b"") + (_told(owed) if owed else b"") + data
        left = _unwritten(self._descriptor, text)
        if len(left) < len(text):
            self._torn = bool(left) and not text[: len(text) - len(left)].endswith(b"\n")
        if left:
            lost = left[-len(data) :].count(b"\n")
            with _lock:
                # What tells of the lines before was lost as well: it is told again.
                self._dropped += lost + (owed if len(left) > len(data) else 0)
                _totals["lines"] += lost
        return len(data)

    def close(self) -> None:
        """Leave it open: a job may close what it prints to, and the log goes on."""


_files: dict[int, LogFile] = {}


def dropped() -> int:
    """How many lines this process could not write."""
    return _totals["lines"]


def keep_descriptors() -> None:
    """Open /dev/null in place of closed standard descriptors: no file of ours may take theirs."""
    for number in _STANDARD:
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def guard_output() -> None:
    """Let nothing that a long-running process prints fail it, on stdout or stderr."""
    keep_descriptors()
    sys.stdout, sys.stderr = guarded(sys.stdout), guarded(sys.stderr)


def guarded(stream: TextIO) -> TextIO:
    """The same output through a `LogFile`; any stream but a standard one is returned as it is."""
    file = _log_file(stream)
    if file is None:
        return stream
    return io.TextIOWrapper(  # type: ignore[type-var]  # no buffer, which would keep what failed
        file,
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=True,
        write_through=True,
    )


def _log_file(stream: TextIO) -> LogFile | None:
    if not isinstance(stream, io.TextIOWrapper) or stream.closed:
        return None
    raw = getattr(stream.buffer, "raw", stream.buffer)
    if isinstance(raw, LogFile):
        return raw
    if not isinstance(raw, io.FileIO) or raw.fileno() not in _STANDARD:
        return None
    with contextlib.suppress(OSError):
        stream.flush()
    number = raw.fileno()
    if number not in _files:
        try:
            copy = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, len(_STANDARD))
        except OSError:  # out of descriptors
            copy = number
        _files[number] = LogFile(copy)
    return _files[number]


def _unwritten(descriptor: int, data: bytes) -> bytes:
    """Write as much as can be written. Returns the rest."""
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except OSError:
            break
    return data


def _told(lines: int) -> bytes:
    event = {
        "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "level": "warning",
        "event": "log.dropped",
        "logger": __name__,
        "lines": lines,
    }
    return json.dumps(event).encode() + b"\n"
