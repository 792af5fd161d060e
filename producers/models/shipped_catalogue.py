"""The built-in catalogue: providers and models with their list prices.

These prices only seed "AIModel". Costs are computed from its rows, which operators change with
`ailydian models put`.
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
# Dollars per million embedded tokens. Source: OpenAI's price list for embeddings.
_EMBEDDING_USD: Final = {
    "text-embedding-3-small": Decimal("0.02"),
    "text-embedding-3-large": Decimal("0.13"),
    "text-embedding-ada-002": Decimal("0.10"),
}
# The same for input and output tokens. Source: OpenAI's price list for text.
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
# Context window in tokens. Source: OpenAI's pages of the models.
_WINDOWS: Final = {"gpt-4.1": 1_047_576, "gpt-4o": 128_000, "gpt-5": 400_000}
_ANSWERS: Final = "gpt-4.1-mini"
_EMBEDDING_WINDOW: Final = 8_191
_LOCAL_WINDOW: Final = 65_536


def seed(conn: Connection) -> tuple[int, int]:
    """Add built-in providers and models that are missing; existing rows stay unchanged.

    Args:
        conn: A connection in the owner's role.

    Returns:
        Number of providers and models added.
    """
    return models.seed(conn, _PROVIDERS, _models())


def digest() -> str:
    """Return a hash of the built-in catalogue; a changed hash means new entries."""
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
    """Return a model with its prices per million tokens; only one paid model is enabled."""
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
