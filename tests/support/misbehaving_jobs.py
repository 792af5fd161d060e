"""Jobs that misbehave: a plugin that the acceptance tests give to their workers."""

import ctypes
import multiprocessing
import os
import re
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import ClassVar

from shared import forks
from shared.contracts import Contract
from shared.errors import PermanentError
from shared.ledger.outbox import Lease, effect
from workers.process.broker import actor
from workers.queries.operations import probes


class Pill(Contract, queue="audit"):
    """Does to its worker what `how` says."""

    time_limit_s: ClassVar[int] = 1
    how: str
    n: int = 0


class LongPill(Pill, queue="audit"):
    """One with time enough to hold its process for longer than a lease."""

    time_limit_s: ClassVar[int] = 600


@actor(Pill)
def pill(job: Pill, lease: Lease) -> None:
    """Crash, hang, loop or refuse."""
    match job.how:
        case "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        case "leave" | "leave_well":
            os._exit(0 if job.how == "leave_well" else 139)
        case "segfault":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "sleep":  # one call, which no exception interrupts
            time.sleep(3_600)
        case "hang":  # holds the interpreter's lock: no exception gets in
            re.match(r"(a+)+$", "a" * 64 + "b")
        case "loop":
            while True:
                time.sleep(0.01)
        case "refuse":
            raise PermanentError("this pill is always refused")
        case _:
            with effect(lease) as conn:
                probes.insert_entry(conn, lease.job_id, job.n)


@actor(LongPill)
def long_pill(job: LongPill, lease: Lease) -> None:
    """Do what the other one does."""
    pill(job, lease)


class Closing(Contract, queue="audit"):
    """Closes what its process prints to; the next connection may take the numbers."""


@actor(Closing)
def closing(job: Closing, lease: Lease) -> None:
    """Close stdout and stderr."""
    os.close(1)
    os.close(2)


class Forking(Contract, queue="audit"):
    """Forks; `how` says what its child does in the actor."""

    how: str


@actor(Forking)
def forking(job: Forking, lease: Lease) -> None:
    """Write the one row of the job once, whatever the child does."""
    if job.how == "pool":
        code = _by_multiprocessing()
    elif job.how == "unwind":
        with effect(lease) as conn:
            probes.insert_entry(conn, lease.job_id, 1)
            code = _forked(job.how)
        assert code == forks.EXIT_CODE
        return
    else:
        code = _forked(job.how)
    with effect(lease) as conn:  # where a child that goes on comes along too
        probes.insert_entry(conn, lease.job_id, code)


def _forked(how: str) -> int:
    """The exit code of the child, in the parent."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    match how:
        case "raise":
            raise ValueError("of the child")
        case "exit":
            sys.exit(3)
    return 0


def _by_multiprocessing() -> int:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        return pool.submit(sum, [30, 12]).result()


class Keyed(Contract, queue="maintenance"):
    """Does nothing, for a customer, at a price."""

    customer: str = ""
    weight: int = 1
    n: int = 0

    def limit_key(self) -> str:
        """The customer."""
        return self.customer

    def cost(self) -> int:
        """The price."""
        return self.weight


@actor(Keyed)
def keyed(job: Keyed, lease: Lease) -> None:
    """Write the one row of a job."""
    with effect(lease) as conn:
        probes.insert_entry(conn, lease.job_id, job.n)


class Nap(Contract, queue="maintenance"):
    """Takes its time, then writes its one row."""

    ms: int = 20
    n: int = 0


@actor(Nap)
def nap(job: Nap, lease: Lease) -> None:
    """Work for a while, so that whoever kills this process finds it at work."""
    time.sleep(job.ms / 1e3)
    with effect(lease) as conn:
        probes.insert_entry(conn, lease.job_id, job.n)
