"""Errors of fields in plain words: what pydantic finds, as people and operators are told it."""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final

from pydantic_core import ErrorDetails

NAME_CHARS_MAX: Final = 100  # of an unknown name, as an error repeats it
_NAMES_MAX: Final = 20

# By the type of pydantic's error; braces are filled from its context.
_SENTENCES: Final[Mapping[str, str]] = {
    "missing": "is required",
    "none_required": "must be null",
    "string_type": "must be text",
    "string_unicode": "must be text in UTF-8",
    "string_too_short": "must be at least {min_length} characters",
    "string_too_long": "must be at most {max_length} characters",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "decimal_type": "must be a decimal number",
    "decimal_parsing": "must be a decimal number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "set_type": "must be a list",
    "frozen_set_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "json_invalid": "must be valid JSON",
    "uuid_type": "must be a UUID",
    "uuid_parsing": "must be a UUID",
    "datetime_type": "must be a time such as 2026-11-01T12:00:00Z",
    "datetime_parsing": "must be a time such as 2026-11-01T12:00:00Z",
    "datetime_from_date_parsing": "must be a time such as 2026-11-01T12:00:00Z",
    "datetime_object_invalid": "must be a time such as 2026-11-01T12:00:00Z",
    "timezone_aware": "must have a time zone, as 2026-11-01T12:00:00Z has",
}
_ONE: Final = re.compile(r"\b1 (item|character)s\b")
# What a pattern asks for. One that is not here is an invalid form.
_PATTERNS: Final[Mapping[str, str]] = {
    r"^[^\u0000]*$": "must not contain NUL characters",
    r"^[^\u0000]*\S[^\u0000]*$": "must not be blank, or contain NUL characters",
    r"^[^\u0000-\u001f\u007f/]*$": "must not contain a / or control characters",
    r"^[^\u0000-\u001f\u007f/?#]*$": "must not contain /, ?, # or control characters",
    r"^[ -~]+$": "must be printable ASCII characters",
    r"^[0-9a-f]{64}$": "must be 64 hex digits in lower case",
    r"^[a-z][a-z0-9-]{0,63}$": "must be at most 64 of a-z, 0-9 and -, a letter first",
    r"^[a-z][a-z0-9_-]{0,30}$": "must be at most 31 of a-z, 0-9, _ and -, a letter first",
    r"^[A-Za-z][A-Za-z0-9_]{0,63}$": "must be at most 64 letters, digits and _, a letter first",
    r"^[0-9]{1,12}(\.[0-9]{1,8})?$": "must be a decimal number such as 0.15",
    r"^\d{1,12}(\.\d{1,8})?$": "must be a decimal number such as 0.15",
    r"^[0-9]{1,15}-[0-9]{1,15}$": "must be an event's position, such as 812-3",
}


def told(found: ErrorDetails | Mapping[str, Any], names: Iterable[str] = ()) -> str:
    """Return what is wrong with a field, without its name: "must be at most 9".

    Args:
        found: One of pydantic's errors.
        names: The fields that there are, for one that is unknown.
    """
    kind, context = str(found["type"]), found.get("ctx") or {}
    if kind == "value_error":
        return str(context.get("error", found["msg"])).rstrip(".")
    if kind == "extra_forbidden":
        name = str(found["loc"][-1]) if found["loc"] else ""
        return f"unknown field{nearest(name, names, 'fields')}"
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(str(context.get("pattern")), "has an invalid form")
    sentence = _SENTENCES.get(kind)
    if sentence is not None:
        return _ONE.sub(r"1 \1", sentence.format_map(context))
    message = str(found["msg"])
    return message[:1].lower() + message[1:]


def nearest(name: str, names: Iterable[str], what: str) -> str:
    """Return what follows an unknown name: the one that was meant, and those that are known.

    Args:
        name: What was given.
        names: What is known.
        what: What they are, such as `fields`.
    """
    known = sorted(names)
    if not known:
        return ""
    close = get_close_matches(name[:NAME_CHARS_MAX], known, n=1)
    meant = f"; did you mean {close[0]!r}" if close else ""
    more = ", ..." if len(known) > _NAMES_MAX else ""
    return f"{meant}; known {what}: {', '.join(known[:_NAMES_MAX])}{more}"
