"""Embeddings from OpenAI, or from any compatible server."""

from collections.abc import Sequence
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from shared.errors import ProviderRefused
from shared.models.providers import uses
from shared.models.providers.answers import vectors
from shared.models.providers.api import Api
from shared.models.providers.batching import TOKENS_MAX, Batcher
from shared.models.providers.shaping import WIDTH, cleaned, padded
from shared.models.rate_limits import ProviderBucket
from shared.settings import Settings

INPUT_TOKENS_MAX: Final = 8_191
_NATIVE: Final = {
    "text-embedding-3-small": 1_536,
    "text-embedding-3-large": 3_072,
    "text-embedding-ada-002": 1_536,
}
_SHORTENED: Final = frozenset({"text-embedding-3-small", "text-embedding-3-large"})


class OpenAIEmbedder:
    """The API behind `providers.Embedder`; one per process, its threads share one batcher."""

    def __init__(self, model: str, settings: Settings, bucket: ProviderBucket) -> None:
        """Describe the connection; nothing is sent yet.

        Args:
            model: A model of the API, such as "text-embedding-3-small".
            settings: Key, base URL and time limit.
            bucket: The budget that all processes with this key share.

        Raises:
            ConfigurationBroken: Neither a key nor a base URL is set.
        """
        self._api = Api(model, settings, bucket)
        self.model = model
        self._width = None if model not in _NATIVE else min(_NATIVE[model], WIDTH)
        self._asked: dict[str, object] = {"encoding_format": "base64"}
        if model in _SHORTENED:
            self._asked["dimensions"] = WIDTH
        self._batcher = Batcher(self._send)

    @property
    def dimensions(self) -> int:
        """Floats of the model's own vectors; 1536 until an unknown model has answered once."""
        return self._width or WIDTH

    def embed(
        self, texts: Sequence[str], token_counts: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """Return one row per text; see `providers.Embedder`.

        Raises:
            ProviderRefused: A text is empty, too long or rejected, or the URL is wrong.
            QuotaExhausted: The account has a problem or no credit.
            ProviderRateLimited: Our rate budget or the provider's is spent for now.
            ProviderUnavailable: No response, or a server error.
            ProviderContractBroken: Invalid response.
        """
        if not texts:
            return np.empty((0, WIDTH), dtype=np.float32)
        sent = [cleaned(text) for text in texts]
        # OpenAI counts a quarter of a token per byte before it looks closer, and so do we.
        estimates = [-(-len(text.encode()) // 4) for text in sent]
        for position, text in enumerate(sent):
            if not text.strip():
                raise ProviderRefused(f"Text {position + 1} of {len(sent)} is empty.")
            tokens = token_counts[position] if token_counts is not None else 0
            if tokens > INPUT_TOKENS_MAX or estimates[position] > TOKENS_MAX:
                raise ProviderRefused(
                    f"Text {position + 1} of {len(sent)} has {tokens or estimates[position]} "
                    f"tokens; the model takes {INPUT_TOKENS_MAX}."
                )
        return padded(self._batcher.embed(sent, estimates))

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return one text's vector, shape (1536,); OpenAI makes no difference for queries."""
        return cast(NDArray[np.float32], self.embed([text])[0])

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def _send(self, texts: list[str], tokens: int) -> NDArray[np.float32]:
        """One request: wait for the budget, send, check; called by the batcher."""
        body = {"model": self.model, "input": texts, **self._asked}
        answer = self._api.post("/embeddings", body, tokens)
        rows = vectors(answer.content, count=len(texts), width=self._width, model=self.model)
        if self._width is None and rows.shape[1] > WIDTH:
            raise ProviderRefused(f"{self.model} has more than {WIDTH} dimensions.")
        self._width = rows.shape[1]
        uses.note(self.model, uses.tokens_of(answer.content, estimate=tokens))
        return rows
