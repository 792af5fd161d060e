"""Roles as child processes that never outlive their parent. Imports little, to start fast."""

import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Sequence

import click

from producers.cli.terminal.output import Command
from shared.settings import child_command

Process = subprocess.Popen[bytes]
TimeoutExpired = subprocess.TimeoutExpired
_PR_SET_PDEATHSIG = 1


def start(role: Sequence[str], output: int | None = None) -> Process:
    """Start a role as a child process.

    Args:
        role: `relay`, `scheduler` or `work`, with its options.
        output: Where its stdout and stderr go. Default: our stderr, because our stdout is for
            the result.
    """
    target = 2 if output is None else output
    command = child_command("producers.cli", *role, "--parent", str(os.getpid()))
    # Our own interpreter and our own names, no shell.
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=target, stderr=target)  # noqa: S603


def parent_option(function: Command) -> Command:
    """Add `--parent PID` to a role: it ends when that process ends, even by SIGKILL."""
    option = click.option("--parent", type=int, hidden=True, expose_value=True, callback=_follow)
    return option(function)


def _follow(_: click.Context, __: click.Parameter, parent: int | None) -> int | None:
    if parent is not None:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before we asked
            raise SystemExit(128 + signal.SIGTERM)
    return parent


def stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM and Ctrl-C set."""
    stop = threading.Event()

    def heard(*_: object) -> None:
        # Not set here: the signal may have come while this thread holds the event's own lock.
        threading.Thread(target=stop.set).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, heard)
    return stop
