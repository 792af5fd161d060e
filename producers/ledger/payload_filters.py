"""Conditions `FIELD=VALUE`: jobs by what their payload holds."""

import json
import re
from collections.abc import Sequence
from typing import Final

from shared.errors import UsageError

CONDITIONS_MAX: Final = 10
FIELD_CHARS_MAX: Final = 200
VALUE_CHARS_MAX: Final = 1_000
DEPTH_MAX: Final = 8

# As JSON has them, up to the largest whole number and the smallest float that a payload may hold.
_NUMBER: Final = re.compile(
    r"-?(?:0|[1-9]\d{0,399})(?:\.\d{1,400})?(?:[eE][+-]?\d{1,3})?", re.ASCII
)
_WORDS: Final = ("true", "false", "null")
_NOT_STORED: Final = re.compile("[\0\ud800-\udfff]")
_NEVER: Final = "no payload holds NUL or half a surrogate pair."


class ConditionRefused(UsageError):
    """A condition on payloads that is none."""

    code = "condition_refused"


def condition(wanted: Sequence[str]) -> str | None:
    """Write conditions as one predicate of SQL's JSON path language, which all must hold.

    A value that reads as a number, true, false or null is compared as that and as text; in double
    quotes it is text alone. A dot leads into an object; of a list, one element is enough.

    Args:
        wanted: Conditions such as `order.currency=TRY`, `n=17` or `code="017"`.

    Raises:
        ConditionRefused: One is malformed, or there are too many.
    """
    if not wanted:
        return None
    if len(wanted) > CONDITIONS_MAX:
        raise ConditionRefused(f"at most {CONDITIONS_MAX} conditions.")
    return " && ".join(f"({_one(text)})" for text in wanted)


def _one(text: str) -> str:
    field, equals, value = text.partition("=")
    names = field.split(".")
    if not equals or not all(names):
        raise ConditionRefused(f"{text[:80]!r} is not FIELD=VALUE, such as order_id=17.")
    if len(field) > FIELD_CHARS_MAX or len(names) > DEPTH_MAX or len(value) > VALUE_CHARS_MAX:
        raise ConditionRefused(
            f"a field has at most {FIELD_CHARS_MAX} characters and {DEPTH_MAX} names, "
            f"a value at most {VALUE_CHARS_MAX} characters."
        )
    if _NOT_STORED.search(text):
        raise ConditionRefused(_NEVER)
    path = "$" + "".join(f".{json.dumps(name)}" for name in names)
    return " || ".join(f"{path} == {literal}" for literal in _literals(value))


def _literals(value: str) -> list[str]:
    if value.startswith('"') and value.endswith('"') and len(value) > 1:
        try:
            text = json.loads(value)
        except ValueError:
            raise ConditionRefused(f"{value[:80]} is not a JSON string.") from None
        if _NOT_STORED.search(text):
            raise ConditionRefused(_NEVER)
        return [json.dumps(text)]
    if value in _WORDS or _NUMBER.fullmatch(value):
        return [value, json.dumps(value)]
    return [json.dumps(value)]
