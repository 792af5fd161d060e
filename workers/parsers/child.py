"""The child: confines itself, then reads documents from stdin, one after another.

Limits are set here and not between fork and exec, because the parent has threads.
"""

import json
import os
import resource
import signal
import sys
from dataclasses import fields
from math import ceil
from typing import IO

from shared.errors import DocumentRefused
from workers import parsers
from workers.parsers.confinement import Layers, confine
from workers.parsers.model import ParserLimits
from workers.parsers.pipe_frames import PREFIX, READY, answer_head, pack, sizes
from workers.parsers.preload import preload

_WALL_GRACE_S = 5
# How full the address space is when a parser's complaint is really about memory.
_MEMORY_SHARE = 0.9


def main(limits_json: str, wanted: str, *kinds: str) -> None:
    """Serve documents until stdin ends or a limit is hit.

    Args:
        limits_json: The fields of `Limits` as a JSON object.
        wanted: With `require` it ends instead of serving without the filter of system calls.
        kinds: The kinds of documents that it will be asked for.
    """
    values = json.loads(limits_json)
    limits = ParserLimits(**{field.name: values[field.name] for field in fields(ParserLimits)})
    source, sink = os.fdopen(0, "rb", buffering=0), os.fdopen(os.dup(1), "wb", buffering=0)
    # Output of libraries is discarded: stdout carries only frames.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    status = os.open("/proc/self/status", os.O_RDONLY)
    preload(kinds)
    if not _fence(limits).seccomp and wanted == "require":
        sys.exit("no filter of system calls")
    _write(sink, READY)
    while _serve(source, sink, limits, status):
        pass


def _fence(limits: ParserLimits) -> Layers:
    return confine(limits)


def _serve(source: IO[bytes], sink: IO[bytes], limits: ParserLimits, status: int) -> bool:
    """Answer one document. Returns whether this process may read the next one."""
    signal.alarm(0)
    prefix = _read(source, PREFIX.size)
    if prefix is None:
        return False
    head_size, body_size = sizes(prefix, limits.input_bytes_max)
    head, data = _read(source, head_size), _read(source, body_size)
    if head is None or data is None:
        return False
    asked = json.loads(head)
    _wind_up(limits)
    try:
        parsed = parsers.parse(data, name=asked["name"], lossy=asked["lossy"], limits=limits)
    except DocumentRefused as refused:
        return _refuse(sink, refused, limits, _peak_bytes(status))
    body = parsed.text.encode()
    _write(sink, pack(answer_head(parsed, len(body))))
    _write(sink, body)
    return True


def _wind_up(limits: ParserLimits) -> None:
    """Give this document its own CPU limit, and an alarm in case the parent is gone."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = ceil(used.ru_utime + used.ru_stime + limits.cpu_s_max)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    signal.alarm(ceil(limits.wall_s_max) + _WALL_GRACE_S)


def _refuse(
    sink: IO[bytes], refused: DocumentRefused, limits: ParserLimits, peak_bytes: int
) -> bool:
    reason, sentence = refused.reason, str(refused).partition(": ")[2]
    # Without memory libxml2 reports a broken file, so the peak decides which of both it was.
    starved = peak_bytes >= _MEMORY_SHARE * limits.memory_bytes_max
    if starved and reason.startswith("corrupt"):
        reason, sentence = "memory_limit", "It needs more memory than allowed."
    _write(sink, pack({"reason": reason, "sentence": sentence, "size": 0}))
    return not starved and not reason.endswith("_limit")


def _peak_bytes(status: int) -> int:
    for line in os.pread(status, 4096, 0).decode().splitlines():
        if line.startswith("VmPeak:"):
            return int(line.split()[1]) * 1024
    return 0


def _read(source: IO[bytes], size: int) -> bytes | None:
    """Exactly `size` bytes, or None at the end of the stream."""
    pieces = bytearray()
    while len(pieces) < size:
        piece = source.read(size - len(pieces))
        if not piece:
            return None
        pieces += piece
    return bytes(pieces)


def _write(sink: IO[bytes], packed: bytes) -> None:
    rest = memoryview(packed)
    while rest:
        rest = rest[sink.write(rest) or 0 :]
