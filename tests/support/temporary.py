"""Where the tests keep their files: in memory, in a folder that no other session touches."""

import os
import shutil
import tempfile
from pathlib import Path

import psutil
import pytest

MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 * 1024**3
_PREFIX = "ailydian-pytest-"


def use_memory() -> None:
    """Make it the temporary folder of this process and its children, where it has room.

    A test's database is hundreds of small files, made and removed again.
    """
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM_BYTES:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


def own_folder(config: pytest.Config) -> None:
    """Keep `tmp_path` out of the folder that all sessions of a user share.

    A session that starts closes that folder to other users, and with it the servers of the tests
    that run: as root, Postgres is another user. What failed stays until the next session.
    """
    if config.option.basetemp is None and not _is_worker(config):
        for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            if not psutil.pid_exists(int(left.name.removeprefix(_PREFIX))):
                shutil.rmtree(left, ignore_errors=True)
        config.option.basetemp = Path(tempfile.gettempdir(), f"{_PREFIX}{os.getpid()}")


def forget_own_folder(session: pytest.Session, exit_status: int) -> None:
    """Remove it after a session that passed."""
    given = session.config.option.basetemp
    if exit_status == 0 and not _is_worker(session.config) and _PREFIX in str(given):
        shutil.rmtree(given, ignore_errors=True)


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")
