"""The supervisor: child processes, each replaced alone, and told the truth about when it dies.

One dead child costs what it was doing and nothing else: the supervisor reads from shared memory
which jobs that was, counts a crash against those alone, puts the others back in their place, and
starts a new child. A child that hangs, or whose job ignores its time limit, is killed.
"""

import argparse
import mmap
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

import structlog

from shared import db, embedded, leases, telemetry
from shared.contracts import QUEUES
from shared.db import Role
from shared.errors import ServerUnavailable
from shared.ids import JobId
from shared.queries import flights, workers
from shared.settings import child_environment, settings
from workers.holding import SLOTS_BYTES, Slots

log = structlog.get_logger()

LOOK_S = 0.5
OVERTIME_S = 5.0
SILENT_S = 30.0
RESTART_S_MIN, RESTART_S_MAX = 0.1, 5.0
STEADY_S = 10.0


@dataclass(slots=True)
class Child:
    """One worker process and how we watch it."""

    worker_id: str
    process: subprocess.Popen[bytes]
    slots: Slots
    pulse: IO[bytes]
    exit_fd: int
    started_at: float
    heard_at: float
    overdue: tuple[JobId, ...] = ()


class Supervisor:
    """Keeps `processes` children on the same queues."""

    def __init__(self, queues: Sequence[str], threads: int) -> None:
        self._queues = queues
        self._threads = threads
        self._selector = selectors.DefaultSelector()
        self._children: dict[str, Child] = {}
        self._orphaned: list[tuple[str, frozenset[JobId], str, str]] = []
        self._pause_s = RESTART_S_MIN
        self._stopping = False

    def run(self, processes: int) -> None:
        """Start the children and keep them until SIGTERM or SIGINT; then let them end."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        for _ in range(processes):
            self._start()
        while self._children:
            for key, _ in self._selector.select(LOOK_S):
                if key.data in self._children:
                    self._hear(self._children[key.data], key.fd)
            self._look()
            self._release_orphaned()
            missing = 0 if self._stopping else processes - len(self._children)
            for _ in range(missing):
                self._start()
        self._release_orphaned()

    def _stop(self, *_: object) -> None:
        self._stopping = True
        for child in self._children.values():
            child.process.terminate()

    def _start(self) -> None:
        worker_id = f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}"
        ours, theirs = os.pipe()
        with tempfile.TemporaryFile() as file:
            file.truncate(SLOTS_BYTES)
            slots = Slots(mmap.mmap(file.fileno(), SLOTS_BYTES))
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [
                    *(sys.executable, "-m", "workers.main", "--worker-id", worker_id),
                    *("--queues", ",".join(self._queues), "--threads", str(self._threads)),
                    *("--slots-fd", str(file.fileno()), "--pulse-fd", str(theirs)),
                ],
                pass_fds=(file.fileno(), theirs),
                # Threads are ours to count: BLAS starting more of them only burns the cores.
                env=child_environment(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1"),
            )
        os.close(theirs)
        now = time.monotonic()
        child = Child(
            worker_id=worker_id,
            process=process,
            slots=slots,
            pulse=os.fdopen(ours, "rb", buffering=0),
            exit_fd=os.pidfd_open(process.pid),
            started_at=now,
            heard_at=now,
        )
        self._children[worker_id] = child
        self._selector.register(child.pulse, selectors.EVENT_READ, worker_id)
        self._selector.register(child.exit_fd, selectors.EVENT_READ, worker_id)

    def _hear(self, child: Child, descriptor: int) -> None:
        if descriptor == child.exit_fd:
            self._bury(child)
        elif child.pulse.read(4096):
            child.heard_at = time.monotonic()
        else:
            self._selector.unregister(child.pulse)  # it closed the pipe: its exit follows

    def _look(self) -> None:
        now = time.monotonic()
        for child in self._children.values():
            late = [doing for doing in child.slots.read() if doing.deadline + OVERTIME_S < now]
            if late and not child.overdue:
                child.overdue = tuple(doing.job_id for doing in late)
                log.error("worker.overtime", worker=child.worker_id, jobs=child.overdue)
                child.process.kill()
            elif now - child.heard_at > SILENT_S:
                log.error("worker.silent", worker=child.worker_id, silent_s=SILENT_S)
                child.process.kill()

    def _bury(self, child: Child) -> None:
        code = child.process.wait()
        del self._children[child.worker_id]
        for watched in (child.pulse, child.exit_fd):
            if watched in self._selector.get_map():
                self._selector.unregister(watched)
        child.pulse.close()
        os.close(child.exit_fd)
        if self._stopping and code == 0:
            return
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        lived = time.monotonic() - child.started_at
        log.error("worker.died", worker=child.worker_id, how=how, lived_s=round(lived, 1))
        doing = frozenset(child.overdue or (job.job_id for job in child.slots.read()))
        kind = "TimeLimitExceeded" if child.overdue else "WorkerCrashed"
        self._orphaned.append((child.worker_id, doing, kind, how))
        if lived < STEADY_S:
            # It cannot even start: do not burn a core on trying.
            time.sleep(self._pause_s)
            self._pause_s = min(self._pause_s * 2, RESTART_S_MAX)
        else:
            self._pause_s = RESTART_S_MIN

    def _release_orphaned(self) -> None:
        """Give back what dead children held; while Postgres is away, at the next look."""
        while self._orphaned:
            worker_id, doing, kind, how = self._orphaned[0]
            error = (
                "The job ignored its time limit, so its process was stopped."
                if kind == "TimeLimitExceeded"
                else f"The worker process died: {how}."
            )
            try:
                with db.transaction(None, role=Role.RELAY) as conn:
                    held = flights.select_held(conn, worker_id)
                    leases.take_back(conn, held, crashed=doing, error_type=kind, error=error)
                    workers.delete_process(conn, worker_id)
            except ServerUnavailable as unavailable:
                log.warning("postgres.away", error=str(unavailable))
                return
            log.warning("worker.released", worker=worker_id, held=len(held), crashed=len(doing))
            self._orphaned.pop(0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Supervise workers; see `--help`."""
    parser = argparse.ArgumentParser(prog="workers.supervisor", description=__doc__)
    parser.add_argument("--queue", action="append", choices=QUEUES, help="default: all")
    parser.add_argument("--processes", type=int, default=settings().processes)
    parser.add_argument("--threads", type=int, default=settings().threads)
    options = parser.parse_args(arguments)
    telemetry.configure(settings().log_level)
    with embedded.use(settings()) as servers:
        db.open_pool(
            servers.database_url, size=2, prepared_statements=settings().prepared_statements
        )
        try:
            Supervisor(options.queue or QUEUES, options.threads).run(options.processes)
        finally:
            db.close_pool()


if __name__ == "__main__":
    main()
