"""One worker process as its supervisor sees it: start, heartbeats and exit."""

import contextlib
import mmap
import os
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

from shared.ids import JobId
from shared.ledger.lapsed_leases import Exit
from shared.settings import child_command, child_environment
from workers.process import thread_stacks
from workers.process.leases import SLOTS_BYTES, Slots

_PEAK_UNIT_BYTES = 1 if sys.platform == "darwin" else 1_024  # in what the system counts its peak


@dataclass(slots=True)
class ChildProcess:
    """One worker process and its state.

    Attributes:
        worker_id: Its name in the ledger.
        ready: It takes jobs.
        worn: It asked to be replaced, or an operator did.
        ending_at: When it was told to stop, or reported that it stops; monotonic seconds.
        overdue: Jobs for whose ignored time limit it is killed.
        doomed_at: When it was asked for its stacks, to be killed; monotonic seconds.
        silent_s: For how long it had given no sign of life, where it is killed for that.
        outstayed: It was killed after its grace period: its jobs go back uncounted.
        stacks_bytes: How much of its stacks had been written at the last look.
    """

    worker_id: str
    process: subprocess.Popen[bytes]
    slots: Slots
    pulse: IO[bytes]
    exit_fd: int
    stacks_fd: int
    started_at: float
    heartbeat_at: float
    ready: bool = False
    worn: bool = False
    ending_at: float | None = None
    overdue: tuple[JobId, ...] = ()
    doomed_at: float | None = None
    silent_s: float | None = None
    outstayed: bool = False
    stacks_bytes: int = 0

    def retire(self) -> None:
        """Tell it to stop, once: repeated signals do not speed up a shutdown."""
        if self.ending_at is None:
            self.ending_at = time.monotonic()
            self.kill(signal.SIGTERM)

    def doom(self) -> None:
        """Ask for the stacks of its threads, which the jobs' attempts keep; the kill comes next."""
        self.doomed_at = time.monotonic()
        self.kill(thread_stacks.ASK)

    def has_written_stacks(self) -> bool:
        """Whether it has written its stacks, and nothing more since the last look."""
        before, self.stacks_bytes = self.stacks_bytes, os.fstat(self.stacks_fd).st_size
        return 0 < before == self.stacks_bytes

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send it a signal, unless it has just ended.

        Popen's own `kill` may reap the process, and with it the figures of its end.
        """
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.exit_fd, number)

    def reap(self) -> Exit:
        """Reap a process that has ended. Returns its exit and its peak memory."""
        _, status, usage = os.wait4(self.process.pid, 0)
        code = self.process.returncode = os.waitstatus_to_exitcode(status)
        self.pulse.close()
        os.close(self.exit_fd)
        written = thread_stacks.read(self.stacks_fd)
        os.close(self.stacks_fd)
        return Exit(
            stacks=thread_stacks.by_job(written, self.slots.read()),
            signal=_name(-code) if code < 0 else None,
            code=code if code >= 0 else None,
            peak_bytes=usage.ru_maxrss * _PEAK_UNIT_BYTES,
        )


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have none
        return f"SIG{number}"


def start(queues: Sequence[str], threads: int) -> ChildProcess:
    """Start a worker process on these queues."""
    worker_id = f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}"
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    stacks = os.memfd_create("stacks")
    with tempfile.TemporaryFile() as file:
        file.truncate(SLOTS_BYTES)
        slots = Slots(mmap.mmap(file.fileno(), SLOTS_BYTES))
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            child_command(
                *("workers.process.main", "--worker-id", worker_id),
                *("--queues", ",".join(queues), "--threads", str(threads)),
                *("--slots-fd", str(file.fileno()), "--pulse-fd", str(theirs)),
                *("--stacks-fd", str(stacks)),
            ),
            pass_fds=(file.fileno(), theirs, stacks),
            # Threads are ours to count: BLAS starting more of them only burns the cores.
            env=child_environment(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1"),
        )
    os.close(theirs)
    now = time.monotonic()
    return ChildProcess(
        worker_id=worker_id,
        process=process,
        slots=slots,
        pulse=os.fdopen(ours, "rb", buffering=0),
        exit_fd=os.pidfd_open(process.pid),
        stacks_fd=stacks,
        started_at=now,
        heartbeat_at=now,
    )
