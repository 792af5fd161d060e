"""Read a definition: parse it, check it, and report all faults at once, with line and column."""

import math
import re
from collections.abc import Sequence
from typing import Final

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from shared import field_errors
from shared.errors import DefinitionRefused
from shared.workflow import checks
from shared.workflow.checks import Fault, Path, shortened
from shared.workflow.definition import Definition, StepSpec
from shared.workflow.loading import DEPTH_MAX, Unreadable, collected_later, loaded

BYTES_MAX: Final = 10_000_000
VALUES_MAX: Final = 3_000_000
FAULTS_MAX: Final = 20
COMPARED_FAULTS_MAX: Final = 10
# Errors of a definition this large name only the step: finding lines would take longer.
PLACED_BYTES_MAX: Final = 2_000_000
_UNKEPT: Final = re.compile(r"[\x00\ud800-\udfff]")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def read(text: str, *, source: str = "workflow") -> Definition:
    """Read and check a definition.

    Args:
        text: YAML or JSON, at most 10 MB.
        source: Its name in messages, such as that of its file.

    Raises:
        DefinitionRefused: One line an error, at most 20: `source:line:column: rule: sentence`.
    """
    with collected_later():
        definition, faults = _checked(_parsed(text, source))
    if definition is None or faults:
        lines = _lines(faults, source, _Places(text) if len(text) <= PLACED_BYTES_MAX else None)
        more = len(faults) - FAULTS_MAX
        raise DefinitionRefused("\n".join([*lines, *([f"and {more} more"] if more > 0 else [])]))
    return definition


def of_json(value: object, *, source: str = "workflow") -> Definition:
    """A definition from its JSON form, as "Workflow"."dag" holds it.

    Raises:
        DefinitionRefused: One line an error, with its path.
    """
    with collected_later():
        _refuse_unwieldy(value, source)
        definition, faults = _checked(value)
    if definition is None or faults:
        raise DefinitionRefused("\n".join(_lines(faults, source, None)))
    return definition


def _parsed(text: str, source: str) -> object:
    if len(text.encode(errors="replace")) > BYTES_MAX:
        raise DefinitionRefused(f"{source}: too_large: at most {BYTES_MAX:,} bytes.")
    found = _CONTROL.search(text)
    if found is not None:
        line = text.count("\n", 0, found.start()) + 1
        raise DefinitionRefused(
            f"{source}:{line}: control_character: U+{ord(found[0]):04X} is not allowed."
        )
    try:
        value = loaded(text)
    except Unreadable as error:
        at = f":{error.line}:{error.column}" if error.line else ""
        raise DefinitionRefused(f"{source}{at}: {error.rule}: {error}.") from None
    _refuse_unwieldy(value, source)
    return value


def _refuse_unwieldy(value: object, source: str) -> None:
    """Refuse values that nest too deeply, explode by aliases, or cannot be stored as JSON."""
    level, depth, count = [value], 0, 0
    while level:
        if depth > DEPTH_MAX:
            raise DefinitionRefused(
                f"{source}: too_deep: values nest too deeply: at most {DEPTH_MAX} levels."
            )
        count += len(level)
        if count > VALUES_MAX:
            raise DefinitionRefused(f"{source}: too_large: at most {VALUES_MAX:,} values.")
        level, depth = _below(level, source), depth + 1


def _below(level: list[object], source: str) -> list[object]:
    """The values inside those of a level, which is looked over on the way."""
    inner: list[object] = []
    for one in level:
        if type(one) is str:
            if not one.isprintable():
                _refuse_text(one, source)
        elif type(one) is dict:
            for name in one:
                _refuse_name(name, source)
            inner.extend(one.values())
        elif type(one) is list:
            inner.extend(one)
        else:
            _refuse_other(one, source)
        if len(inner) > VALUES_MAX:
            break
    return inner


def _refuse_text(text: str, source: str) -> None:
    # Escapes make what the file itself may not hold; Postgres keeps no NUL in JSON.
    found = _UNKEPT.search(text)
    if found is not None:
        raise DefinitionRefused(
            f"{source}: control_character: U+{ord(found[0]):04X} is not allowed."
        )


def _refuse_name(name: object, source: str) -> None:
    if type(name) is not str:
        raise DefinitionRefused(f"{source}: bad_name: {name!r} is not a text.")
    if not name.isprintable():
        _refuse_text(name, source)


def _refuse_other(one: object, source: str) -> None:
    if isinstance(one, float) and not math.isfinite(one):
        raise DefinitionRefused(f"{source}: syntax: {one} is not a JSON number.")
    if not (one is None or isinstance(one, bool | int | float)):
        raise DefinitionRefused(f"{source}: syntax: a {type(one).__name__} is not a JSON value.")


def _checked(value: object) -> tuple[Definition | None, list[Fault]]:
    try:
        definition = Definition.model_validate(value)
    except ValidationError as error:
        return None, [_fault(detail) for detail in error.errors(include_url=False)]
    return definition, checks.faults_of(definition)


def _fault(detail: ErrorDetails) -> Fault:
    path = tuple(str(part) for part in detail["loc"] if part != "[key]")
    name = path[-1] if path else ""
    if detail["type"] == "extra_forbidden":
        model = StepSpec if len(path) == 3 and path[0] == "steps" else Definition  # noqa: PLR2004
        known = [field.alias or key for key, field in model.model_fields.items()]
        return Fault(path, "unknown_field", f"there is no field {name!r}", (name, known))
    if detail["loc"] and detail["loc"][-1] == "[key]":
        return Fault(
            path, "bad_name", f"invalid step name {name!r}: letters, digits and _, at most 64"
        )
    return Fault(path, detail["type"], field_errors.told(detail))


class _Places:
    """Where paths begin in a text; the names of a map are looked up, not gone over."""

    def __init__(self, text: str) -> None:
        self._names: dict[int, dict[str, tuple[yaml.Node, yaml.Node]]] = {}
        try:
            self._root = yaml.compose(text, Loader=yaml.CSafeLoader)
        except (yaml.YAMLError, RecursionError):
            self._root = None

    def mark(self, path: Path) -> yaml.Mark | None:
        """Where a path begins, or the last part of it that exists."""
        node = self._root
        mark = None if node is None else node.start_mark
        for part in path:
            if isinstance(node, yaml.MappingNode):
                found = self._named(node).get(part)
                if found is None:
                    break
                mark, node = found[0].start_mark, found[1]
            elif (
                isinstance(node, yaml.SequenceNode)
                and part.isdigit()
                and int(part) < len(node.value)
            ):
                node = node.value[int(part)]
                mark = node.start_mark
            else:
                break
        return mark

    def _named(self, node: yaml.MappingNode) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        if id(node) not in self._names:
            pairs = ((key.value, (key, value)) for key, value in reversed(node.value))
            self._names[id(node)] = {name: pair for name, pair in pairs if isinstance(name, str)}
        return self._names[id(node)]


def _lines(faults: Sequence[Fault], source: str, places: _Places | None) -> list[str]:
    """The first errors, one a line; the nearest known name is looked for in some of them."""
    marked = [(None if places is None else places.mark(one.path), one) for one in faults]
    marked.sort(key=lambda pair: (pair[0].line, pair[0].column) if pair[0] else (0, 0))
    return [
        _line(fault, source, mark, compared=number < COMPARED_FAULTS_MAX)
        for number, (mark, fault) in enumerate(marked[:FAULTS_MAX])
    ]


def _line(fault: Fault, source: str, mark: yaml.Mark | None, *, compared: bool) -> str:
    where = shortened(".".join(fault.path))
    at = f":{mark.line + 1}:{mark.column + 1}" if mark is not None else ""
    named = f"{where}: " if where else ""
    return f"{source}{at}: {fault.rule}: {named}{fault.sentence(compared=compared)}"
