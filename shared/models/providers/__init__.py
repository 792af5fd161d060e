"""Embedders, completers and moderators, and their choice by the settings."""

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
    """A model that turns texts into vectors; thread-safe."""

    @property
    def model(self) -> str:
        """The name stored beside each vector; vectors of two names are never compared."""

    @property
    def dimensions(self) -> int:
        """Number of significant dimensions; the rest of the 1536 are zeros."""

    def embed(
        self, texts: Sequence[str], token_counts: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """Return the vectors of passages. Do not hold a database connection meanwhile.

        Args:
            texts: The passages.
            token_counts: The cl100k tokens of each where known.

        Returns:
            Shape (len(texts), 1536), float32, in the order of the texts, zero-padded.

        Raises:
            ProviderRefused: A text or the account is rejected.
            TransientError: The provider is unavailable, busy, or its response is invalid.
        """

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return the vector of a question, shape (1536,), float32; raises as `embed` does."""

    def close(self) -> None:
        """Close connections; the embedder is not used again."""


class Moderator(Protocol):
    """A moderation model for texts in any language; thread-safe."""

    @property
    def model(self) -> str:
        """The name stored beside its scores."""

    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """Return each text's scores by OpenAI's categories. Do not hold a connection meanwhile.

        Raises:
            ProviderRefused: A text or the account is rejected.
            TransientError: The provider is unavailable, busy, or its response is invalid.
        """

    def close(self) -> None:
        """Close connections; the moderator is not used again."""


_lock = Lock()
_loaded: dict[tuple[int, str], Embedder] = {}
_completers: dict[tuple[int, str], Completer] = {}
_moderators: dict[tuple[int, str], Moderator] = {}
LOCAL_COMPLETER = "local-extractive"
NO_MODERATOR = "none"
_redis: "Redis | None" = None


def configure(redis: "Redis | None") -> None:
    """Set the Redis of the shared rate budget; models in use are closed.

    Args:
        redis: A client with short time limits and few retries, because it is called before each
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
    """Return the name of the model for new vectors, without loading it.

    Args:
        chosen: Settings in place of the process's own.

    Raises:
        ConfigurationBroken: Invalid AILYDIAN_EMBEDDER.
    """
    chosen = chosen or settings()
    return (
        chosen.openai_embedding_model if chosen.uses_openai else local.model_name(chosen.embedder)
    )


def embedder() -> Embedder:
    """Return the live model's embedder; the first call of a process loads it."""
    return embedder_for(live_model())


def embedder_for(model: str) -> Embedder:
    """Return the embedder of a stored model name, loaded once per process.

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
    """Return the name of the default completion model, without loading it.

    Args:
        chosen: Settings in place of the process's own.
    """
    chosen = chosen or settings()
    return chosen.openai_completion_model if chosen.uses_openai else LOCAL_COMPLETER


def completer_for(model: str) -> Completer:
    """Return the completer of a model's name, loaded once per process.

    Args:
        model: `local-extractive`, or one of the OpenAI-compatible server's.

    Raises:
        SpendRefused: It is a paid model, and AILYDIAN_ALLOW_SPEND is not set.
        ConfigurationBroken: The model needs a key or a base URL.
    """
    chosen = settings()
    # A self-hosted server without a key costs nothing.
    if model != LOCAL_COMPLETER and chosen.openai_api_key and not chosen.allow_spend:
        raise SpendRefused(
            f"{model} is a paid model: set AILYDIAN_ALLOW_SPEND=true, or use {LOCAL_COMPLETER}."
        )
    key = (os.getpid(), model)
    if key not in _completers:
        completer = _load_completer(model, chosen)
        with _lock:
            _completers.setdefault(key, completer)
    return _completers[key]


def moderator() -> Moderator | None:
    """Return the moderation model used besides the local rules; None without a key.

    It is free at OpenAI. A base URL alone does not imply a moderation endpoint, and
    AILYDIAN_OPENAI_MODERATION_MODEL=none means that the server with the key has none.
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
