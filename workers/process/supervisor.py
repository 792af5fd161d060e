"""The supervisor: starts child processes, watches them and replaces each one alone.

A dead child costs only its running jobs: the supervisor reads from shared memory which those were,
counts a crash against them alone, returns its other jobs to their place in the queue, and starts a
new child. A child that hangs, or whose job ignores its time limit, is killed: before its leases
lapse, so that the attempt keeps where its threads were. One that has grown too large, or is told to
restart, stops when its replacement takes jobs.

SIGTERM and SIGINT stop, after a grace period. SIGHUP restarts the children one by one.
"""

import argparse
import os
import selectors
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import psycopg
import structlog

from shared import connections, db
from shared.contracts import QUEUES
from shared.db import Role
from shared.errors import ServerUnavailable, TransactionInterrupted
from shared.ids import JobId
from shared.ledger import lapsed_leases
from shared.ledger.lapsed_leases import Exit
from shared.observability import log_files, outages, telemetry
from shared.queries.ledger import attempts, dispatches, workers
from shared.servers import embedded
from shared.settings import settings
from workers.process import child_process, signals
from workers.process.child_process import ChildProcess
from workers.process.leases import slot_name
from workers.process.signals import Bell
from workers.sandbox_probe import forbid_dumps

log = structlog.get_logger()

LOOK_S = 0.5
OVERTIME_S = 5.0
SILENT_S = 30.0
# Of a lease, for a process that runs jobs: at the last sign of life two thirds of it were left.
SILENT_SHARE = 0.6
# For a process to write where its threads are, before it is killed; longer where it is still at it.
STACKS_S, STACKS_S_MAX = 0.2, 2.0
AFTER_GRACE_S = 5.0
STALLED_S = 5.0
SECOND_LOOK_S = 2.0
RESTART_S_MIN, RESTART_S_MAX = 0.1, 5.0
PROCESSES_MAX = 256


@dataclass(frozen=True, slots=True)
class Orphan:
    """Jobs that a dead child may have left behind; checked from `at` on, monotonic seconds."""

    worker_id: str
    doing: frozenset[JobId]
    kind: str
    ended: Exit
    silent_s: float | None = None
    at: float = 0.0
    again: bool = False

    @property
    def error(self) -> str:
        """The cause, for a person."""
        if self.kind == "TimeLimitExceeded":
            return "The job ignored its time limit, so its process was stopped."
        if self.silent_s is not None:
            return (
                f"The worker process gave no sign of life for {self.silent_s:.1f} s, so it was "
                "stopped: one call may have held the interpreter's lock."
            )
        signal_or_code = self.ended.signal and f"signal {self.ended.signal}"
        return f"The worker process died: {signal_or_code or f'exit code {self.ended.code}'}."


class Supervisor:
    """Keeps a number of children on the same queues."""

    def __init__(
        self, queues: Sequence[str], threads: int, *, grace_s: float, lease_s: float
    ) -> None:
        self._queues = queues
        self._threads = threads
        self._grace_s = grace_s
        self._silent_s = min(SILENT_S, SILENT_SHARE * lease_s)
        self._selector = selectors.DefaultSelector()
        self._children: dict[str, ChildProcess] = {}
        self._orphans: list[Orphan] = []
        self._pause_s = RESTART_S_MIN
        self._start_at = 0.0
        self._wanted = 0
        self._stopping = False
        self._served = False
        self._misconfigured = False

    def run(self, processes: int, bell: Bell, control_fd: int | None = None) -> bool:
        """Keep the children until SIGTERM or SIGINT; then let them end.

        Ends at once where the first child finds a setting or a plugin wrong: no other would start.

        Args:
            processes: How many.
            bell: Receives signals.
            control_fd: A pipe whose lines change the number; its end stops everything.

        Returns:
            Whether the children could start.
        """
        self._wanted = processes
        self._selector.register(bell.fd, selectors.EVENT_READ)
        if control_fd is not None:
            os.set_blocking(control_fd, False)
            self._selector.register(control_fd, selectors.EVENT_READ)
        self._balance()
        while self._children or not self._stopping:
            began = time.monotonic()
            events = self._selector.select(LOOK_S)
            stalled = time.monotonic() - began > STALLED_S
            for key, _ in events:
                if key.fd == bell.fd:
                    self._obey(bell.received())
                elif key.fd == control_fd:
                    self._resize(control_fd)
                elif key.data in self._children:
                    self._read_pipe(self._children[key.data], key.fd)
            self._look(stalled=stalled)
            self._release_orphaned()
            self._balance()
        return not self._misconfigured

    def _obey(self, received: set[signal.Signals]) -> None:
        if received & signals.STOPS:
            self._stopping = True
        elif signal.SIGHUP in received:
            log.info("supervisor.restarting", children=len(self._children))
            for child in self._children.values():
                child.worn = True

    def _resize(self, control_fd: int) -> None:
        """Read the wanted number of processes; the pipe's end means that its writer is gone."""
        lines = os.read(control_fd, 65_536).split()
        if not lines:
            self._selector.unregister(control_fd)
            self._stopping = True
        elif lines[-1].isdigit():
            self._wanted = min(int(lines[-1]), PROCESSES_MAX)

    def _balance(self) -> None:
        """Start missing children, stop surplus ones; one more while a worn one is replaced."""
        if self._stopping:
            for child in self._children.values():
                child.retire()
            return
        staying = [child for child in self._children.values() if child.ending_at is None]
        worn = [child for child in staying if child.worn]
        # One at a time: the next is replaced when the last has ended, its running jobs too.
        one_more = bool(worn) and len(staying) == len(self._children)
        while len(staying) < self._wanted + one_more and time.monotonic() >= self._start_at:
            staying.append(self._start())
        surplus = len(staying) - self._wanted - one_more
        if surplus > 0:
            # Those that do not work yet first, then the youngest: they have the least to lose.
            for child in sorted(staying, key=lambda one: (one.ready, -one.started_at))[:surplus]:
                child.retire()
        elif worn and sum(child.ready for child in staying) > self._wanted:
            worn[0].retire()

    def _start(self) -> ChildProcess:
        child = child_process.start(self._queues, self._threads)
        self._children[child.worker_id] = child
        self._selector.register(child.pulse, selectors.EVENT_READ, child.worker_id)
        self._selector.register(child.exit_fd, selectors.EVENT_READ, child.worker_id)
        return child

    def _read_pipe(self, child: ChildProcess, descriptor: int) -> None:
        if descriptor == child.exit_fd:
            self._bury(child)
            return
        said = child.pulse.read(4096)
        if not said:
            self._selector.unregister(child.pulse)  # it closed the pipe: its exit follows
            return
        child.heartbeat_at = time.monotonic()
        if signals.READY in said:
            child.ready = self._served = True
            self._pause_s = RESTART_S_MIN
        if signals.WORN in said:
            child.worn = True
        if signals.BROKEN in said and child.ending_at is None:
            child.ending_at = time.monotonic()

    def _look(self, *, stalled: bool) -> None:
        now = time.monotonic()
        for child in self._children.values():
            if stalled:  # we were stopped ourselves, and most likely they were too
                child.heartbeat_at = now
                continue
            if child.doomed_at is not None:
                asked_s = now - child.doomed_at
                if asked_s > (STACKS_S if child.has_written_stacks() else STACKS_S_MAX):
                    child.kill()
                continue
            running = child.slots.read()
            silent_s = now - child.heartbeat_at
            if late := [doing.job_id for doing in running if doing.deadline + OVERTIME_S < now]:
                child.overdue = tuple(late)
                log.error("worker.overtime", worker=child.worker_id, jobs=child.overdue)
                child.doom()
            elif child.ending_at is not None:  # what it returns may have to wait for Postgres
                if now - child.ending_at > self._grace_s + AFTER_GRACE_S:
                    child.outstayed = True
                    child.kill()
            elif silent_s > (self._silent_s if running else SILENT_S):
                log.error("worker.silent", worker=child.worker_id, silent_s=round(silent_s, 1))
                child.overdue = tuple(doing.job_id for doing in running if doing.deadline < now)
                child.silent_s = silent_s
                child.doom()

    def _bury(self, child: ChildProcess) -> None:
        del self._children[child.worker_id]
        for watched in (child.pulse, child.exit_fd):
            if watched in self._selector.get_map():
                self._selector.unregister(watched)
        ended = child.reap()
        lived = time.monotonic() - child.started_at
        if ended.code == signals.MISCONFIGURED and not self._served:
            self._misconfigured = self._stopping = True  # so will every other one be
        if not child.ready and child.ending_at is None:
            # It cannot even start: do not burn a core on trying.
            self._start_at = time.monotonic() + self._pause_s
            self._pause_s = min(self._pause_s * 2, RESTART_S_MAX)
        doing = frozenset(child.overdue or (job.job_id for job in child.slots.read()))
        if ended.code == 0 and not doing:
            return  # it has given everything back itself
        if child.outstayed or ended.code in (signals.THREAD_DEAD, signals.UNSETTLED):
            doing = frozenset()  # what it did not end goes back uncounted
        if ended.code == 0 and child.ending_at is not None:
            # Told to stop, with jobs that outlasted its grace: it has given those back itself. One
            # that ended the process with code 0 is still held, and counts its crash.
            log.info("worker.left_running", worker=child.worker_id, jobs=sorted(doing))
        elif child.ending_at is None or child.ready:
            names = {"signal": ended.signal, "code": ended.code, "peak_bytes": ended.peak_bytes}
            log.error("worker.died", worker=child.worker_id, **names, lived_s=round(lived, 1))
        kind = "TimeLimitExceeded" if child.overdue else "WorkerCrashed"
        self._orphans.append(Orphan(child.worker_id, doing, kind, ended, child.silent_s))

    def _release_orphaned(self) -> None:
        """Return the jobs of dead children; those that fail now, at the next tick."""
        now = time.monotonic()
        for orphan in [one for one in self._orphans if one.at <= now]:
            try:
                self._release(orphan)
            except TransactionInterrupted:
                log.warning("worker.still_locked", worker=orphan.worker_id)
                return
            except (ServerUnavailable, psycopg.Error) as error:
                outages.note(error)
                return
            self._orphans.remove(orphan)
            if not orphan.again:
                # A claim that was on its way when its process died may have committed meanwhile.
                later = replace(orphan, doing=frozenset(), at=now + SECOND_LOOK_S, again=True)
                self._orphans.append(later)

    def _release(self, orphan: Orphan) -> None:
        with db.transaction(None, role=Role.RELAY, first=dispatches.WAIT_BRIEFLY) as conn:
            held = dispatches.select_held(conn, orphan.worker_id)
            ids = {slot_name(one.job_id): one.job_id for one in held}
            named = {ids.get(name, name): text for name, text in orphan.ended.stacks.items()}
            lapsed_leases.take_back(
                conn,
                held,
                crashed={ids.get(name, name) for name in orphan.doing},
                error_type=orphan.kind,
                error=orphan.error,
                ended=replace(orphan.ended, stacks=named),
            )
            attempts.add_stacks(conn, orphan.worker_id, named)
            workers.delete_process(conn, orphan.worker_id)
        if held:
            crashed = len(orphan.doing)
            log.warning("worker.released", worker=orphan.worker_id, held=len(held), crashed=crashed)


def main(arguments: Sequence[str] | None = None) -> None:
    """Supervise workers; see `--help`."""
    parser = argparse.ArgumentParser(prog="workers.process.supervisor", description=__doc__)
    parser.add_argument("--queue", action="append", choices=QUEUES, help="default: all")
    parser.add_argument("--processes", type=int, default=settings().processes)
    parser.add_argument("--threads", type=int, default=settings().threads)
    parser.add_argument("--control-fd", type=int, help="a pipe that says how many processes")
    options = parser.parse_args(arguments)
    log_files.guard_output()
    # On a terminal SIGHUP means that it was closed: then nobody is left to stop us later.
    restarts = () if os.isatty(0) else (signal.SIGHUP,)
    bell = Bell(*signals.STOPS, *restarts)
    forbid_dumps()
    telemetry.configure(settings().log_level)
    with embedded.use(settings()) as servers:
        db.open_pool(
            servers.database_url,
            size=connections.SUPERVISOR,
            prepared_statements=settings().prepared_statements,
        )
        try:
            supervisor = Supervisor(
                options.queue or QUEUES,
                options.threads,
                grace_s=settings().grace_s,
                lease_s=settings().lease_s,
            )
            sound = supervisor.run(options.processes, bell, options.control_fd)
        finally:
            db.close_pool()
    sys.exit(0 if sound else 1)


if __name__ == "__main__":
    main()
