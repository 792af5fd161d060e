"""The catalogue as it is shipped: providers and models, with their list prices.

These prices only seed "AIModel". What anything costs is read from its rows, which people change
with `ailydian models put`.
"""

import hashlib
from decimal import Decimal
from typing import Final

from shared.db import Connection
from shared.models.providers import LOCAL_COMPLETER
from shared.queries.models import models
from shared.queries.models.models import NewModel, NewProvider

COMPLETION: Final = "completion"
EMBEDDING: Final = "embedding"
# Dollars a million tokens of what is embedded. Source: OpenAI's price list for embeddings.
_EMBEDDING_USD: Final = {
    "text-embedding-3-small": Decimal("0.02"),
    "text-embedding-3-large": Decimal("0.13"),
    "text-embedding-ada-002": Decimal("0.10"),
}
# The same of what is read, and of what is written. Source: OpenAI's price list for text.
_COMPLETION_USD: Final = {
    "gpt-4.1": (Decimal(2), Decimal(8)),
    "gpt-4.1-mini": (Decimal("0.40"), Decimal("1.60")),
    "gpt-4.1-nano": (Decimal("0.10"), Decimal("0.40")),
    "gpt-4o": (Decimal("2.50"), Decimal(10)),
    "gpt-4o-mini": (Decimal("0.15"), Decimal("0.60")),
    "gpt-5": (Decimal("1.25"), Decimal(10)),
    "gpt-5-mini": (Decimal("0.25"), Decimal(2)),
    "gpt-5-nano": (Decimal("0.05"), Decimal("0.40")),
}
_PROVIDERS: Final = (NewProvider("local", "Local models"), NewProvider("openai", "OpenAI"))
# Tokens that fit. Source: OpenAI's pages of the models.
_WINDOWS: Final = {"gpt-4.1": 1_047_576, "gpt-4o": 128_000, "gpt-5": 400_000}
_ANSWERS: Final = "gpt-4.1-mini"
_EMBEDDING_WINDOW: Final = 8_191
_LOCAL_WINDOW: Final = 65_536


def seed(conn: Connection) -> tuple[int, int]:
    """Add what is shipped and not there yet; what people have changed stays as it is.

    Args:
        conn: A connection in the owner's role.

    Returns:
        How many providers and models were added.
    """
    return models.seed(conn, _PROVIDERS, _models())


def digest() -> str:
    """A hash of what is shipped: another one means that there is something to add."""
    return hashlib.sha256(repr((_PROVIDERS, _models())).encode()).hexdigest()


def _models() -> list[NewModel]:
    free = Decimal(0)
    local = NewModel(
        LOCAL_COMPLETER, "local", "Extractive answers", _LOCAL_WINDOW, free, free, [COMPLETION]
    )
    answering = [
        _priced(slug, _window(slug), *prices, COMPLETION)
        for slug, prices in _COMPLETION_USD.items()
    ]
    embedding = [
        _priced(slug, _EMBEDDING_WINDOW, price, free, EMBEDDING)
        for slug, price in _EMBEDDING_USD.items()
    ]
    return [local, *answering, *embedding]


def _priced(slug: str, window: int, read: Decimal, written: Decimal, capability: str) -> NewModel:
    """A model at its prices a million tokens; of those that answer one is on, for trying costs."""
    return NewModel(
        slug=slug,
        provider="openai",
        name=slug,
        context_window=window,
        cost_in=read / 1000,
        cost_out=written / 1000,
        capabilities=[capability],
        enabled=capability == EMBEDDING or slug == _ANSWERS,
    )


def _window(slug: str) -> int:
    family = max((name for name in _WINDOWS if slug.startswith(name)), key=len)
    return _WINDOWS[family]
