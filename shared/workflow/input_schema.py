"""The JSON Schema of a run's input: which schemas are allowed, and how an input is validated.

A definition is a stranger's: its patterns are matched by an engine that takes linear time, and
its references lead nowhere but into itself.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import cel
import jsonschema
from referencing.exceptions import Unresolvable

PATTERN_CHARS_MAX: Final = 200
VALUES_MAX: Final = 5_000
FAULTS_MAX: Final = 5
_REFS: Final = ("$ref", "$dynamicRef")
# Python's own engine would match these names.
_UNREAD: Final = ("patternProperties", "unevaluatedProperties")
_MATCHES: Final = cel.compile("text.matches(pattern)")

Path = tuple[str, ...]


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
    samples: tuple[object, ...] = ({}, [], "", 0)
    for instance in samples:
        if wrong := _breaks(schema, instance):
            yield (), wrong
            return


def input_faults(schema: Mapping[str, Any], given: object) -> list[str]:
    """Errors of an input against the schema, at most 5, each with its path."""
    try:
        faults = []
        for fault in _Validator(schema).iter_errors(given):
            faults.append(f"{fault.json_path}: {fault.message[:200]}")
            if len(faults) == FAULTS_MAX:
                break
        return faults
    except RecursionError:
        return ["the schema refers to itself without end"]
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
    try:
        next(_Validator(schema).iter_errors(instance), None)
    except RecursionError:
        return "it refers to itself without end"
    except Unresolvable as error:
        return f"it refers to {error.ref!r}, which does not exist"
    return None


@lru_cache(maxsize=1_024)
def _is_pattern(pattern: str) -> bool:
    try:
        _MATCHES.execute({"text": "", "pattern": pattern})
    except (ValueError, RuntimeError, TypeError):
        return False
    return True


def _pattern(
    _validator: object, pattern: str, instance: object, _schema: object
) -> Iterator[jsonschema.ValidationError]:
    if isinstance(instance, str) and not _MATCHES.execute({"text": instance, "pattern": pattern}):
        yield jsonschema.ValidationError(f"{instance[:64]!r} does not match {pattern!r}")


_Validator: Final = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    jsonschema.Draft202012Validator, {"pattern": _pattern}
)
