"""How long a failed step waits for its next attempt, in workers and on the test bench."""

from shared.workflow.limits import BACKOFF_MAX_S


def retry_wait_s(attempt: int, first_s: float) -> float:
    """Seconds to the next attempt: `first_s` after the first, then doubling, capped at an hour.

    Args:
        attempt: The attempt that failed, 1-based.
        first_s: The step's own `backoff`.
    """
    return min(first_s * 2.0 ** min(attempt - 1, 40), BACKOFF_MAX_S)
