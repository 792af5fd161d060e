"""Temporary workers for one command, if no others run."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from producers.cli.roles import processes
from producers.errors import WorkersMissing
from producers.ledger.relay import Relay
from producers.ledger.serving import queues_served
from shared.ledger.wakeups import Wire, connect
from shared.servers import embedded
from shared.servers.embedded import Servers
from shared.settings import settings

LOG = "work.log"
LOOK_S = 2.0


@contextlib.contextmanager
def someone_works(servers: Servers, queues: Sequence[str]) -> Iterator[Callable[[], None]]:
    """Make sure that these queues are served while the block waits for jobs.

    With embedded servers, queues without workers get a relay and workers while the block runs;
    with real servers, the operator has to start them.

    Yields:
        A check to call while waiting. It raises when the workers of this block have ended, and
        starts some when those of another command, that it relied on, have ended.

    Raises:
        WorkersMissing: Real servers, and no worker serves one of the queues.
    """
    with contextlib.ExitStack() as stack:
        workforce = _Workforce(servers, queues, stack)
        workforce.look()
        yield workforce.check


class _Workforce:
    """The workers that serve a waiting command: running ones, or its own child process."""

    def __init__(
        self, servers: Servers, queues: Sequence[str], stack: contextlib.ExitStack
    ) -> None:
        self._servers = servers
        self._queues = queues
        self._stack = stack
        self._child: processes.Process | None = None
        self._look_at = 0.0

    def check(self) -> None:
        if self._child is not None:
            if self._child.poll() is not None:
                log = settings().home / LOG
                raise WorkersMissing(f"The workers ended unexpectedly; see {log}.")
        elif self._servers.embedded and time.monotonic() >= self._look_at:
            self.look()

    def look(self) -> None:
        self._look_at = time.monotonic() + LOOK_S
        served = queues_served()
        missing = [queue for queue in self._queues if queue not in served]
        if not missing:
            return
        if not self._servers.embedded:
            raise WorkersMissing(
                f"No worker serves the queue {missing[0]}: start one with `ailydian work "
                f"--queue {missing[0]}`, and `ailydian relay` where none runs."
            )
        self._stack.enter_context(_relaying(self._servers))
        # All queues: those that others serve now may lose their workers too.
        self._child = self._stack.enter_context(_working(self._queues))


@contextlib.contextmanager
def _working(queues: Sequence[str]) -> Iterator[processes.Process]:
    chosen = [part for queue in queues for part in ("--queue", queue)]
    with (settings().home / LOG).open("wb") as output:
        child = processes.start(["work", *chosen], output.fileno())
    try:
        yield child
    finally:
        child.terminate()
        child.wait()


@contextlib.contextmanager
def _relaying(servers: Servers) -> Iterator[None]:
    config = settings()
    wire = Wire(config.redis_namespace, embedded.signing_key(config))
    stop = threading.Event()
    relay = Relay(config, connect(servers.redis_url), wire)
    thread = threading.Thread(target=relay.run, args=(servers.database_url, stop), name="relay")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
