"""Attempts whose outcome cannot be written yet, because Postgres is in trouble.

Their leases stay held, and so renewed, until it is written: a job whose lease lapses would look
like one whose worker has died, and count a crash that was none.
"""

import threading
import time
from collections.abc import Callable

import psycopg
import structlog

from shared import db
from shared.errors import ServerUnavailable
from shared.ledger.outbox import Lease
from shared.observability import outages
from workers.process.leases import HeldLeases

log = structlog.get_logger()

AGAIN_S = 1.0

Write = Callable[[], None]


class UnsettledAttempts:
    """What is still to be written, and the thread that writes it; safe to use from every thread."""

    def __init__(self, held: HeldLeases) -> None:
        self._held = held
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, int], tuple[Lease, Write]] = {}
        self._thread: threading.Thread | None = None

    def add(self, lease: Lease, write: Write) -> None:
        """Have an outcome written as soon as Postgres takes it."""
        with self._lock:
            self._waiting[lease.job_id, lease.fence] = lease, write
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="unsettled", daemon=True)
                self._thread.start()

    def __contains__(self, lease: Lease) -> bool:
        """Whether the outcome of a lease's attempt is still to be written."""
        with self._lock:
            return (lease.job_id, lease.fence) in self._waiting

    def _run(self) -> None:
        while True:
            time.sleep(AGAIN_S)
            with self._lock:
                waiting = list(self._waiting.items())
                if not waiting:
                    self._thread = None
                    return
            for key, (lease, write) in waiting:
                if not self._written(lease, write):
                    break  # the others would wait for the same
                with self._lock:
                    del self._waiting[key]

    def _written(self, lease: Lease, write: Write) -> bool:
        try:
            write()
        except ServerUnavailable as error:
            outages.note(error)
            return False
        except psycopg.Error as error:
            log.error("job.unsettled", job_id=lease.job_id, job=lease.job, error=db.sentence(error))
        self._held.forget(lease)
        return True


attempts: UnsettledAttempts | None = None


def configure(held: HeldLeases | None) -> None:
    """Keep what cannot be written with these leases; None: an actor is called without a process."""
    global attempts  # noqa: PLW0603 - one a process
    attempts = None if held is None else UnsettledAttempts(held)


def holds(lease: Lease) -> bool:
    """Whether the outcome of a lease's attempt is still to be written."""
    return attempts is not None and lease in attempts
