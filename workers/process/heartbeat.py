"""The heartbeat of a worker process: leases, time limits, its row, and its threads' health."""

import threading
import time
from collections.abc import Mapping

import dramatiq
import psutil
import psycopg
import redis
import structlog

from shared import db, forks
from shared.db import Role
from shared.errors import ServerUnavailable
from shared.ids import JobId
from shared.ledger.wakeups import AWAY
from shared.models import spending
from shared.observability import outages
from shared.queries.ledger import outbox, workers
from shared.queries.ledger.workers import Process
from shared.server_errors import REDIS
from shared.settings import Settings
from workers import sandbox_level
from workers.process import signals
from workers.process.broker import Runtime
from workers.process.strays import Strays

log = structlog.get_logger()

SEEN_EVERY_S = 2.0
TELL_S = 0.5
END_S = 2.0
_MB = 1024 * 1024


class Heartbeat:
    """The periodic duties of a worker process.

    The main thread tells the supervisor that the process lives and enforces time limits; a thread
    of its own speaks to the servers, so that one that hangs never makes the process silent.
    """

    def __init__(
        self,
        worker: dramatiq.Worker,
        runtime: Runtime,
        process: Process,
        client: redis.Redis,
        pulse_fd: int | None,
    ) -> None:
        self._worker = worker
        self._runtime = runtime
        self._process = process
        self._client = client
        self._pulse_fd = pulse_fd
        self._us = psutil.Process()
        self._renewed_at = time.monotonic()
        self._seen_at = 0.0
        self._worn = False
        self._strays = Strays(runtime.held, process.id)
        self._errors = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_ledger, name="heartbeat", daemon=True)
        self.told = False
        self.stopping = False
        self.orphaned = False

    def tick(self, config: Settings) -> None:
        """Send a heartbeat to the supervisor, enforce time limits, look for wear."""
        forks.end_fork_of(self._process.pid)
        self.send(signals.ALIVE)
        self._runtime.held.interrupt_overdue()
        try:
            self._look_for_wear(config)
        except (OSError, psutil.Error) as error:
            log.warning("figures.missing", error=str(error))

    def start(self) -> None:
        """Start the thread that renews leases and updates our row; then `told` is true."""
        self._thread.start()

    def end(self) -> None:
        """End that thread: it writes our row no more, unless Postgres keeps it waiting."""
        self._ended.set()
        self._thread.join(END_S)

    def _keep_ledger(self) -> None:
        while not self._ended.is_set():
            self._tell()
            self._ended.wait(TELL_S)

    def _tell(self) -> None:
        now = time.monotonic()
        try:
            # Leases first: nothing that can take time stands before them.
            if now - self._renewed_at >= self._runtime.lease_s / 3:
                self._renew()
                self._renewed_at = now  # only now: a renewal that failed is tried at the next tick
            if now - self._seen_at >= SEEN_EVERY_S:
                self._seen_at = now
                self._tell_ledger(self._figures())
                self.told = True
                spending.flush()
            self._look_for_strays()
        except (ServerUnavailable, psycopg.Error) as error:
            outages.note(error)
        except (OSError, psutil.Error) as error:  # out of files: no figure is worth a process
            log.warning("figures.missing", error=str(error))

    def _look_for_strays(self) -> None:
        errors = outages.errors()
        if errors != self._errors:  # of any thread: its claim may have been the one
            self._strays.expect()
            self._errors = errors
        self._strays.give_back()

    def send(self, what: bytes) -> None:
        """Send one byte to the supervisor, if there is one."""
        if not signals.send(self._pulse_fd, what):
            self.orphaned = True  # killed, before or after we asked to be told

    def dead_threads(self) -> list[str]:
        """The threads that have died: of the jobs, the queues, the completion."""
        ours = [*self._worker.workers, *self._worker.consumers.values()]
        dead = [thread.name for thread in (*ours, self._thread) if not thread.is_alive()]
        if not any(thread.name == "completion" for thread in threading.enumerate()):
            dead.append("completion")
        return dead

    def _renew(self) -> None:
        held = self._runtime.held.all()
        if held:
            cancelled: list[JobId] = []
            with db.transaction(None, role=Role.RELAY, durable=False) as conn:
                stood = outbox.renew(conn, held, lease_s=self._runtime.lease_s)
                if stood < len(held):
                    cancelled = outbox.select_cancelled(conn, [job_id for job_id, _ in held])
            self._runtime.held.interrupt_cancelled(cancelled)

    def _tell_ledger(self, figures: Mapping[str, object]) -> None:
        with db.transaction(None, role=Role.RELAY, durable=False) as conn:
            workers.upsert_process(conn, self._process, figures)

    def _figures(self) -> dict[str, object]:
        held, cpu = self._runtime.held, self._us.cpu_times()
        return {
            "rssBytes": self._us.memory_info().rss,
            "cpuS": round(cpu.user + cpu.system, 2),
            "threads": self._runtime.threads,
            "threadsAlive": sum(thread.is_alive() for thread in self._worker.workers),
            "busy": held.busy,
            "held": len(held.all()),
            "done": held.done,
            "redisOk": self._redis_answers(),
            "stopping": self.stopping,
            **sandbox_level.figures(),
        }

    def _redis_answers(self) -> bool:
        try:
            self._client.ping()
        except AWAY as error:
            outages.note(error)
            return False
        outages.worked(REDIS)
        return True

    def _look_for_wear(self, config: Settings) -> None:
        if self._worn or self.stopping:
            return
        large = self._us.memory_info().rss > config.worker_rss_mb_max * _MB > 0
        old = self._runtime.held.done >= config.worker_jobs_max > 0
        if large or old:
            self._worn = True
            log.info("worker.worn", worker=self._process.id, why="memory" if large else "jobs")
            self.send(signals.WORN)
