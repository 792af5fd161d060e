"""Model usage of this process that is not stored yet: requests and tokens.

`shared.models.spending` stores it, with prices from the catalogue.
"""

import re
from collections.abc import Iterable
from threading import Lock
from typing import NamedTuple

_REPORTED = re.compile(rb'"total_tokens"\s*:\s*(\d{1,15})')
_TAIL_BYTES = 512


class UsageRecord(NamedTuple):
    """The usage of one model: requests, input tokens, output tokens."""

    model: str
    requests: int
    tokens_in: int
    tokens_out: int


_lock = Lock()
_counted: dict[str, UsageRecord] = {}


def note(model: str, tokens_in: int, tokens_out: int = 0) -> None:
    """Count one answered request with its tokens, >= 0 each."""
    put_back([UsageRecord(model, 1, tokens_in, tokens_out)])


def tokens_of(content: bytes, *, estimate: int) -> int:
    """Return the tokens reported at the end of a response, or the estimate if missing."""
    reported = _REPORTED.search(content[-_TAIL_BYTES:])
    return int(reported[1]) if reported else estimate


def take() -> list[UsageRecord]:
    """Take the usage since the last call; the caller puts it back if storing fails."""
    with _lock:
        taken = list(_counted.values())
        _counted.clear()
    return taken


def put_back(uses: Iterable[UsageRecord]) -> None:
    """Put back usage that could not be stored."""
    with _lock:
        for use in uses:
            held = _counted.get(use.model, UsageRecord(use.model, 0, 0, 0))
            _counted[use.model] = UsageRecord(
                use.model,
                held.requests + use.requests,
                held.tokens_in + use.tokens_in,
                held.tokens_out + use.tokens_out,
            )
