"""What JSON may hold here, the same at every door: how deep it nests, which numbers and texts.

Postgres keeps more in a JSONB column than Python reads: numbers of 130,000 digits, thousands of
brackets. Python in turn makes what Postgres refuses: NaN, half of a surrogate pair. So each door
refuses both, the domain "JobPayload" refuses what SQL can see, and a value that is stored all the
same is read as its text: it costs the job that owns it, and no other row of the same answer.
"""

import json
import math
from collections.abc import Iterable
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from shared.errors import PayloadRefused

# Objects and lists within one another, the outermost counted. pydantic writes 254 of them; the
# domain "JobPayload" has the same limit, and a test compares the two.
DEPTH_MAX: Final = 100
# About as far as a float reaches.
NUMBER_MAX: Final = int(1e308)

# Of one value; a list that holds itself is as deep as it is wide.
VALUES_MAX: Final = 1_000_000
Number = TypeVar("Number", int, float)
_NESTING: Final = (dict, list, tuple, set, frozenset, BaseModel)
# What the text of a model has where a value of it was written as something else, or is at the edge.
_TRACES: Final = ("\\u0000", "\ufffd", "e308")
_DIGITS: Final = b"0" * 309
_ZEROS: Final = bytes.maketrans(b"123456789", b"000000000")
_TOO_DEEP: Final = f"it is nested deeper than {DEPTH_MAX} levels"
_TOO_MANY: Final = f"it holds more than {VALUES_MAX:,} values"
_TOO_LARGE: Final = "a number is beyond 1e308"


class UnreadableJson(str):
    """The text of a stored JSON value that cannot be read; `why` completes a sentence."""

    __slots__ = ("why",)
    why: str


def read_json(text: str) -> Any:  # noqa: ANN401 - JSON
    """Read JSON that comes from outside.

    Raises:
        PayloadRefused: It is not JSON, or has what `fault_of` finds.
    """
    if _holds_too_many(text):
        raise PayloadRefused(f"Invalid JSON: {_TOO_MANY}.")
    try:
        value = _decoder.decode(text)
    except RecursionError:
        raise PayloadRefused(f"Invalid JSON: {_TOO_DEEP}.") from None
    except ValueError as error:
        raise PayloadRefused(f"Invalid JSON: {error}.") from None
    why = fault_of(value) if "\\u" in text or _brackets(text.encode()) > DEPTH_MAX else None
    if why is not None:
        raise PayloadRefused(f"Invalid JSON: {why}.")
    return value


def write_json(model: BaseModel) -> str:
    """Write a model as JSON that is read again as what it is.

    pydantic writes NaN, and what is infinite, as null, and half of a surrogate pair in a name as
    three replacement characters. The walk through all values is made where the text has a trace of
    such a thing, which costs a microsecond to see.

    Raises:
        PayloadRefused: It has what `fault_of` finds, or a value that JSON does not know.
    """
    try:
        text = model.model_dump_json()
    except (ValueError, TypeError, RecursionError) as error:  # pydantic's own is a ValueError
        raise PayloadRefused(f"{fault_of(model) or error}.") from error
    nulls = sum(value is None for value in model.__dict__.values())
    if text.count("null") > nulls or any(map(text.__contains__, _TRACES)) or _is_suspect(text):
        why = fault_of(model)
        if why is not None:
            raise PayloadRefused(f"{why}.")
    return text


def stored_json(text: str | bytes) -> Any:  # noqa: ANN401 - JSON
    """Read a stored JSON value; one that cannot be read comes back as `UnreadableJson`."""
    raw = text.encode() if isinstance(text, str) else text
    try:
        value = _decoder.decode(raw.decode())
        why = fault_of(value) if _brackets(raw) > DEPTH_MAX else None
    except RecursionError:
        value, why = None, _TOO_DEEP
    except ValueError as error:
        value, why = None, str(error)
    if why is None:
        return value
    unread = UnreadableJson(raw.decode(errors="replace"))
    unread.why = why
    return unread


def fault_of(value: Any) -> str | None:  # noqa: ANN401 - JSON, or a model of it
    """Return why a value cannot be stored as JSON and read again, or None.

    It is nested too deep, or has a number that is not finite or too large, a NUL character, or half
    of a surrogate pair. The walk goes level by level: depth costs no recursion.
    """
    level, depth, count = [value], 0, 0
    while level:
        inner: list[Any] = []
        for one in level:
            why = _fault(one)
            if why is not None:
                return why
            inner += _inside(one)
        depth += 1
        count += len(level)
        if depth > DEPTH_MAX and any(isinstance(one, _NESTING) for one in level):
            return _TOO_DEEP
        if count > VALUES_MAX:
            return _TOO_MANY
        level = inner
    return None


def _fault(one: Any) -> str | None:  # noqa: ANN401 - JSON
    if isinstance(one, str):
        if "\0" in one:
            return "a text has a NUL character, which Postgres cannot store"
        if not one.isascii() and not _is_unicode(one):
            return "a text has half of a surrogate pair, such as an emoji cut in two"
    elif isinstance(one, float) and not math.isfinite(one):
        return "a number is NaN or infinite"
    elif isinstance(one, int | float) and not -NUMBER_MAX <= one <= NUMBER_MAX:
        return _TOO_LARGE
    return None


def _inside(one: Any) -> Iterable[Any]:  # noqa: ANN401 - JSON
    if isinstance(one, dict):
        return [*one.keys(), *one.values()]
    if isinstance(one, BaseModel):
        return one.__dict__.values()
    return one if isinstance(one, _NESTING) else ()


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _holds_too_many(text: str) -> bool:
    """Whether JSON is sure to hold too many values, seen without making them.

    A comma or a colon adds a value, and a bracket begins one; those within texts are left out.
    """
    if not _is_over(text):
        return False
    bare = text.replace("\\\\", "").replace('\\"', "")
    if bare.count('"') // 2 > VALUES_MAX:
        return True
    return _is_over("".join(bare.split('"')[::2]))


def _is_over(text: str) -> bool:
    return (
        text.count(",") + text.count(":") >= VALUES_MAX
        or text.count("[") + text.count("{") > VALUES_MAX
    )


def _brackets(text: bytes) -> int:
    return text.count(b"[") + text.count(b"{")


def _is_suspect(text: str) -> bool:
    """Whether a text may be nested too deep, or have a number of too many digits."""
    raw = text.encode()
    long = len(raw) > len(_DIGITS) and _DIGITS in raw.translate(_ZEROS)
    return long or _brackets(raw) > DEPTH_MAX


def _int(text: str) -> int:
    if len(text) > len(_DIGITS) + 1:  # and its sign
        raise ValueError(_TOO_LARGE)
    return _within(int(text))


def _float(text: str) -> float:
    value = float(text)
    if value == 0 and text.lower().partition("e")[0].strip("-0."):
        raise ValueError("a number is too close to 0 (5e-324)")
    return _within(value)


def _within(value: Number) -> Number:
    if not -NUMBER_MAX <= value <= NUMBER_MAX:
        raise ValueError(_TOO_LARGE)
    return value


def _constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


_decoder: Final = json.JSONDecoder(parse_int=_int, parse_float=_float, parse_constant=_constant)
