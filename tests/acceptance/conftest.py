"""A whole plant for one test: a relay, and a supervisor with its worker processes."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support import factories, misbehaving_jobs, patience, processes
from tests.support.factories import rows

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 60.0
ALIVE = """SELECT 1 FROM "WorkerProcess" WHERE "role" = 'worker'"""


class Plant:
    """Relay in a thread, workers in processes of their own, on the test's servers."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        self.database_url, self.redis_url = database_url, redis_url
        self._stop = threading.Event()
        self._relay: threading.Thread | None = None
        self._supervisors: list[subprocess.Popen[bytes]] = []

    def start_relay(self, **settings: Any) -> None:
        relay = factories.make_relay(self.redis_url, redelivery_s=1.0, **settings)
        self._relay = threading.Thread(target=relay.run, args=(self.database_url, self._stop))
        self._relay.start()

    def relay_lives(self) -> bool:
        """Whether the relay has not ended."""
        return self._relay is not None and self._relay.is_alive()

    def start_workers(
        self,
        *,
        processes: int = 2,
        threads: int = 4,
        queues: Sequence[str] = ("maintenance", "audit"),
        through: Sequence[str] = (),
        **settings: Any,
    ) -> None:
        environment = {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "AILYDIAN_SIGNING_KEY": factories.KEY.decode(),
            "AILYDIAN_PLUGINS": misbehaving_jobs.__name__,
            "AILYDIAN_LOG_LEVEL": "error",
            "AILYDIAN_LEASE_S": str(patience.patience(3)),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
        } | {f"AILYDIAN_{name.upper()}": str(value) for name, value in settings.items()}
        command = [
            *through,
            sys.executable,
            "-m",
            "workers.process.supervisor",
            "--processes",
            str(processes),
        ]
        served = [word for queue in queues for word in ("--queue", queue)]
        self._supervisors.append(
            subprocess.Popen(
                [*command, *served, "--threads", str(threads)],
                cwd=ROOT,
                env=environment,
                stderr=subprocess.DEVNULL,
            )
        )
        self.until(lambda: len(rows(ALIVE)) >= processes)

    def supervisors(self) -> list[int]:
        """Process ids of the supervisors that live now."""
        return [one.pid for one in self._supervisors if one.poll() is None]

    def workers(self) -> list[psutil.Process]:
        """The worker processes that live now."""
        found = []
        for supervisor in self._supervisors:
            if supervisor.poll() is None:
                found += psutil.Process(supervisor.pid).children()
        return [one for one in found if one.is_running() and one.status() != "zombie"]

    def stop_workers(self) -> float:
        """Tell all to stop, as a deployment does. Returns how long it took, in seconds."""
        began = time.monotonic()
        for supervisor in self._supervisors:
            supervisor.terminate()
        for supervisor in self._supervisors:
            supervisor.wait(patience.patience(PATIENCE_S))
        self._supervisors.clear()
        return time.monotonic() - began

    def until(self, true: Callable[[], object]) -> None:
        """Wait for something that must come to be."""
        patience.until(true, PATIENCE_S, tell=states)

    def close(self) -> None:
        """End everything, also what does not want to end."""
        for supervisor in self._supervisors:
            processes.end(supervisor.pid, seconds=PATIENCE_S)
            supervisor.wait()
        self._supervisors.clear()
        self._stop.set()
        if self._relay is not None:
            self._relay.join(patience.patience(PATIENCE_S))


def states() -> dict[str, int]:
    """How many jobs are in which state."""
    return dict(rows('SELECT "state", count(*) FROM "Job" GROUP BY 1'))


def all_ended() -> bool:
    """Whether every job has ended."""
    return not states().keys() & {"PENDING", "RUNNING"}


@pytest.fixture
def plant(database_url: str, redis_url: str, pool: object) -> Iterator[Plant]:
    plant = Plant(database_url, redis_url)
    try:
        yield plant
    finally:
        plant.close()
