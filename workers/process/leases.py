"""The leases of this process: those to renew, and the job that each thread runs.

The slots are shared memory that the supervisor reads when a process has died or hangs: they name
the jobs that were really running, so that only those count a crash.
"""

import hashlib
import mmap
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from dramatiq.threading import raise_thread_exception

from shared.ids import JobId
from shared.ledger.outbox import Lease

SLOTS = 256
# How long a job waits to run alone, by the number of its crashes.
ALONE_WAIT_S = (0.0, 2.0, 5.0)
# How long others wait for a job that runs alone.
BESIDE_WAIT_S = 5.0
_NAME_BYTES = 64
_SLOT = struct.Struct(f"<dQ{_NAME_BYTES}s")
SLOTS_BYTES = SLOTS * _SLOT.size


class Overdue(BaseException):
    """Raised inside a thread whose job has passed its time limit; actors do not catch it."""


class JobCancelled(BaseException):
    """Raised inside a thread whose job was cancelled: nothing it still does would count."""


@dataclass(frozen=True, slots=True)
class RunningJob:
    """One thread's job, as the supervisor sees it; `deadline` is on the monotonic clock.

    What it reads is the job's `slot_name`: its id, unless that is a long one.
    """

    job_id: JobId
    deadline: float
    thread: int


def slot_name(job_id: JobId) -> JobId:
    """What a slot calls a job: by its id, or by a hash of one that is too long for a slot."""
    named = job_id.encode()
    if len(named) <= _NAME_BYTES:
        return job_id
    return JobId(hashlib.sha256(named).hexdigest())


class Slots:
    """The running jobs, one slot a thread, readable by another process."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory

    def write(self, slot: int, job: RunningJob) -> None:
        """Note that this slot's thread has started a job."""
        values = job.deadline, job.thread, slot_name(job.job_id).encode()
        _SLOT.pack_into(self._memory, slot * _SLOT.size, *values)

    def clear(self, slot: int) -> None:
        """Note that this slot's thread is idle."""
        _SLOT.pack_into(self._memory, slot * _SLOT.size, 0.0, 0, b"")

    def read(self) -> list[RunningJob]:
        """The jobs running now."""
        rows = (_SLOT.unpack_from(self._memory, slot * _SLOT.size) for slot in range(SLOTS))
        return [
            RunningJob(JobId(job_id.rstrip(b"\0").decode(errors="replace")), deadline, thread)
            for deadline, thread, job_id in rows
            if deadline
        ]


class HeldLeases:
    """The leases of this process, from claim to end; safe to use from every thread."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._lock = threading.Lock()
        # By the job and the fence it was claimed with: the lease as it stands now.
        self._held: dict[tuple[JobId, int], Lease] = {}
        self._free = list(range(SLOTS - 1, -1, -1))
        self._deadlines: dict[int, float] = {}
        self._threads: dict[JobId, tuple[int, int]] = {}
        self._done = 0
        self._turn = threading.Condition()
        self._together = 0
        self._waiting_alone = 0
        self._alone = 0

    def take(self, leases: Sequence[Lease]) -> None:
        """Note leases that were just claimed."""
        with self._lock:
            self._held.update((_key(lease), lease) for lease in leases)

    def drop(self, leases: Sequence[Lease]) -> None:
        """Forget leases: the jobs ended, or were given back."""
        with self._lock:
            for lease in leases:
                self._held.pop(_key(lease), None)

    def forget(self, now: Lease) -> None:
        """Forget a lease as `now` returns it."""
        with self._lock:
            gone = [key for key, lease in self._held.items() if _key(lease) == _key(now)]
            for key in gone:
                del self._held[key]

    def all(self) -> list[tuple[JobId, int]]:
        """Everything held, as (job id, fence), ordered as rows are locked."""
        with self._lock:
            return sorted(_key(lease) for lease in self._held.values())

    def now(self, lease: Lease) -> Lease:
        """A lease that was claimed, as it stands now: its job may have gone on since."""
        with self._lock:
            return self._held.get(_key(lease), lease)

    @contextmanager
    def running(self, leases: Sequence[Lease], *, limit_s: float) -> Iterator[None]:
        """Mark these jobs as running: visible to the supervisor, alone if one has crashed before.

        A job whose attempt ended in a crash is suspect: while it runs, nothing else does, so a
        second crash is counted against it and not against its neighbours. Beside long jobs it
        waits `ALONE_WAIT_S` at most, by its crashes: the job may not have caused the crash.
        """
        crashes = max((lease.crashes for lease in leases), default=0)
        alone_s = ALONE_WAIT_S[min(crashes, len(ALONE_WAIT_S) - 1)]
        self._enter(alone_s)
        deadline, me = time.monotonic() + limit_s, threading.get_ident()
        taken: list[int] = []
        with self._lock:
            for lease in leases[: len(self._free)]:
                taken.append(self._free.pop())
                self._slots.write(taken[-1], RunningJob(lease.job_id, deadline, me))
                self._threads[lease.job_id] = me, taken[-1]
            self._deadlines[me] = deadline
        try:
            yield
        finally:
            with self._lock:
                self._deadlines.pop(me, None)
                for lease in leases:
                    self._threads.pop(lease.job_id, None)
                for slot in taken:
                    self._slots.clear(slot)
                self._free.extend(taken)
                self._done += len(leases)
            self._leave(alone_s > 0)

    def goes_on(self, lease: Lease, now: Lease, *, limit_s: float) -> None:
        """Note that the job of a claimed lease goes on with a lease `now`.

        That one is renewed, and by it the attempt is settled should it fail; `limit_s` seconds
        from here it has to end.
        """
        deadline = time.monotonic() + limit_s
        with self._lock:
            self._held[_key(lease)] = now
            thread, slot = self._threads.get(lease.job_id, (None, None))
            if thread is not None and slot is not None:
                self._deadlines[thread] = deadline
                self._slots.write(slot, RunningJob(lease.job_id, deadline, thread))

    def interrupt_cancelled(self, job_ids: Sequence[JobId]) -> None:
        """Raise `JobCancelled` in each thread that does one of these jobs by itself."""
        with self._lock:
            for job_id in job_ids:
                thread, _ = self._threads.pop(job_id, (None, 0))
                if thread is not None and self._deadlines.pop(thread, None) is not None:
                    raise_thread_exception(thread, JobCancelled)

    @property
    def busy(self) -> int:
        """The number of threads that run a job now."""
        return len(self._deadlines)

    @property
    def done(self) -> int:
        """The number of attempts that have ended in this process, whatever the outcome."""
        return self._done

    def interrupt_overdue(self) -> int:
        """Raise `Overdue` in each thread whose job has passed its limit. Returns how many."""
        with self._lock:
            late = [ident for ident, at in self._deadlines.items() if at < time.monotonic()]
            for ident in late:
                del self._deadlines[ident]
                raise_thread_exception(ident, Overdue)
        return len(late)

    def _enter(self, alone_s: float) -> None:
        with self._turn:
            if alone_s:
                self._waiting_alone += 1
                self._turn.wait_for(lambda: not self._alone and not self._together, alone_s)
                self._turn.wait_for(lambda: not self._alone, alone_s)
                self._waiting_alone -= 1
                self._alone += 1
            else:
                # A long-running suspect must not block the others.
                self._turn.wait_for(
                    lambda: not self._alone and not self._waiting_alone, BESIDE_WAIT_S
                )
                self._together += 1

    def _leave(self, alone: bool) -> None:
        with self._turn:
            if alone:
                self._alone -= 1
            else:
                self._together -= 1
            if alone or not self._together:
                self._turn.notify_all()


def _key(lease: Lease) -> tuple[JobId, int]:
    return lease.job_id, lease.fence
