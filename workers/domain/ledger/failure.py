"""Failed attempts: backoff, and fingerprints that group equal failures."""

import hashlib
import math
import re
from collections.abc import Sequence
from random import Random

from shared.workflow.limits import PARK_S

BACKOFF_BASE_S = 2.0
BACKOFF_FACTOR = 3.0
BACKOFF_MAX_S = 1_200.0
ASKED_MAX_S = 900.0
FRAMES = 3

# Ids, addresses, paths, quotations and numbers tell one failure from its twin: they go.
_VARIES = re.compile(
    r"'[^']*'|\"[^\"]*\"|0x[0-9a-f]+|[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{16,}"
    r"|\S+@\S+|\w+://\S+|(?<!\w)(?:/[^\s/:,]+){2,}|\d+",
    re.IGNORECASE,
)


def jittered_s(wait_s: float, rng: Random) -> float:
    """A wait in seconds, up to 15 % shorter or longer: jobs that failed together part."""
    return wait_s * rng.uniform(0.85, 1.15)


def backoff_s(attempt: int, rng: Random, *, max_s: float = BACKOFF_MAX_S) -> float:
    """Seconds to wait after an attempt failed: exponential, capped, with jitter of 15 %.

    Eight attempts fall within an hour: 2, 6, 18, 54, 162, 486 and 1,200 seconds apart.

    Args:
        attempt: The attempt that failed, 1-based.
        rng: Source of the jitter, which keeps jobs that failed together from returning together.
        max_s: The cap, before its jitter.
    """
    wait = min(BACKOFF_BASE_S * BACKOFF_FACTOR ** min(attempt - 1, 40), max_s)
    return jittered_s(wait, rng)


def retry_after_delay_s(retry_after_s: float | None, rng: Random) -> float:
    """Seconds of a `Retry-After`, clipped to [0, 900], plus up to 15 %.

    Never less: a server that asks for a minute refuses earlier requests.

    Args:
        retry_after_s: The requested delay; None or NaN counts as 0.
        rng: Source of the jitter.
    """
    if retry_after_s is None or math.isnan(retry_after_s):
        return 0.0
    return min(max(retry_after_s, 0.0), ASKED_MAX_S) * rng.uniform(1.0, 1.15)


def park_s(retry_after_s: float | None, rng: Random) -> float:
    """Seconds until a job looks again whether its quota is back: what was asked, or 2 to 4 minutes.

    Args:
        retry_after_s: When the other side thinks that it will be; None where it does not say.
        rng: Source of the jitter: of the jobs that wait together, the first to come is the probe.
    """
    asked = retry_after_delay_s(retry_after_s, rng)
    return asked if asked > 0 else PARK_S * rng.uniform(2 / 3, 4 / 3)


def fingerprint(error_type: str, frames: Sequence[str], message: str) -> str:
    """A short name for "the same failure": error type, where it arose, the message's shape.

    Args:
        error_type: Name of the exception class.
        frames: Innermost last, as `file:function`; the last three count.
        message: The error's text; numbers, ids, paths and quoted parts do not count.

    Returns:
        16 hex digits.
    """
    shape = _VARIES.sub("*", message)[:200]
    text = "\n".join([error_type, *frames[-FRAMES:], shape])
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]
