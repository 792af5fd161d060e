"""Provenance of answers: canonical hashes, and a watermark that only we can make.

A hash shows that a text is the recorded one; a writer of both the text and its hash can forge it.
The watermark is a keyed hash over all of it, which cannot be forged.
"""

import hashlib
import hmac
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

VERSION: Final = "v1"
_CONTEXT: Final = b"ailydian/provenance/v1"
_KEY_ID_CHARS: Final = 8


@dataclass(frozen=True, slots=True)
class SealedContent:
    """The content of a watermark: hashes are SHA-256 in hex, citations as they are stored."""

    message_id: str
    model: str
    input_sha256: str
    output_sha256: str
    citations: Sequence[Mapping[str, Any]]


def canonical(value: object) -> bytes:
    """A JSON value as bytes that are the same wherever it is written down.

    Keys sorted, no spaces, UTF-8, texts in Unicode's form NFC.

    Numbers without a fraction are written as integers, so that what Postgres makes of them in JSONB
    (1e16 comes back as 10000000000000000) is the same.

    Source: after RFC 8785, JSON Canonicalization Scheme. It differs in two ways: numbers beyond
    1e21 are written out, and keys are sorted by code points, not by UTF-16 units.
    """
    text = json.dumps(
        _normal(value), ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
    )
    return text.encode()


def input_sha256(question: str, model: str, parameters: Mapping[str, Any]) -> str:
    """The hash of what a model was asked: question, model and parameters."""
    asked = {"question": question, "model": model, "parameters": parameters}
    return hashlib.sha256(canonical(asked)).hexdigest()


def output_sha256(content: str) -> str:
    """The hash of what a model answered."""
    return hashlib.sha256(_nfc(content).encode()).hexdigest()


def watermark(key: bytes, sealed: SealedContent) -> str:
    """The seal: `v1:<id of the key>:<HMAC-SHA-256 in hex>`.

    Args:
        key: The installation's signing key; the seal's own key is derived from it, so that neither
            can stand in for the other.
        sealed: What is sealed.

    Source: RFC 2104 (HMAC); the derivation is one block of RFC 5869's expand step.
    """
    seal = hmac.digest(_derived(key), canonical(_document(sealed)), "sha256").hex()
    return f"{VERSION}:{key_id(key)}:{seal}"


def is_sealed_by(key: bytes, sealed: SealedContent, mark: str) -> bool:
    """Return whether a watermark is the key's over this, compared in constant time."""
    return hmac.compare_digest(watermark(key, sealed).encode(), mark.encode())


def key_id(key: bytes) -> str:
    """An identifier of a signing key that reveals nothing about it."""
    return hashlib.sha256(_derived(key)).hexdigest()[:_KEY_ID_CHARS]


def _document(sealed: SealedContent) -> dict[str, object]:
    return {
        "messageId": sealed.message_id,
        "model": sealed.model,
        "inputSha256": sealed.input_sha256,
        "outputSha256": sealed.output_sha256,
        "citations": list(sealed.citations),
    }


def _derived(key: bytes) -> bytes:
    return hmac.digest(key, _CONTEXT + b"\x01", "sha256")


def _normal(value: object) -> object:
    if isinstance(value, str):
        return _nfc(value)
    if isinstance(value, float) and value.is_integer():
        return int(Decimal(repr(value)))
    if isinstance(value, Mapping):
        return {_nfc(str(name)): _normal(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_normal(one) for one in value]
    return value


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)
