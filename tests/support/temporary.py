"""Where the tests keep their files: in memory, so that no test waits for another one's disk."""

import os
import shutil
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 * 1024**3


def use_memory() -> None:
    """Make it the temporary folder of this process and its children, where it has room.

    A test's database is hundreds of small files, made and removed again.
    """
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM_BYTES:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)
