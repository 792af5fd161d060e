"""What this process has asked of models and not told the ledger yet: tokens, no prices.

What they cost is the catalogue's to say, when they are told: see `shared.models.spending`.
"""

import re
from collections.abc import Iterable
from threading import Lock
from typing import NamedTuple

_TOLD = re.compile(rb'"total_tokens"\s*:\s*(\d{1,15})')
_TAIL_BYTES = 512


class UsageRecord(NamedTuple):
    """What one model was asked for: requests, tokens it read, tokens it wrote."""

    model: str
    requests: int
    tokens_in: int
    tokens_out: int


_lock = Lock()
_counted: dict[str, UsageRecord] = {}


def note(model: str, tokens_in: int, tokens_out: int = 0) -> None:
    """Count one answered request of so many tokens, >= 0 each."""
    put_back([UsageRecord(model, 1, tokens_in, tokens_out)])


def tokens_of(content: bytes, *, estimate: int) -> int:
    """The tokens that an answer says it cost, in its tail; the estimate where it does not say."""
    told = _TOLD.search(content[-_TAIL_BYTES:])
    return int(told[1]) if told else estimate


def take() -> list[UsageRecord]:
    """What was counted since the last call; who cannot keep it puts it back."""
    with _lock:
        taken = list(_counted.values())
        _counted.clear()
    return taken


def put_back(uses: Iterable[UsageRecord]) -> None:
    """Count what was taken and could not be kept once more."""
    with _lock:
        for use in uses:
            held = _counted.get(use.model, UsageRecord(use.model, 0, 0, 0))
            _counted[use.model] = UsageRecord(
                use.model,
                held.requests + use.requests,
                held.tokens_in + use.tokens_in,
                held.tokens_out + use.tokens_out,
            )
