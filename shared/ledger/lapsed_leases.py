"""Recovery of jobs whose worker is gone: counted as a crash, or returned to the outbox."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from shared.db import Connection
from shared.ids import JobId
from shared.queries.ledger import attempts
from shared.queries.ledger.dispatches import HeldJob

CRASHES_MAX = 3
AFTER_HANG_S = 2.0


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: by a signal (`SIGSEGV`) or exit code, and its peak memory.

    `stacks` holds what its threads did at that moment, as the attempt of each running job keeps it.
    """

    signal: str | None = None
    code: int | None = None
    peak_bytes: int | None = None
    stacks: Mapping[JobId, str] = field(default_factory=dict)


NOT_SEEN = Exit()


def take_back(
    conn: Connection,
    held: Sequence[HeldJob],
    *,
    crashed: Collection[JobId],
    error_type: str,
    error: str,
    ended: Exit = NOT_SEEN,
) -> tuple[int, int]:
    """Recover running jobs from a worker that is gone.

    A job that was being executed counts the crash as an attempt; the third crash makes it a dead
    letter, `poison`. Killing its process for ignoring the time limit counts as a crash too: such a
    job runs alone from then on, so that it affects no other job. A job that was only claimed
    returns without an attempt.

    Args:
        conn: A connection in the relay's role, with the jobs locked.
        held: The jobs.
        crashed: Those among them that were being executed.
        error_type: The cause: `WorkerCrashed`, `LeaseLapsed` or `TimeLimitExceeded`.
        error: The error message.
        ended: How the process ended, if known.

    Returns:
        How many wait again, and how many became dead letters.
    """
    again = buried = 0
    how = f"{error_type} {ended.signal or ended.code}"
    shape = hashlib.sha256(how.encode()).hexdigest()[:16]
    verdict = "timed_out" if error_type == "TimeLimitExceeded" else "crashed"
    for job in held:
        ending = attempts.AttemptFailure(
            job_id=job.job_id,
            fence=job.fence,
            verdict=verdict,
            error_type=error_type,
            error=error,
            traceback=ended.stacks.get(job.job_id),
            fingerprint=shape,
            signal=ended.signal,
            exit_code=ended.code,
            peak_bytes=ended.peak_bytes,
            killed=True,
        )
        poison = job.crashes + 1 >= CRASHES_MAX
        if job.job_id not in crashed:
            again += attempts.give_back(conn, [(job.job_id, job.fence)])
        elif poison or job.attempt >= job.attempts_max:
            reason = "poison" if poison else "exhausted"
            buried += attempts.bury(conn, ending, reason=reason)
        else:
            again += attempts.retry(conn, ending, delay_s=AFTER_HANG_S)
    return again, buried
