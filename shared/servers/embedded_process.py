"""Helpers of the embedded servers: processes, wheels and socket folders.

A process counts as a folder's server when it has the server's name and works in the folder: a
recycled process id is not mistaken, and a zombie (an init that does not reap) counts as dead.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import stat
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psutil

from shared.errors import ServerUnavailable

STOP_S: Final = 30.0
POLL_S: Final = 0.01
SOCKET_PATH_BYTES_MAX: Final = 100  # sun_path holds 104 on some systems, 108 on Linux
LOG_BYTES_MAX: Final = 10_000_000


def living(folder: Path, name: str, pid_file: str) -> psutil.Process | None:
    """Return the server of this folder, or None.

    Args:
        folder: Its working directory, resolved.
        name: The name of its process.
        pid_file: The file in the folder whose first word is its process id.
    """
    try:
        process = psutil.Process(int((folder / pid_file).read_text().split()[0]))
        return process if works_in(process, folder, name) else None
    except (OSError, ValueError, IndexError, psutil.Error):
        return None


def works_in(process: psutil.Process, folder: Path, name: str) -> bool:
    """Whether the process is this server, alive."""
    try:
        # A zombie has no working directory, and a dead server waits for nobody.
        return process.name() == name and process.cwd() == str(folder)
    except psutil.Error:
        return False


def kill_leftovers(folder: Path, name: str, pid_file: str) -> None:
    """Kill a server of this folder that is not responding, and delete its pid file."""
    left = [process for process in psutil.process_iter() if works_in(process, folder, name)]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline and any(works_in(p, folder, name) for p in left):
        time.sleep(POLL_S)
    (folder / pid_file).unlink(missing_ok=True)


def end(folder: Path, name: str, pid_file: str, gently: signal.Signals) -> None:
    """Stop the folder's server, if there is one: by its own signal, else by SIGKILL."""
    process = living(folder, name, pid_file)
    if process is None:
        return
    for number in (gently, signal.SIGQUIT, signal.SIGKILL):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
        deadline = time.monotonic() + STOP_S
        while time.monotonic() < deadline:
            if not works_in(process, folder, name):
                return
            time.sleep(POLL_S)


def is_installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    return find_spec(package) is not None


def wheel(package: str) -> Path:
    """Return the folder of an installed package."""
    # Found, not imported: importing these packages makes locks and warnings of their own.
    spec = find_spec(package)
    assert spec is not None, f"{package} is installed with the extra `embedded`"
    assert spec.submodule_search_locations, f"{package} is a package"
    return Path(spec.submodule_search_locations[0])


def socket_folder(folder: Path, socket_name: str) -> Path:
    """Return the folder, or a short one if its path is too long for a socket."""
    if len(os.fsencode(folder / socket_name)) <= SOCKET_PATH_BYTES_MAX:
        return folder
    short = _short_folder(folder)
    short.mkdir(mode=0o700, exist_ok=True)
    found = short.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {os.geteuid(), folder.stat().st_uid}:
        raise ServerUnavailable(f"{short} belongs to another user: remove it and try again.")
    return short


def forget_socket_folder(folder: Path) -> None:
    """Remove the short folder, if there is one."""
    shutil.rmtree(_short_folder(folder), ignore_errors=True)


def shorten_log(log: Path) -> None:
    """Truncate a server's large log, before the server starts."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_BYTES_MAX:
            log.unlink()


def _short_folder(folder: Path) -> Path:
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    # Not TMPDIR: commands with different ones must agree, and it may be long itself.
    return Path("/tmp") / f"ailydian-{name}"  # noqa: S108 - its owner is checked
