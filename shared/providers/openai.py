"""Embeddings from OpenAI, or from any server that speaks its API."""

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Final, cast

import httpx2
import numpy as np
from numpy.typing import NDArray
from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAI

from shared.errors import (
    AilydianError,
    ConfigurationBroken,
    ProviderContractBroken,
    ProviderRateLimited,
    ProviderRefused,
    ProviderUnavailable,
    QuotaExhausted,
    TransientError,
)
from shared.limits import ProviderBucket
from shared.providers import uses
from shared.providers.answers import heard, refusal, vectors
from shared.providers.batching import TOKENS_MAX, Batcher
from shared.providers.shaping import WIDTH, cleaned, padded
from shared.settings import Settings

INPUT_TOKENS_MAX: Final = 8_191
_ANSWER_BYTES_MAX: Final = 64 << 20  # 2,048 vectors: 17 MB in base64, some 60 as numbers
_BLOCK_S: Final = 2.0  # after a 429 that does not say how long
_CLOSED_S: Final = 120.0  # after the account was refused: until one request asks again
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
        if not settings.uses_openai:
            raise ConfigurationBroken(f"{model} needs OPENAI_API_KEY or OPENAI_BASE_URL.")
        for name in ("openai", "httpx2", "httpcore2"):
            # At debug level they write whole requests, texts and all.
            logging.getLogger(name).setLevel(logging.WARNING)
        self.model = model
        self._bucket = bucket
        self._timeout_s = settings.openai_timeout_s
        self._width = None if model not in _NATIVE else min(_NATIVE[model], WIDTH)
        self._asked: dict[str, object] = {"encoding_format": "base64"}
        if model in _SHORTENED:
            self._asked["dimensions"] = WIDTH
        self._batcher = Batcher(self._send)
        key = settings.openai_api_key
        timeout = httpx2.Timeout(self._timeout_s, connect=min(self._timeout_s, 10.0))
        self._client = OpenAI(
            api_key=key.get_secret_value() if key else "none",
            base_url=settings.openai_base_url,
            timeout=timeout,
            max_retries=0,  # the ledger retries, with the job's own attempts
            http_client=httpx2.Client(
                timeout=timeout,
                follow_redirects=False,
                event_hooks={"response": [self._bound]},
            ),
        )

    @property
    def dimensions(self) -> int:
        """Floats of the model's own vectors; 1536 until an unknown model has answered once."""
        return self._width or WIDTH

    def embed(
        self, texts: Sequence[str], token_counts: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """Return one row per text; see `providers.Embedder`.

        Raises:
            ProviderRefused: A text is empty, too long or refused, or the address is wrong.
            QuotaExhausted: The account is not in order, or out of credit.
            ProviderRateLimited: The budget, ours or the provider's, is spent for now.
            ProviderUnavailable: No answer, or one that blames the server.
            ProviderContractBroken: An answer that is not what was asked for.
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
        self._client.close()

    def _send(self, texts: list[str], tokens: int) -> NDArray[np.float32]:
        """One request: wait for the budget, send, check; called by the batcher."""
        wait_s = self._bucket.acquire(tokens)
        if wait_s > 0:
            time.sleep(wait_s)
        try:
            # Not `embeddings.create`: it walks through every text, for half of the client's CPU.
            answer = self._client.post(
                "/embeddings",
                cast_to=httpx2.Response,
                body={"model": self.model, "input": texts, **self._asked},
                options={"headers": {"Accept-Encoding": "identity"}},  # packing saves little
            )
        except APITimeoutError:
            raise ProviderUnavailable("The provider did not answer in time.") from None
        except APIConnectionError:
            raise ProviderUnavailable(
                "The provider cannot be reached, or hung up half-way."
            ) from None
        except APIStatusError as error:
            raise self._refused(error, tokens) from None
        self._bucket.learn(heard(answer.headers), tokens=tokens)
        rows = vectors(answer.content, count=len(texts), width=self._width, model=self.model)
        if self._width is None and rows.shape[1] > WIDTH:
            raise ProviderRefused(f"{self.model} has more than {WIDTH} dimensions.")
        self._width = rows.shape[1]
        uses.note(self.model, uses.tokens_of(answer.content, estimate=tokens))
        return rows

    def _refused(self, error: APIStatusError, tokens: int) -> AilydianError:
        """The error to raise; the bucket hears of a wait, so that all processes keep it."""
        headers = error.response.headers
        refused = refusal(error.status_code, error.code, headers)
        block_s = refused.retry_after_s if isinstance(refused, TransientError) else None
        if isinstance(refused, ProviderRateLimited) and block_s is None:
            block_s = _BLOCK_S
        if isinstance(refused, QuotaExhausted):
            block_s = max(block_s or 0.0, _CLOSED_S)
        self._bucket.learn(heard(headers, block_s=block_s), tokens=tokens)
        return refused

    def _bound(self, response: httpx2.Response) -> None:
        """Put limits of size and time around the body of an answer, an error's body too."""
        if response.headers.get("content-encoding", "identity") != "identity":
            raise ProviderContractBroken("The provider packed its answer, though asked not to.")
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = _BoundedStream(response.stream, time.monotonic() + self._timeout_s)


class _BoundedStream(httpx2.SyncByteStream):
    """A body that ends in an error at the deadline or when it grows too large."""

    def __init__(self, stream: httpx2.SyncByteStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def __iter__(self) -> Iterator[bytes]:
        received = 0
        for piece in self._stream:
            received += len(piece)
            if received > _ANSWER_BYTES_MAX:
                raise ProviderContractBroken("The provider's answer is far too large.")
            if time.monotonic() > self._deadline:
                raise ProviderUnavailable("The provider's answer did not end in time.")
            yield piece

    def close(self) -> None:
        self._stream.close()
