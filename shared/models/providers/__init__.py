"""The only calls to models: embedders and completers, and which ones the settings choose."""

import os
from collections.abc import Sequence
from threading import Lock
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from redis import Redis

from shared.errors import SpendRefused
from shared.models.providers import local
from shared.models.providers.completions import Completer
from shared.models.rate_limits import ProviderBucket, bucket_key
from shared.settings import Settings, settings


class Embedder(Protocol):
    """A model that turns texts into vectors; safe to use from several threads."""

    @property
    def model(self) -> str:
        """The name stored beside each vector; vectors of two names are never compared."""

    @property
    def dimensions(self) -> int:
        """Floats that carry meaning; the rest of the 1536 are zeros."""

    def embed(
        self, texts: Sequence[str], token_counts: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """Return the vectors of passages. Hold no database connection meanwhile.

        Args:
            texts: The passages.
            token_counts: The cl100k tokens of each where known.

        Returns:
            Shape (len(texts), 1536), float32, in the order of the texts, zero-padded.

        Raises:
            ProviderRefused: A text or the account is at fault.
            TransientError: The provider is away, busy, or answered with nonsense.
        """

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return the vector of a question, shape (1536,), float32; raises as `embed` does."""

    def close(self) -> None:
        """Give up connections; the embedder is not used again."""


class Moderator(Protocol):
    """A model that judges texts in any language; safe to use from several threads."""

    @property
    def model(self) -> str:
        """The name stored beside what it found."""

    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """Return each text's scores by OpenAI's categories. Hold no database connection meanwhile.

        Raises:
            ProviderRefused: A text or the account is at fault.
            TransientError: The provider is away, busy, or answered with nonsense.
        """

    def close(self) -> None:
        """Give up connections; the moderator is not used again."""


_lock = Lock()
_loaded: dict[tuple[int, str], Embedder] = {}
_completers: dict[tuple[int, str], Completer] = {}
_moderators: dict[tuple[int, str], Moderator] = {}
LOCAL_COMPLETER = "local-extractive"
NO_MODERATOR = "none"
_redis: "Redis | None" = None


def configure(redis: "Redis | None") -> None:
    """Say where the processes' common budget lives; models in use are closed and forgotten.

    Args:
        redis: A client with short time limits and few retries, for it is asked before each
            request; None for a budget of this process alone.
    """
    global _redis  # noqa: PLW0603 - one process, one Redis
    with _lock:
        _redis = redis
        for embedder in _loaded.values():
            embedder.close()
        for completer in _completers.values():
            completer.close()
        for moderator_ in _moderators.values():
            moderator_.close()
        _loaded.clear()
        _completers.clear()
        _moderators.clear()


def live_model(chosen: Settings | None = None) -> str:
    """The name of the model that new vectors get; nothing is loaded.

    Args:
        chosen: Settings in place of the process's own.

    Raises:
        ConfigurationBroken: AILYDIAN_EMBEDDER names no embedder.
    """
    chosen = chosen or settings()
    return (
        chosen.openai_embedding_model if chosen.uses_openai else local.model_name(chosen.embedder)
    )


def embedder() -> Embedder:
    """The live model's embedder; the first call of a process loads it."""
    return embedder_for(live_model())


def embedder_for(model: str) -> Embedder:
    """The embedder of a stored model name, loaded once per process.

    Args:
        model: As `Embedder.model` named it.

    Raises:
        ConfigurationBroken: The model needs a key, another version, or an extra.
    """
    key = (os.getpid(), model)  # a forked child opens its own connections and starts its own locks
    if key not in _loaded:
        with _lock:
            if key not in _loaded:
                _loaded[key] = _load(model, settings())
    return _loaded[key]


def completion_model(chosen: Settings | None = None) -> str:
    """The name of the model that answers where nobody chose one; nothing is loaded.

    Args:
        chosen: Settings in place of the process's own.
    """
    chosen = chosen or settings()
    return chosen.openai_completion_model if chosen.uses_openai else LOCAL_COMPLETER


def completer_for(model: str) -> Completer:
    """The completer of a model's name, loaded once per process.

    Args:
        model: `local-extractive`, or one of the OpenAI-compatible server's.

    Raises:
        SpendRefused: Its answers cost money, and AILYDIAN_ALLOW_SPEND is not set.
        ConfigurationBroken: The model needs a key or a base URL.
    """
    chosen = settings()
    # A server of one's own, without a key, sends no bill.
    if model != LOCAL_COMPLETER and chosen.openai_api_key and not chosen.allow_spend:
        raise SpendRefused(
            f"{model} costs money: set AILYDIAN_ALLOW_SPEND=true, or name {LOCAL_COMPLETER}."
        )
    key = (os.getpid(), model)
    if key not in _completers:
        completer = _load_completer(model, chosen)
        with _lock:
            _completers.setdefault(key, completer)
    return _completers[key]


def moderator() -> Moderator | None:
    """The model that judges texts besides the local rules; None where there is no key.

    OpenAI asks no money for it. A base URL alone is no server's promise to moderate, and
    AILYDIAN_OPENAI_MODERATION_MODEL=none says that the server with the key does not.
    """
    chosen = settings()
    model = chosen.openai_moderation_model
    if not chosen.openai_api_key or model == NO_MODERATOR:
        return None
    key = (os.getpid(), model)
    if key not in _moderators:
        from shared.models.providers.openai_moderation import OpenAIModerator  # noqa: PLC0415 - 36 MB

        loaded = OpenAIModerator(model, chosen, _bucket(model, chosen))
        with _lock:
            _moderators.setdefault(key, loaded)
    return _moderators[key]


def _load_completer(model: str, chosen: Settings) -> Completer:
    if model == LOCAL_COMPLETER:
        from shared.models.providers.extractive import ExtractiveCompleter  # noqa: PLC0415 - it needs us

        return ExtractiveCompleter(embedder_for(local.model_name(chosen.embedder)))
    from shared.models.providers.chat import OpenAICompleter  # noqa: PLC0415 - 36 MB, half a second

    return OpenAICompleter(model, chosen, _bucket(model, chosen))


def _load(model: str, chosen: Settings) -> Embedder:
    if local.is_local(model):
        return local.load(model)
    from shared.models.providers.openai import OpenAIEmbedder  # noqa: PLC0415 - 36 MB, half a second

    return OpenAIEmbedder(model, chosen, _bucket(model, chosen))


def _bucket(model: str, chosen: Settings) -> ProviderBucket:
    key = chosen.openai_api_key.get_secret_value() if chosen.openai_api_key else ""
    account = f"{key}\0{chosen.openai_base_url or ''}"
    return ProviderBucket(
        _redis,
        bucket_key(chosen.redis_namespace, account, model),
        tokens_per_minute=chosen.openai_tokens_per_minute,
        requests_per_minute=chosen.openai_requests_per_minute,
        share=1 / chosen.processes,
    )
