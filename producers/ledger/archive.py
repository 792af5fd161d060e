"""The archive of deleted rows: JSON Lines, one file per day and kind.

A line is on disk before its row is deleted. After a crash in between it is written again: lines
are written at least once.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

_PRIVATE_FILE, _PRIVATE_FOLDER = 0o600, 0o700


def append(folder: Path, kind: str, lines: Sequence[str], now: datetime) -> Path:
    """Append lines to the file of this kind and day, and sync it to disk.

    Args:
        folder: The archive's folder; created if missing, readable by its owner only.
        kind: `done`, `dead` or `quarantined`.
        lines: JSON texts without line breaks.
        now: Its day in UTC names the file.

    Raises:
        OSError: The disk is full or the folder is not writable; no part of a line stays.
    """
    folder.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
    path = folder / f"{kind}-{now.astimezone(UTC):%Y-%m-%d}.jsonl"
    is_new = not path.exists()
    opened = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _PRIVATE_FILE)
    try:
        size = os.fstat(opened).st_size
        # A line torn by a crash is terminated, so that the next one does not continue it.
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
    """Sync a folder: a new file survives a crash only if its folder is on disk."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
