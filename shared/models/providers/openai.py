"""Embeddings from OpenAI, or from any compatible server."""

from collections.abc import Sequence
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from shared.errors import ProviderRefused
from shared.models.providers import uses
from shared.models.providers.answers import vectors
from shared.models.providers.api import Api
from shared.models.providers.batching import TOKENS_MAX, Batcher, TextRefused, rejected
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
        # Base64 is a quarter of the bytes; a server that was never seen to take it may not.
        self._format: str | None = None
        self._asked: dict[str, object] = {"dimensions": WIDTH} if model in _SHORTENED else {}
        self._batcher = Batcher(self._send, inputs_max=settings.embed_inputs_max)

    @property
    def dimensions(self) -> int:
        """Floats of the model's own vectors; 1536 until an unknown model has answered once."""
        return self._width or WIDTH

    def embed(
        self, texts: Sequence[str], token_counts: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """Return one row per text; see `providers.Embedder`.

        Raises:
            ProviderRefused: The URL is wrong.
            TextRefused: Texts are empty, too long or rejected; the rows of the others are in it.
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
        refused: dict[int, str] = {}
        for position, text in enumerate(sent):
            tokens = token_counts[position] if token_counts is not None else 0
            if not text.strip():
                refused[position] = "It is empty."
            elif tokens > INPUT_TOKENS_MAX or estimates[position] > TOKENS_MAX:
                refused[position] = (
                    f"It has {tokens or estimates[position]} tokens; "
                    f"the model takes {INPUT_TOKENS_MAX}."
                )
        kept = [position for position in range(len(sent)) if position not in refused]
        rows: NDArray[np.float32] | None = None
        if kept:
            try:
                rows = self._batcher.embed(
                    [sent[at] for at in kept], [estimates[at] for at in kept]
                )
            except TextRefused as error:
                rows = error.rows
                refused |= {kept[at]: why for at, why in error.refused.items()}
        if not refused:
            assert rows is not None, "what is not rejected has a row"
            return padded(rows)
        raise rejected(len(sent), dict(sorted(refused.items())), _spread(rows, kept, len(sent)))

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return one text's vector, shape (1536,); OpenAI makes no difference for queries."""
        return cast(NDArray[np.float32], self.embed([text])[0])

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def _send(self, texts: list[str], tokens: int) -> NDArray[np.float32]:
        """One request: wait for the budget, send, check; called by the batcher.

        Until a server has answered once, what it refuses in base64 is asked for as numbers.
        """
        try:
            rows = self._ask(texts, tokens, self._format or "base64")
            self._format = self._format or "base64"
        except TextRefused:
            if self._format is not None:
                raise
            rows = self._ask(texts, tokens, "float")
            self._format = "float"
        return rows

    def _ask(self, texts: list[str], tokens: int, encoding: str) -> NDArray[np.float32]:
        body = {"model": self.model, "input": texts, "encoding_format": encoding, **self._asked}
        answer = self._api.post("/embeddings", body, tokens)
        rows = vectors(answer.content, count=len(texts), width=self._width, model=self.model)
        if self._width is None and rows.shape[1] > WIDTH:
            raise ProviderRefused(f"{self.model} has more than {WIDTH} dimensions.")
        self._width = rows.shape[1]
        uses.note(self.model, uses.tokens_of(answer.content, estimate=tokens))
        return rows


def _spread(
    rows: NDArray[np.float32] | None, kept: Sequence[int], count: int
) -> NDArray[np.float32] | None:
    """The rows of the texts that were sent at the places that these have among all."""
    if rows is None:
        return None
    out = np.zeros((count, WIDTH), dtype=np.float32)
    out[kept] = padded(rows)
    return out
