"""What becomes of jobs whose worker is gone: counted as a crash, or simply back in their place."""

import hashlib
from collections.abc import Collection, Sequence

from shared.db import Connection
from shared.ids import JobId
from shared.queries import attempts
from shared.queries.flights import HeldJob

CRASHES_MAX = 3
AGAIN_S = 0.5


def take_back(
    conn: Connection,
    held: Sequence[HeldJob],
    *,
    crashed: Collection[JobId],
    error_type: str,
    error: str,
) -> tuple[int, int]:
    """Take running jobs back from a worker that is gone.

    A job that was being done counts the crash as an attempt; the third crash makes it a dead
    letter, `poison`. A job that was only held goes back as if nothing had happened.

    Args:
        conn: A connection in the relay's role, with the jobs locked.
        held: The jobs.
        crashed: Those among them that were really being done.
        error_type: What happened, in one word: `WorkerCrashed`, `LeaseLapsed`, `TimeLimitExceeded`.
        error: What happened, for a person.

    Returns:
        How many wait again, and how many were buried.
    """
    again = buried = 0
    shape = hashlib.sha256(error_type.encode()).hexdigest()[:16]
    verdict = "timed_out" if error_type == "TimeLimitExceeded" else "crashed"
    for job in held:
        ending = attempts.Ending(
            job.job_id, job.fence, verdict, error_type, error, None, fingerprint=shape
        )
        poison = verdict == "crashed" and job.crashes + 1 >= CRASHES_MAX
        if job.job_id not in crashed:
            again += attempts.give_back(conn, [(job.job_id, job.fence)])
        elif poison or job.attempt >= job.attempts_max:
            reason = "poison" if poison else "exhausted"
            buried += attempts.bury(conn, ending, reason=reason)
        else:
            again += attempts.retry(conn, ending, delay_s=AGAIN_S)
    return again, buried
