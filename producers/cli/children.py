"""Starting roles as child processes that never outlive their parent."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import click

from producers.cli.failures import WorkersMissing
from producers.cli.output import Command
from producers.cli.session import queues_served
from producers.relay import Relay
from shared import embedded
from shared.broker import Wire, connect
from shared.embedded import Servers
from shared.settings import settings

Process = subprocess.Popen[bytes]
TimeoutExpired = subprocess.TimeoutExpired
LOG = "work.log"
_PR_SET_PDEATHSIG = 1


def start(role: Sequence[str], output: IO[bytes] | int | None = None) -> Process:
    """Start a role of this command line as a child.

    Args:
        role: `relay`, `scheduler` or `work`, with its options.
        output: Where its stdout and stderr go; by default both to our stderr, for our own stdout
            belongs to the answer.
    """
    target = 2 if output is None else output
    command = [sys.executable, "-m", "producers.cli", *role, "--parent", str(os.getpid())]
    # Our own interpreter and our own names, no shell.
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=target, stderr=target)  # noqa: S603


def parent_option(function: Command) -> Command:
    """Give a role `--parent PID`: it ends when that process does, however that ends."""
    option = click.option("--parent", type=int, hidden=True, expose_value=True, callback=_follow)
    return option(function)


def _follow(_: click.Context, __: click.Parameter, parent: int | None) -> int | None:
    if parent is not None:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before we asked
            raise SystemExit(128 + signal.SIGTERM)
    return parent


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and Ctrl-C set from now on."""
    stop = threading.Event()

    def heard(*_: object) -> None:
        # Not set here: the signal may have come while this thread holds the event's own lock.
        threading.Thread(target=stop.set).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, heard)
    return stop


@contextlib.contextmanager
def someone_works(servers: Servers, queues: Sequence[str]) -> Iterator[Callable[[], None]]:
    """Make sure that jobs of these queues are done while the block waits for them.

    With embedded servers the queues that nobody serves get a relay and workers for the time of
    the block; with real ones that is for people to do.

    Yields:
        A check to call while waiting; it raises when the workers of this block have gone.

    Raises:
        WorkersMissing: Real servers, and no worker of one of the queues.
    """
    missing = [queue for queue in queues if queue not in queues_served()]
    if not missing:
        yield lambda: None
        return
    if not servers.embedded:
        raise WorkersMissing(
            f"No worker serves the queue {missing[0]}: start one with `ailydian work "
            f"--queue {missing[0]}`, and `ailydian relay` where none runs."
        )
    log = settings().home / LOG
    with _relaying(servers), log.open("wb") as output:
        chosen = [part for queue in missing for part in ("--queue", queue)]
        child = start(["work", *chosen], output.fileno())
        try:
            yield lambda: _still_alive(child, log)
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


def _still_alive(child: Process, log: Path) -> None:
    if child.poll() is not None:
        raise WorkersMissing(f"The workers ended by themselves; {log} says why.")
