"""Completions that come piece by piece, as server-sent events."""

import json
from collections.abc import Iterable
from typing import Any, Final

from shared.models.providers.completions import OnText
from shared.models.providers.shaping import cleaned

_DATA: Final = b"data:"
_DONE: Final = b"[DONE]"
_LINE_BYTES_MAX: Final = 1 << 20


class StreamReader:
    """Tells the text of a completion while its bytes come; what it cannot read it passes over."""

    def __init__(self, on_text: OnText) -> None:
        self._on_text = on_text
        self._rest = b""

    def feed(self, piece: bytes) -> None:
        """Read the lines that a piece of the body completes."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        self._rest = self._rest[:_LINE_BYTES_MAX]
        for chunk in _chunks(lines):
            text = _text(chunk)
            if text:
                self._on_text(cleaned(text))


def whole(body: bytes) -> bytes:
    """Return a body as if it had not come piece by piece; a JSON document stays as it is.

    A stream that has no reason for its end was cut off, and so it has none here.
    """
    if body.lstrip()[:1] == b"{":
        return body
    texts, refusals = [], []
    reason = model = usage = None
    for chunk in _chunks(body.split(b"\n")):
        texts.append(_text(chunk))
        choice = _choice(chunk)
        refusals.append(str(_delta(choice).get("refusal") or ""))
        reason = choice.get("finish_reason") or reason
        model, usage = chunk.get("model") or model, chunk.get("usage") or usage
    if reason is None:
        return b""
    message = {"content": "".join(texts), "refusal": "".join(refusals)}
    choices = [{"message": message, "finish_reason": reason}]
    return json.dumps({"model": model, "choices": choices, "usage": usage}).encode()


def _chunks(lines: Iterable[bytes]) -> Iterable[dict[str, Any]]:
    for line in lines:
        data = line[len(_DATA) :].strip()
        if not line.startswith(_DATA) or data == _DONE:
            continue
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError):
            continue
        if isinstance(chunk, dict):
            yield chunk


def _choice(chunk: dict[str, Any]) -> dict[str, Any]:
    choices = chunk.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else {}
    return first if isinstance(first, dict) else {}


def _delta(choice: dict[str, Any]) -> dict[str, Any]:
    delta = choice.get("delta")
    return delta if isinstance(delta, dict) else {}


def _text(chunk: dict[str, Any]) -> str:
    text = _delta(_choice(chunk)).get("content")
    return text if isinstance(text, str) else ""
