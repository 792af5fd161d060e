"""What this process has asked of models and not told the ledger yet."""

import re
from collections.abc import Iterable
from decimal import Decimal
from threading import Lock
from typing import NamedTuple

# List prices a million tokens, in dollars; what runs here or has another name costs nothing.
# Source: OpenAI's price list for embeddings.
USD_PER_MILLION = {
    "text-embedding-3-small": Decimal("0.02"),
    "text-embedding-3-large": Decimal("0.13"),
    "text-embedding-ada-002": Decimal("0.10"),
}

# The same for completions: what is read, what is written.
# Source: OpenAI's price list for text.
USD_PER_MILLION_READ_AND_WRITTEN = {
    "gpt-4.1": (Decimal(2), Decimal(8)),
    "gpt-4.1-mini": (Decimal("0.40"), Decimal("1.60")),
    "gpt-4.1-nano": (Decimal("0.10"), Decimal("0.40")),
    "gpt-4o": (Decimal("2.50"), Decimal(10)),
    "gpt-4o-mini": (Decimal("0.15"), Decimal("0.60")),
    "gpt-5": (Decimal("1.25"), Decimal(10)),
    "gpt-5-mini": (Decimal("0.25"), Decimal(2)),
    "gpt-5-nano": (Decimal("0.05"), Decimal("0.40")),
}

_TOLD = re.compile(rb'"total_tokens"\s*:\s*(\d{1,15})')
_TAIL_BYTES = 512


class Use(NamedTuple):
    """What one model was asked for."""

    model: str
    requests: int
    tokens: int
    cost_usd: Decimal


_lock = Lock()
_counted: dict[str, Use] = {}


def note(model: str, tokens: int) -> None:
    """Count one answered request of so many tokens, >= 0."""
    cost_usd = USD_PER_MILLION.get(model, Decimal(0)) * tokens / 1_000_000
    put_back([Use(model, 1, tokens, cost_usd)])


def note_completion(model: str, read: int, written: int) -> Decimal:
    """Count one answered completion. Returns its price; 0 where no list price is known."""
    prices = USD_PER_MILLION_READ_AND_WRITTEN.get(model, (Decimal(0), Decimal(0)))
    cost_usd = (prices[0] * read + prices[1] * written) / 1_000_000
    put_back([Use(model, 1, read + written, cost_usd)])
    return cost_usd


def tokens_of(content: bytes, *, estimate: int) -> int:
    """The tokens that an answer says it cost, in its tail; the estimate where it does not say."""
    told = _TOLD.search(content[-_TAIL_BYTES:])
    return int(told[1]) if told else estimate


def take() -> list[Use]:
    """What was counted since the last call; who cannot keep it puts it back."""
    with _lock:
        taken = list(_counted.values())
        _counted.clear()
    return taken


def put_back(uses: Iterable[Use]) -> None:
    """Count what was taken and could not be kept once more."""
    with _lock:
        for use in uses:
            held = _counted.get(use.model, Use(use.model, 0, 0, Decimal(0)))
            _counted[use.model] = Use(
                use.model,
                held.requests + use.requests,
                held.tokens + use.tokens,
                held.cost_usd + use.cost_usd,
            )
