"""A connection to OpenAI, or to any compatible server: rate budget, limits, errors."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Final

import httpx2
from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAI

from shared.errors import (
    AilydianError,
    ConfigurationBroken,
    ProviderContractBroken,
    ProviderRateLimited,
    ProviderUnavailable,
    QuotaExhausted,
    TransientError,
)
from shared.models.providers.answers import heard, refusal
from shared.models.rate_limits import ProviderBucket
from shared.settings import Settings

_ANSWER_BYTES_MAX: Final = 64 << 20  # 2,048 vectors: 17 MB in base64, some 60 as numbers
_BLOCK_S: Final = 2.0  # after a 429 that does not say how long
_CLOSED_S: Final = 120.0  # after the account was refused: until one request asks again


class _Listening(threading.local):
    """Who listens to the response that this thread is waiting for."""

    on_bytes: Callable[[bytes], None] | None = None


class Api:
    """Posts JSON and returns the raw response; thread-safe."""

    def __init__(self, model: str, settings: Settings, bucket: ProviderBucket) -> None:
        """Describe the connection; nothing is sent yet.

        Args:
            model: The model, for error messages.
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
        self._bucket = bucket
        self._listening = _Listening()
        self._timeout_s = settings.openai_timeout_s
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

    def post(
        self,
        path: str,
        body: dict[str, object],
        tokens: int,
        on_bytes: Callable[[bytes], None] | None = None,
    ) -> httpx2.Response:
        """Wait for the rate budget, send one request, and apply the response's rate limit headers.

        Args:
            path: Below the base URL, such as `/embeddings`.
            body: The JSON body.
            tokens: Estimated tokens, >= 0.
            on_bytes: Called with the pieces of a 200's body as they come.

        Raises:
            ProviderRefused: The request or the URL is rejected.
            QuotaExhausted: The account has a problem or no credit.
            ProviderRateLimited: Our rate budget or the provider's is spent for now.
            ProviderUnavailable: No response, or a server error.
            ProviderContractBroken: The response is compressed or far too large.
        """
        wait_s = self._bucket.acquire(tokens)
        if wait_s > 0:
            time.sleep(wait_s)
        self._listening.on_bytes = on_bytes
        try:
            # Not `embeddings.create`: it walks through every text, for half of the client's CPU.
            answer = self._client.post(
                path,
                cast_to=httpx2.Response,
                body=body,
                options={"headers": {"Accept-Encoding": "identity"}},  # compression saves little
            )
        except APITimeoutError:
            raise ProviderUnavailable("The request to the provider timed out.") from None
        except APIConnectionError:
            raise ProviderUnavailable(
                "The connection to the provider failed or was closed early."
            ) from None
        except APIStatusError as error:
            raise self._refused(error, tokens) from None
        finally:
            self._listening.on_bytes = None
        self._bucket.learn(heard(answer.headers), tokens=tokens)
        return answer

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _refused(self, error: APIStatusError, tokens: int) -> AilydianError:
        """Return the error to raise; a retry delay is stored in the shared bucket."""
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
        """Limit size and time of response bodies, error bodies included."""
        if response.headers.get("content-encoding", "identity") != "identity":
            raise ProviderContractBroken(
                "The provider sent a compressed response despite `Accept-Encoding: identity`."
            )
        assert isinstance(response.stream, httpx2.SyncByteStream)
        on_bytes = self._listening.on_bytes if response.status_code == HTTPStatus.OK else None
        deadline = time.monotonic() + self._timeout_s
        response.stream = _BoundedStream(response.stream, deadline, on_bytes)


class _BoundedStream(httpx2.SyncByteStream):
    """A body that raises at the deadline or when it is too large, and may be listened to."""

    def __init__(
        self,
        stream: httpx2.SyncByteStream,
        deadline: float,
        on_bytes: Callable[[bytes], None] | None,
    ) -> None:
        self._stream = stream
        self._deadline = deadline
        self._on_bytes = on_bytes

    def __iter__(self) -> Iterator[bytes]:
        received = 0
        for piece in self._stream:
            received += len(piece)
            if received > _ANSWER_BYTES_MAX:
                raise ProviderContractBroken("The provider's response is too large.")
            if time.monotonic() > self._deadline:
                raise ProviderUnavailable("The provider's response timed out.")
            if self._on_bytes is not None:
                self._on_bytes(piece)
            yield piece

    def close(self) -> None:
        self._stream.close()
