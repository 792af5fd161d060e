"""Jobs that take their time or wear their worker out: a plugin for tests of the supervisor."""

import os
import signal
import threading
import time
from typing import ClassVar

from shared.contracts import Contract
from shared.ledger.outbox import Lease, effect
from workers.process.broker import actor
from workers.queries.operations import probes

hoard: list[bytes] = []


class Chore(Contract, queue="audit"):
    """Takes `takes_s`, writes one row, and leaves its process as `how` says."""

    time_limit_s: ClassVar[int] = 60
    how: str = "well"
    takes_s: float = 0.0
    n: int = 0


@actor(Chore)
def chore(job: Chore, lease: Lease) -> None:
    """Work, and do to the process what was asked."""
    if job.how == "crash":
        _touch(80)
        os.kill(os.getpid(), signal.SIGSEGV)
    if job.how == "exit":
        os._exit(3)
    if job.how == "exit_well":
        os._exit(0)
    time.sleep(job.takes_s)
    if job.how == "grow":
        _touch(120)
    with effect(lease) as conn:
        probes.insert_entry(conn, lease.job_id, job.n)
    if job.how == "lose_thread":
        # What a message of an unknown queue does to Dramatiq: an error outside of its `try`.
        threading.current_thread().work_queue = None  # type: ignore[attr-defined]


def _touch(megabytes: int) -> None:
    hoard.append(b"\1" * (megabytes * 1024 * 1024))
