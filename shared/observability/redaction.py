"""Redaction of secrets and personal data in logs and stored errors.

Two rules. By name: any value under `password`, `api_key` or `email` is masked. By shape: keys,
tokens, PEM blocks, passwords in URLs, e-mail addresses, phone numbers and, with a valid checksum,
cards, Turkish identity numbers and IBANs are masked anywhere, and so are the values that Postgres,
pydantic and Python quote in their errors: see `redaction_rules`.

Its time is bounded on hostile text: a text is cut to `TEXT_CHARS_MAX` first.
"""

import math
import re
from collections.abc import Collection, Mapping
from datetime import date, timedelta
from decimal import Decimal
from itertools import islice
from typing import Final

from shared.observability.redaction_rules import MASK, PEM_TAIL, Known, applied, suspicions
from shared.text.secrets import NAMES

TEXT_CHARS_MAX: Final = 20_000
DEPTH_MAX: Final = 8
ITEMS_MAX: Final = 100
LEAVES_MAX: Final = 1_000
KNOWN_CHARS_MIN: Final = 8
# What a value's own method may raise; not the interruptions of a job, which are BaseExceptions too.
OUTRIGHT: Final = (Exception, SystemExit, KeyboardInterrupt, GeneratorExit)
_NAME_CHARS_MAX: Final = 128
_NAMES_MAX: Final = 2_000
_LINE_CHARS_MAX: Final = 4 * TEXT_CHARS_MAX
_EDGE: Final = 256
_PAIR: Final = 2
_TOKEN_CHARS: Final = "".join(map(chr, range(33, 127)))

_SECRET_NAME: Final = re.compile(NAMES)
_PERSONAL_NAME: Final = re.compile(
    r"(?:^|_)(?:e_?mail|phone|mobile|gsm|msisdn|iban|tckn|tc_?kimlik|ssn|cvv|cvc"
    r"|card_?number|(?:client|remote|user|peer)_?(?:ip|addr))(?:_?address|_?no|_?number)?$"
)
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def remember(secrets: Collection[str]) -> None:
    """Mask these exact texts too, whatever their shape: this process's own secrets.

    Args:
        secrets: Texts of at least `KNOWN_CHARS_MIN` characters; shorter ones are ignored, because
            they may be parts of ordinary words.
    """
    known = {text for text in secrets if len(text) >= KNOWN_CHARS_MIN}
    Known.texts = tuple(sorted(known, key=len, reverse=True))


def redact(text: str) -> str:
    r"""A text without secrets and personal data, and as Postgres can store it.

    NUL becomes `\0`, a lone surrogate its escape. Of a text longer than `TEXT_CHARS_MAX` the
    middle is left out: redact first and cut afterwards, for a secret that was cut in two is not
    known any more.
    """
    text = _storable(text)
    if len(text) <= TEXT_CHARS_MAX:
        return _whole(text)
    quarter = TEXT_CHARS_MAX // 4
    # A secret across a cut is not known any more: what it could be part of goes as well.
    head = _whole(text[:quarter])[:-_EDGE][:quarter].rstrip(_TOKEN_CHARS)
    tail = PEM_TAIL.sub("", text[quarter - TEXT_CHARS_MAX :], count=1)
    tail = _whole(tail)[_EDGE:][quarter - TEXT_CHARS_MAX :].lstrip(_TOKEN_CHARS)
    return f"{head} [{len(text) - len(head) - len(tail):,} characters left out] {tail}"


def redact_values(values: Mapping[str, object]) -> dict[str, object]:
    """Named values, nested as they may be, without secrets, as plain JSON has them.

    Keys become texts; bytes and objects that JSON does not know become texts; NaN and infinity
    too. Depth, items of a container and leaves altogether are limited.
    """
    # Nearly every line is short and names nothing bad: it is looked at as a whole, once.
    texts = [value for value in values.values() if type(value) is str]
    together = "\n".join(texts)
    if len(together) <= TEXT_CHARS_MAX and _storable(together) == together:
        walk = _Walk(suspicions(together))
    else:
        walk = _Walk(None)
    return {_known_name(name)[0]: walk.named(name, value, 0) for name, value in values.items()}


def is_sensitive(name: str) -> bool:
    """Whether values under this name are secret or personal."""
    plain = _CAMEL.sub("_", name[:_NAME_CHARS_MAX]).lower().replace("-", "_").replace(" ", "_")
    return bool(_SECRET_NAME.search(plain) or _PERSONAL_NAME.search(plain))


class _Walk:
    """One pass over a line's values; it counts what it has seen, so that none goes on for ever."""

    def __init__(self, suspicions: frozenset[int] | None) -> None:
        self._suspicions = suspicions
        self._leaves = 0
        self._chars = 0

    def named(self, name: object, value: object, depth: int) -> object:
        if value is None or value is True or value is False:
            return value
        if _known_name(name)[1]:
            return MASK
        if depth == 0 and self._suspicions is not None and type(value) is str:
            return applied(value, self._suspicions) if self._suspicions else value
        return self._value(value, depth)

    def _value(self, value: object, depth: int) -> object:
        self._leaves += 1
        if self._leaves > LEAVES_MAX or depth > DEPTH_MAX:
            return "[left out]"
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, int):
            return self._text(_printed(value)) if _changes(value) else int(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else str(float(value))
        return self._several(value, depth)

    def _several(self, value: object, depth: int) -> object:
        if isinstance(value, Mapping):
            items = list(islice(value.items(), ITEMS_MAX))
            return {_known_name(name)[0]: self.named(name, it, depth + 1) for name, it in items}
        if isinstance(value, tuple) and len(value) == _PAIR:
            # Headers are often pairs.
            return [self._value(value[0], depth + 1), self.named(value[0], value[1], depth + 1)]
        if isinstance(value, list | tuple | set | frozenset):
            return [self._value(item, depth + 1) for item in islice(value, ITEMS_MAX)]
        return self._text(_printed(value))

    def _text(self, text: str) -> str:
        self._chars += len(text)
        return redact(text) if self._chars <= _LINE_CHARS_MAX else "[left out]"


_names: dict[str, tuple[str, bool]] = {}


def _known_name(name: object) -> tuple[str, bool]:
    """Return a key as it may be shown, and whether its value must be masked."""
    found = _names.get(name) if type(name) is str else None
    if found is None:
        text = name if isinstance(name, str) else _printed(name)
        found = redact(text[:_NAME_CHARS_MAX]), is_sensitive(text)
        if len(_names) < _NAMES_MAX and len(text) <= _NAME_CHARS_MAX:
            _names[text] = found
    return found


def _changes(number: int) -> bool:
    # Python refuses to print integers of more than 4,300 digits; those are not cards.
    if -(10**10) < number < 10**10:
        return False
    return abs(number) >= 10**30 or redact(str(abs(number))) == MASK


def _printed(value: object) -> str:
    if isinstance(value, int) and abs(value) >= 10**30:
        return f"[an integer of {value.bit_length()} bits]"
    if isinstance(value, bytes | bytearray):
        return bytes(value[: TEXT_CHARS_MAX * 2]).decode(errors="backslashreplace")
    try:
        plain = isinstance(value, date | timedelta | Decimal | BaseException)
        shown = (repr if isinstance(value, BaseException) or not plain else str)(value)
        return str.__str__(shown)  # a subclass of str could fail later
    except OUTRIGHT as error:  # whatever it is, a log line must not fail
        return f"[a {type(value).__name__} that cannot be shown: {type(error).__name__}]"


def _storable(text: str) -> str:
    if "\0" in text:
        text = text.replace("\0", "\\0")
    if text.isascii():
        return text
    return text.encode(errors="backslashreplace").decode()


def _whole(text: str) -> str:
    return applied(text, suspicions(text))
