"""Parse a text, YAML or JSON, into plain JSON values; nothing here knows what a workflow is.

YAML is built from the parser's events, fast enough for 100,000 steps: no recursion, no tags, and
texts mean what YAML 1.2 and editors say (`no`, `1:30` and dates are texts). Names are texts as
they are written.
"""

import gc
import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import yaml

DEPTH_MAX: Final = 35  # 32 of them below `with`
_SPECIAL: Final = frozenset("-+.0123456789~nNtTfF")
_CONSTANTS: Final = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INT: Final = re.compile(r"[-+]?[0-9]+")
_OTHER_INT: Final = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NO_NUMBER: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_DIGITS_MAX: Final = 300


class Unreadable(ValueError):
    """Not a definition; line and column count from 1, or are 0 where not known."""

    def __init__(self, rule: str, message: str, line: int = 0, column: int = 0) -> None:
        super().__init__(message)
        self.rule = rule
        self.line = line
        self.column = column


@contextmanager
def collected_later() -> Iterator[None]:
    """Pause the garbage collector: it would take a third of the time and find nothing.

    Of two threads in here, the one that found the collector on puts it on again.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def loaded(text: str) -> object:
    """The JSON value of a text in YAML or JSON.

    Raises:
        Unreadable: Invalid syntax, a duplicate name, too deep nesting, or values that JSON lacks.
    """
    if not text.lstrip().startswith("{"):
        return _yaml(text)
    try:
        return json.loads(
            text, object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_float
        )
    except (ValueError, RecursionError) as error:
        return _placed(text, error)


def _placed(text: str, error: Exception) -> object:
    """JSON that is refused is read as YAML, which tells the place; or is YAML in flow style."""
    try:
        value = _yaml(text)
    except Unreadable as found:
        if isinstance(error, json.JSONDecodeError) and text.lstrip()[1:].lstrip()[:1] == '"':
            raise Unreadable("syntax", error.msg, error.lineno, error.colno) from None
        raise found from None
    if isinstance(error, json.JSONDecodeError):
        return value
    raise Unreadable("syntax", str(error)) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("duplicate name")
    return made


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large")
    return value


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come; `name` waits for its value in a mapping."""

    into: Any
    name: str | None = None


def _yaml(text: str) -> object:
    parser = yaml.CSafeLoader(text)
    try:
        return _built(parser)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = str(getattr(error, "problem", None) or error).split("\n", 1)[0]
        if mark is None:
            raise Unreadable("syntax", what) from None
        raise Unreadable("syntax", what, mark.line + 1, mark.column + 1) from None
    finally:
        parser.dispose()


def _built(parser: yaml.CSafeLoader) -> object:
    result: list[Any] = []
    stack = [_Open(result)]
    anchors: dict[str, Any] = {}
    take = parser.get_event
    documents = 0
    while True:
        event: Any = take()
        kind = type(event)
        if kind is yaml.ScalarEvent:
            _scalar(event, stack[-1], anchors)
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            stack.pop()
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            _begin(event, stack, anchors)
        elif kind is yaml.AliasEvent:
            if event.anchor not in anchors:
                raise _at(event, "syntax", f"unknown anchor {event.anchor!r}")
            _put(event, stack[-1], anchors[event.anchor])
        elif kind is yaml.DocumentStartEvent:
            documents += 1
            if documents > 1:
                raise _at(event, "syntax", "but found another document")
        elif kind is yaml.StreamEndEvent:
            return result[0] if result else None


def _begin(event: Any, stack: list[_Open], anchors: dict[str, Any]) -> None:  # noqa: ANN401
    if event.tag is not None:
        raise _at(event, "syntax", f"tags such as {event.tag!r} are not allowed")
    if len(stack) > DEPTH_MAX:
        raise _at(event, "too_deep", f"values nest too deeply: at most {DEPTH_MAX} levels")
    made: Any = {} if type(event) is yaml.MappingStartEvent else []
    if event.anchor is not None:
        anchors[event.anchor] = made
    _put(event, stack[-1], made)
    stack.append(_Open(made))


def _scalar(event: Any, at: _Open, anchors: dict[str, Any]) -> None:  # noqa: ANN401
    text = event.value
    if event.tag is not None:
        raise _at(event, "syntax", f"tags such as {event.tag!r} are not allowed")
    if at.name is None and type(at.into) is dict:
        if text in at.into:
            raise _at(event, "syntax", f"duplicate name {text[:64]!r}")
        at.name = text
        return
    value = text
    if event.implicit[0] and (not text or text[0] in _SPECIAL):
        value = _plain(event, text)
    if event.anchor is not None:
        anchors[event.anchor] = value
    _put(event, at, value)


def _put(event: Any, at: _Open, value: Any) -> None:  # noqa: ANN401 - a JSON value
    if type(at.into) is list:
        at.into.append(value)
    elif at.name is None:
        raise _at(event, "syntax", "a name must be a text")
    else:
        at.into[at.name] = value
        at.name = None


def _plain(event: Any, text: str) -> Any:  # noqa: ANN401 - a JSON value
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.fullmatch(text):
        if len(text) > _DIGITS_MAX:
            raise _at(event, "syntax", f"a number must be at most {_DIGITS_MAX} digits")
        return int(text)
    if _OTHER_INT.fullmatch(text):
        return int(text[:_DIGITS_MAX], 0)
    if _NO_NUMBER.fullmatch(text):
        raise _at(event, "syntax", f"{text} is not a JSON number")
    if _FLOAT.fullmatch(text):
        value = float(text)
        if not math.isfinite(value):
            raise _at(event, "syntax", f"{text[:64]} is too large")
        return value
    return text


def _at(event: Any, rule: str, message: str) -> Unreadable:  # noqa: ANN401
    mark = event.start_mark
    return Unreadable(rule, message, mark.line + 1, mark.column + 1)
