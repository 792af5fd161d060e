"""Moderation by OpenAI (free with a key), or by any compatible server."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from shared.errors import ProviderContractBroken
from shared.models.providers.api import Api
from shared.models.providers.batching import TextRefused, halved
from shared.models.providers.shaping import cleaned
from shared.models.rate_limits import ProviderBucket
from shared.settings import Settings

INPUTS_MAX: Final = 32  # texts of one request
REQUEST_CHARS_MAX: Final = 100_000
WINDOW_CHARS: Final = 8_000  # of a long text: what one window holds is judged as one
WINDOW_STEP: Final = 7_600


class OpenAIModerator:
    """The API behind `providers.Moderator`; thread-safe."""

    def __init__(self, model: str, settings: Settings, bucket: ProviderBucket) -> None:
        """Describe the connection; nothing is sent yet.

        Args:
            model: A model of the API, such as "omni-moderation-latest".
            settings: Key, base URL and time limit.
            bucket: The budget that all processes with this key share.

        Raises:
            ConfigurationBroken: Neither a key nor a base URL is set.
        """
        self._api = Api(model, settings, bucket)
        self.model = model

    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """Return the categories' scores of each text; a long text's are those of its worst window.

        Args:
            texts: Of any length; an empty one is not sent and has no scores.

        Returns:
            One dictionary per text, in order: OpenAI's categories, each in [0, 1].

        Raises:
            ProviderRefused: The URL is wrong.
            TextRefused: Texts are rejected; which is in it.
            QuotaExhausted: The account has a problem.
            ProviderRateLimited: Our rate budget or the provider's is spent for now.
            ProviderUnavailable: No response, or a server error.
            ProviderContractBroken: Invalid response.
        """
        windows = [(number, part) for number, text in enumerate(texts) for part in _windows(text)]
        found: list[dict[str, float]] = [{} for _ in texts]
        refused: dict[int, str] = {}
        for batch in _batches(windows):
            for (number, _), answer in zip(batch, self._answers(batch), strict=True):
                if isinstance(answer, TextRefused):
                    refused[number] = str(answer)
                    continue
                worst = found[number]
                for category, score in answer.items():
                    worst[category] = max(worst.get(category, 0.0), score)
        if refused:
            number, why = next(iter(refused.items()))
            raise TextRefused(f"Text {number + 1} of {len(texts)}: {why}", refused=refused)
        return found

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def _answers(
        self, batch: Sequence[tuple[int, str]]
    ) -> Sequence[dict[str, float] | TextRefused]:
        parts = [part for _, part in batch]
        try:
            return self._send(parts)
        except TextRefused as error:  # of some of them, or more than the server takes at once
            return halved(parts, self._send, error)

    def _send(self, parts: Sequence[str]) -> list[dict[str, float]]:
        tokens = sum(-(-len(part.encode()) // 4) for part in parts)
        answer = self._api.post("/moderations", {"model": self.model, "input": list(parts)}, tokens)
        return category_scores(answer.content, count=len(parts))


def category_scores(body: bytes, *, count: int) -> list[dict[str, float]]:
    """Return the scores of an answer, in the order of the texts.

    Args:
        body: The JSON of `POST /v1/moderations`.
        count: How many texts were sent, >= 1.

    Raises:
        ProviderContractBroken: Invalid response; nothing of it is used.
    """
    try:
        results = json.loads(body)["results"]
        scores = [_checked(result["category_scores"]) for result in results]
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError):
        raise _broken("not a list of moderations") from None
    if len(scores) != count:
        raise _broken(f"{len(scores)} moderations for {count} texts")
    return scores


def _checked(scores: dict[str, Any]) -> dict[str, float]:
    if not scores:
        raise ValueError("no categories")
    for category, score in scores.items():
        if type(category) is not str or type(score) not in (int, float) or not 0 <= score <= 1:
            raise ValueError("no score in [0, 1]")
    return {category: float(score) for category, score in scores.items()}


def _windows(text: str) -> Iterator[str]:
    text = cleaned(text)
    if text.strip():
        last = max(len(text) - (WINDOW_CHARS - WINDOW_STEP), 1)
        for start in range(0, last, WINDOW_STEP):
            if (part := text[start : start + WINDOW_CHARS]).strip():
                yield part


def _batches(windows: list[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    batch: list[tuple[int, str]] = []
    chars = 0
    for window in windows:
        chars += len(window[1])
        if batch and (len(batch) == INPUTS_MAX or chars > REQUEST_CHARS_MAX):
            yield batch
            batch, chars = [], len(window[1])
        batch.append(window)
    if batch:
        yield batch


def _broken(what: str) -> ProviderContractBroken:
    return ProviderContractBroken(f"Invalid response from the provider: {what}.")
