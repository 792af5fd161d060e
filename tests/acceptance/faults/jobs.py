"""Jobs for the fault tests, and the switches that workers look at: a plugin of their workers.

Each job says in its payload whose it is, so that a row that lands with another tenant is seen.
"""

import ctypes
import os
import re
import resource
import signal
import threading
import time
from typing import ClassVar, Literal

from dramatiq.worker import _WorkerThread

from shared.contracts import Contract
from shared.errors import PermanentError
from shared.ledger.outbox import Lease, effect, publish
from tests.acceptance.faults import clock, killpoints, sqlerrors
from workers.process.broker import actor
from workers.queries.operations import probes

How = Literal["write", "plain", "refuse", "follow", "crash", "lose_thread"]


class Task(Contract, queue="audit"):
    """Takes a while, then does what `how` says."""

    time_limit_s: ClassVar[int] = 20
    attempts_max: ClassVar[int] = 20  # the faults are not its fault: it shall outlive them
    backoff_s_max: ClassVar[float] = 1.0
    how: How = "write"
    n: int = 0
    seconds: float = 0.0
    canary: str = ""


class Hungry(Contract, queue="audit"):
    """Has one attempt, in which it eats all the memory that it may."""

    attempts_max: ClassVar[int] = 1
    n: int = 0


class Endless(Contract, queue="audit"):
    """Has one attempt, one long call in C that holds the interpreter's lock."""

    time_limit_s: ClassVar[int] = 1
    attempts_max: ClassVar[int] = 1
    n: int = 0


@actor(Task)
def task(job: Task, lease: Lease) -> None:
    """Write the one row of a job, or meet a bad end."""
    if job.seconds:
        time.sleep(job.seconds)
    match job.how:
        case "plain":
            return
        case "refuse":
            raise PermanentError("this task is always refused")
        case "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        case "lose_thread":
            _end_another_thread()
    with effect(lease) as conn:
        probes.insert_entry(conn, lease.job_id, job.n)
        if job.how == "follow":
            publish(conn, Task(n=job.n, canary=job.canary))


@actor(Hungry)
def hungry(job: Hungry, lease: Lease) -> None:
    """Allocate until nothing is left."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: SIM115, PTH123
    resource.setrlimit(resource.RLIMIT_AS, (mapped + 256 * 2**20, before[1]))
    eaten = []
    try:
        while True:
            eaten.append(bytes(16 * 2**20))
    finally:
        eaten.clear()
        resource.setrlimit(resource.RLIMIT_AS, before)


@actor(Endless)
def endless(job: Endless, lease: Lease) -> None:
    """Match what takes longer than the universe lasts."""
    re.match(r"(a+)+$", "a" * 64 + "b")


def _end_another_thread() -> None:
    """Let a thread of Dramatiq's end, as an exception in a middleware would."""
    own = threading.get_ident()
    other = next(
        thread
        for thread in threading.enumerate()
        if isinstance(thread, _WorkerThread) and thread.ident != own
    )
    assert other.ident is not None
    while other.is_alive():  # where it meets a job, it ends that attempt and not the thread
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(other.ident), ctypes.py_object(SystemExit)
        )
        other.join(0.05)


killpoints.install_in_worker()
sqlerrors.install()
clock.install()
