"""Validation of embeddings responses: checked vectors, or an error."""

import json
import math
import re
from binascii import a2b_base64
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.errors import (
    AilydianError,
    ProviderContractBroken,
    ProviderRateLimited,
    ProviderRefused,
    ProviderUnavailable,
    QuotaExhausted,
)
from shared.models.providers.batching import TextRefused
from shared.models.rate_limits import BLOCK_MAX_S, Heard

_TEXT_AT_FAULT: Final = frozenset({400, 413, 422})
_TRANSIENT: Final = frozenset({408, 409, 425, 429})
_NO_CREDIT: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_ADVICE: Final = {
    401: "check OPENAI_API_KEY",
    402: "top up the account",
    403: "check what OPENAI_API_KEY may do",
    404: "check OPENAI_BASE_URL and the model's name",
}


def vectors(body: bytes, *, count: int, width: int | None, model: str) -> NDArray[np.float32]:
    """Return the vectors of a response in the order of the texts.

    Args:
        body: The JSON of `POST /v1/embeddings`, vectors in base64 (or as lists of numbers).
        count: How many texts were sent, >= 1.
        width: How many floats each vector must have; None takes the first one's.
        model: The model that was asked for.

    Returns:
        Shape (count, width), float32; finite, no row of length 0.

    Raises:
        ProviderContractBroken: Invalid response; nothing of it is used.
    """
    try:
        answer = json.loads(body)
        rows, named = answer["data"], answer.get("model")
        if len(rows) != count:
            raise _broken(f"{len(rows)} vectors for {count} texts")
        if named and named != model:
            raise _broken("vectors of another model")
        filled = _filled(rows, count, width)
    except (LookupError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        raise _broken("something that is not a list of embeddings") from None
    lengths = np.einsum("ij,ij->i", filled, filled, dtype=np.float64)
    if not np.isfinite(lengths).all():
        raise _broken("a NaN or an infinity")
    if not lengths.all():
        raise _broken("a vector of length 0")
    return filled


def _filled(rows: list[dict[str, Any]], count: int, width: int | None) -> NDArray[np.float32]:
    out = np.empty((count, width or len(_floats(rows[0]["embedding"]))), dtype=np.float32)
    is_filled = bytearray(count)
    for row in rows:
        index, floats = row["index"], _floats(row["embedding"])
        if type(index) is not int or not 0 <= index < count or is_filled[index]:
            raise _broken("a missing, repeated or impossible index")
        if floats.shape != (out.shape[1],):
            raise _broken(f"a vector of {floats.size} dimensions, not {out.shape[1]}")
        out[index] = floats
        is_filled[index] = 1
    return out


def _floats(embedding: object) -> NDArray[np.float32]:
    if isinstance(embedding, str):
        return np.frombuffer(a2b_base64(embedding), dtype="<f4")
    if not isinstance(embedding, list) or not all(type(x) in (int, float) for x in embedding):
        raise TypeError("neither base64 nor numbers")
    with np.errstate(over="ignore"):  # too large for float32: becomes infinite, then refused
        return np.array(embedding, dtype=np.float64).astype(np.float32)


def refusal(status: int, code: object, headers: Mapping[str, str]) -> AilydianError:
    """Convert a response that is not 2xx to an error. The provider's text is not repeated.

    Args:
        status: The HTTP status.
        code: `error.code` of the body, whatever it was.
        headers: The answer's headers.

    Returns:
        `TextRefused` if a text, or their number, is rejected, `QuotaExhausted` if the account has
        a problem, `ProviderRefused` if the configuration is wrong, a TransientError with
        `retry_after_s` if a retry may help.
    """
    # Only a plain word is shown: a server may echo the key or the text it did not like.
    word = f", {code}" if isinstance(code, str) and re.fullmatch(r"[a-z_]{1,40}", code) else ""
    said = f"The provider responded with {status}{word}"
    if status in _TEXT_AT_FAULT:
        return TextRefused(f"{said}: it rejected what was sent.")
    advice = "top up the account" if code in _NO_CREDIT else _ADVICE.get(status)
    if advice is not None:
        return QuotaExhausted(f"{said}: {advice}.", retry_after_s=retry_after_s(headers))
    if status in _TRANSIENT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        wait_s = retry_after_s(headers)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return ProviderRateLimited(f"{said}.", retry_after_s=wait_s)
        return ProviderUnavailable(f"{said}.", retry_after_s=wait_s)
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return ProviderRefused(f"{said}: redirects are not followed, check OPENAI_BASE_URL.")
    return ProviderRefused(f"{said}: check OPENAI_BASE_URL.")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the retry delay of the headers, in [0, 900] s; None if missing or invalid."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _clamped(milliseconds / 1000)
    text = headers.get("retry-after")
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        return _until(text)
    return None if math.isnan(seconds) else _clamped(seconds)


def heard(headers: Mapping[str, str], *, block_s: float | None = None) -> Heard:
    """Read the x-ratelimit headers of a response."""
    return Heard(
        block_s=block_s,
        limit_tokens=_number(headers.get("x-ratelimit-limit-tokens")),
        limit_requests=_number(headers.get("x-ratelimit-limit-requests")),
        left_tokens=_number(headers.get("x-ratelimit-remaining-tokens")),
        left_requests=_number(headers.get("x-ratelimit-remaining-requests")),
    )


def _until(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return _clamped((moment - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):
        return None


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _clamped(seconds: float) -> float:
    return min(max(seconds, 0.0), BLOCK_MAX_S)


def _broken(what: str) -> ProviderContractBroken:
    return ProviderContractBroken(f"Invalid response from the provider: {what}.")
