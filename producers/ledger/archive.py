"""The archive: what retention deletes, as lines of JSON, a file a day and kind.

A line is on the disk before its row goes. Who dies in between writes it once more: twice is
possible, never is not.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

_PRIVATE_FILE, _PRIVATE_FOLDER = 0o600, 0o700


def append(folder: Path, kind: str, lines: Sequence[str], now: datetime) -> Path:
    """Write lines to the file of this kind and day, and wait until they are on the disk.

    Args:
        folder: Where the archive lies; made if it is missing, for its owner alone.
        kind: `done`, `dead` or `quarantined`.
        lines: JSON texts without line breaks.
        now: Its day in UTC names the file.

    Raises:
        OSError: The disk is full or the folder may not be written; no part of a line stays.
    """
    folder.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
    path = folder / f"{kind}-{now.astimezone(UTC):%Y-%m-%d}.jsonl"
    is_new = not path.exists()
    opened = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _PRIVATE_FILE)
    try:
        size = os.fstat(opened).st_size
        # A line that a crash tore apart stays alone: the next one does not grow onto it.
        torn = size > 0 and os.pread(opened, 1, size - 1) != b"\n"
        text = ("\n" if torn else "") + "".join(f"{line}\n" for line in lines)
        try:
            _write(opened, text.encode())
            os.fsync(opened)
        except OSError:
            os.ftruncate(opened, size)
            raise
    finally:
        os.close(opened)
    if is_new:
        _sync_folder(folder)
    return path


def _write(opened: int, text: bytes) -> None:
    rest = memoryview(text)
    while rest:
        rest = rest[os.write(opened, rest) :]


def _sync_folder(folder: Path) -> None:
    """A file is there after a crash only if its folder says so on the disk."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
