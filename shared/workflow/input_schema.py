"""The JSON Schema of a run's input: which schemas are allowed, and how an input is validated.

A definition is a stranger's: its patterns are matched by an engine that takes linear time, its
references lead nowhere but into itself, and what they unfold to is bounded, as is the number of
checks that one input costs: twenty references that each name the next one twice are a million.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote

import jsonschema
from referencing.exceptions import Unresolvable

PATTERN_CHARS_MAX: Final = 200
VALUES_MAX: Final = 5_000
UNFOLDED_MAX: Final = 20_000  # values, each reference replaced by what it leads to
# Keywords that are looked at for one input: some, and some more for each of its values.
CHECKS_MAX: Final = 10_000
CHECKS_PER_VALUE: Final = 20
FAULTS_MAX: Final = 5
_REFS: Final = ("$ref", "$dynamicRef")
# Python's own engine would match these names.
_UNREAD: Final = ("patternProperties", "unevaluatedProperties")

Path = tuple[str, ...]


class _TooManyChecks(Exception):
    """An input costs more checks than it may."""


# How many checks are left for the input that is looked at.
_left: ContextVar[int] = ContextVar("checks_left")


def schema_faults(schema: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Errors in the schema of a definition's inputs, with their paths."""
    waiting: list[tuple[Path, Any]] = [((), schema)]
    count = 0
    while waiting:
        path, value = waiting.pop()
        count += 1
        if count > VALUES_MAX:
            yield (), f"it has more than {VALUES_MAX:,} values"
            return
        if isinstance(value, dict):
            yield from _own_faults(path, value)
            waiting.extend(((*path, str(key)), one) for key, one in value.items())
        elif isinstance(value, list):
            waiting.extend(((*path, str(at)), one) for at, one in enumerate(value))
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        yield tuple(map(str, error.path)), error.message[:200]
        return
    except RecursionError:
        yield (), "it nests too deeply"
        return
    if _Unfolding(schema).size(schema) > UNFOLDED_MAX:
        yield (), f"its references unfold to more than {UNFOLDED_MAX:,} values"
        return
    samples: tuple[object, ...] = ({}, [], "", 0)
    for instance in samples:
        if wrong := _breaks(schema, instance):
            yield (), wrong
            return


def input_faults(schema: Mapping[str, Any], given: object) -> list[str]:
    """Errors of an input against the schema, at most 5, each with its path."""
    _left.set(CHECKS_MAX + CHECKS_PER_VALUE * _values(given))
    try:
        faults = []
        for fault in _Validator(schema).iter_errors(given):
            faults.append(f"{fault.json_path}: {fault.message[:200]}")
            if len(faults) == FAULTS_MAX:
                break
        return faults
    except RecursionError:
        return ["the schema refers to itself without end"]
    except _TooManyChecks:
        return ["the schema asks for too many checks of this input"]
    except Unresolvable as error:
        return [f"the schema refers to {error.ref!r}, which does not exist"]


def _own_faults(path: Path, value: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    for name in _REFS:
        if isinstance(value.get(name), str) and not value[name].startswith("#"):
            yield (*path, name), "a reference may only point into this schema"
    if path[-1:] != ("properties",):
        for name in _UNREAD:
            if name in value:
                yield (*path, name), f"{name} is not supported"
    pattern = value.get("pattern")
    if isinstance(pattern, str):
        if len(pattern) > PATTERN_CHARS_MAX:
            yield (*path, "pattern"), f"a pattern must be at most {PATTERN_CHARS_MAX} characters"
        elif not _is_pattern(pattern):
            yield (
                (*path, "pattern"),
                "invalid pattern; look-around and back-references are not supported",
            )


def _breaks(schema: Mapping[str, Any], instance: object) -> str | None:
    """The reason why the schema cannot be used at all, tried with an input."""
    _left.set(CHECKS_MAX)
    try:
        next(_Validator(schema).iter_errors(instance), None)
    except RecursionError:
        return "it refers to itself without end"
    except _TooManyChecks:
        return f"it asks for more than {CHECKS_MAX:,} checks of {instance!r}"
    except Unresolvable as error:
        return f"it refers to {error.ref!r}, which does not exist"
    return None


@lru_cache(maxsize=1)
def _matches() -> Any:  # noqa: ANN401 - the library has no types
    import cel  # noqa: PLC0415 - it brings a terminal of its own, 11 MB

    return cel.compile("text.matches(pattern)")


@lru_cache(maxsize=1_024)
def _is_pattern(pattern: str) -> bool:
    try:
        _matches().execute({"text": "", "pattern": pattern})
    except (ValueError, RuntimeError, TypeError):
        return False
    return True


def _pattern(
    _validator: object, pattern: str, instance: object, _schema: object
) -> Iterator[jsonschema.ValidationError]:
    if isinstance(instance, str) and not _matches().execute({"text": instance, "pattern": pattern}):
        yield jsonschema.ValidationError(f"{instance[:64]!r} does not match {pattern!r}")


def _unique_items(
    validator: jsonschema.Draft202012Validator, wanted: bool, instance: object, _schema: object
) -> Iterator[jsonschema.ValidationError]:
    """As the library has it, in linear time: it compares each item with each other one."""
    if wanted and validator.is_type(instance, "array") and isinstance(instance, list):
        texts = {json.dumps(_comparable(item), sort_keys=True) for item in instance}
        if len(texts) < len(instance):
            yield jsonschema.ValidationError("it has non-unique elements")


def _comparable(value: object) -> object:
    """A value so that equal ones have one text: 1 and 1.0 are equal, true and 1 are not."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _comparable(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_comparable(one) for one in value]
    return value


def _values(given: object) -> int:
    """How many values an input has."""
    waiting, count = [given], 0
    while waiting:
        value = waiting.pop()
        count += 1
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return count


class _Unfolding:
    """How large a schema is when each reference is replaced by what it leads to."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._sizes: dict[int, int] = {}
        self._anchors: dict[str, object] = {}
        waiting: list[Any] = [schema]
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict):
                for name in ("$anchor", "$dynamicAnchor"):
                    if isinstance(value.get(name), str):
                        self._anchors[value[name]] = value
                waiting.extend(value.values())
            elif isinstance(value, list):
                waiting.extend(value)

    def size(self, value: object) -> int:
        """The size of a part; what refers to itself is counted once around."""
        if not isinstance(value, dict | list):
            return 1
        if id(value) not in self._sizes:
            self._sizes[id(value)] = 1
            parts = value.values() if isinstance(value, dict) else value
            size = 1 + sum(map(self.size, parts))
            if isinstance(value, dict):
                size += sum(
                    self.size(self._found(value[name]))
                    for name in _REFS
                    if isinstance(value.get(name), str)
                )
            self._sizes[id(value)] = size
        return self._sizes[id(value)]

    def _found(self, reference: str) -> object:
        name = unquote(reference.partition("#")[2])
        if not name.startswith("/"):
            return self._anchors.get(name) if name else self._schema
        value: Any = self._schema
        for step in name[1:].split("/"):
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(value, dict):
                value = value.get(key)
            elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
                value = value[int(key)]
            else:
                return None
        return value


Keyword = Callable[[Any, Any, Any, Any], Any]


def _counted(keyword: Keyword) -> Keyword:
    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Any:  # noqa: ANN401
        left = _left.get() - 1 - (len(value) // 10 if isinstance(value, list) else 0)
        _left.set(left)
        if left < 0:
            raise _TooManyChecks
        return keyword(validator, value, instance, schema)

    return counted


_Validator: Final = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    jsonschema.Draft202012Validator,
    {
        name: _counted(keyword)
        for name, keyword in {
            **jsonschema.Draft202012Validator.VALIDATORS,
            "pattern": _pattern,
            "uniqueItems": _unique_items,
        }.items()
    },
)
