"""What follows from a failed attempt: how long to wait, and which failures are the same one."""

import hashlib
import re
from collections.abc import Sequence
from random import Random

BACKOFF_BASE_S = 2.0
BACKOFF_FACTOR = 3.0
BACKOFF_MAX_S = 1_200.0

_VARIES = re.compile(r"0x[0-9a-f]+|[0-9a-f]{8}-[0-9a-f-]{27}|'[^']*'|\"[^\"]*\"|\d+")


def backoff_s(attempt: int, rng: Random) -> float:
    """Seconds to wait after an attempt failed: exponential, capped, with jitter of 15 %.

    Eight attempts fall within an hour: 2, 6, 18, 54, 162, 486 and 1,200 seconds apart.

    Args:
        attempt: The attempt that failed, 1-based.
        rng: Source of the jitter, which keeps jobs that failed together from returning together.
    """
    wait = min(BACKOFF_BASE_S * BACKOFF_FACTOR ** min(attempt - 1, 40), BACKOFF_MAX_S)
    return wait * rng.uniform(0.85, 1.15)


def fingerprint(error_type: str, frames: Sequence[str], message: str) -> str:
    """A short name for "the same failure": error type, where it arose, the message's shape.

    Args:
        error_type: Name of the exception class.
        frames: Innermost last, as `file:function`; the last three count.
        message: The error's text; numbers, ids and quoted parts do not count.

    Returns:
        16 hex digits.
    """
    shape = _VARIES.sub("*", message)[:200]
    text = "\n".join([error_type, *frames[-3:], shape])
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]
