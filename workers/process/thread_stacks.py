"""Where the threads of a worker process were when it died or was killed.

The process writes into memory that its supervisor reads afterwards: at a fatal signal, at
`os._exit`, and when the supervisor asks before it kills. Python's own faulthandler does it without
the interpreter's lock, so a loop in C that holds the lock is seen too. It writes files, lines and
functions, and no values.
"""

import faulthandler
import os
import re
import signal
from collections import Counter
from collections.abc import Sequence
from typing import Final, Never

from shared.ids import JobId
from shared.observability.redaction import redact
from workers.process.leases import RunningJob

ASK: Final = signal.SIGUSR2
BYTES_MAX: Final = 200_000
OWN_CHARS_MAX: Final = 10_000
CHARS_MAX: Final = 18_000

_THREAD: Final = re.compile(r"^(?:Current thread|Thread) 0x([0-9a-f]+)[^\n]*\n", re.MULTILINE)
_FRAME: Final = re.compile(r"^  (?:File |\.\.\.).*$", re.MULTILINE)


def write_to(descriptor: int) -> None:
    """Have this process write its stacks to `descriptor`, when it dies or is asked."""
    os.set_inheritable(descriptor, False)
    faulthandler.enable(descriptor, all_threads=True)
    faulthandler.register(ASK, descriptor, all_threads=True)
    ours, leave = os.getpid(), os._exit

    def leave_with_stacks(status: int) -> Never:
        if os.getpid() == ours:  # not in a child that was forked
            faulthandler.dump_traceback(descriptor, all_threads=True)
        leave(status)

    os._exit = leave_with_stacks


def read(descriptor: int) -> str:
    """What a process has written, up to `BYTES_MAX`."""
    return os.pread(descriptor, BYTES_MAX, 0).decode(errors="replace")


def by_job(written: str, running: Sequence[RunningJob]) -> dict[JobId, str]:
    """The stacks as each job's attempt keeps them: its own thread first, then the others.

    Args:
        written: What the process has written; empty where it could write nothing.
        running: The jobs that it ran.

    Returns:
        Nothing where nothing was written.
    """
    head, *parts = _THREAD.split(written)
    stacks = {
        int(thread, 16): "\n".join(_FRAME.findall(frames))
        for thread, frames in zip(parts[::2], parts[1::2], strict=True)
    }
    if not stacks:
        return {}
    return {
        job.job_id: redact(_told(head.strip(), stacks.get(job.thread), _others(stacks, job.thread)))
        for job in running
    }


def _others(stacks: dict[int, str], own: int) -> list[str]:
    """The stacks of the other threads, those that many threads share only once."""
    counts = Counter(stack for thread, stack in stacks.items() if thread != own and stack)
    return [
        f"{count} other thread{'s' if count > 1 else ''}:\n{stack}"
        for stack, count in sorted(counts.items(), key=lambda pair: pair[1])
    ]


def _told(head: str, own: str | None, others: list[str]) -> str:
    text = f"{head}\n" if head else ""
    text += "Stacks of all threads, most recent call first.\n\nThe job's thread:\n"
    text += (own or "  not among those written")[:OWN_CHARS_MAX]
    for other in others:
        if len(text) + len(other) > CHARS_MAX:
            return f"{text}\n\n[more threads left out]\n"
        text = f"{text}\n\n{other}"
    return f"{text}\n"
