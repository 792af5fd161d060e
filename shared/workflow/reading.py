"""Read a definition from YAML or JSON; all its faults are told at once, with their places."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from shared.errors import DefinitionRefused
from shared.workflow import checks
from shared.workflow.checks import Fault, Path, nearest
from shared.workflow.definition import Definition, StepSpec

BYTES_MAX: Final = 10_000_000
VALUES_MAX: Final = 3_000_000
DEPTH_MAX: Final = 40
# Of brackets in the text, those within texts too, before it is parsed.
NESTING_MAX: Final = 500
FAULTS_MAX: Final = 20
# A definition this large is told its faults by step alone: finding lines would take longer.
PLACED_BYTES_MAX: Final = 2_000_000
_BRACKETS: Final = re.compile(r"[\[\]{}]")
_DASHES: Final = re.compile(r"(?:[-?:][ \t]+){50}")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class _Loader(yaml.CSafeLoader):
    """YAML without what definitions have no use for: names that come twice, tags, timestamps."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose names are texts and come once."""
        made = super().construct_mapping(node, deep=deep)
        if len(made) < len(node.value):
            raise yaml.constructor.ConstructorError(None, None, _twice(node), node.start_mark)
        return made


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def read(text: str, *, source: str = "workflow") -> Definition:
    """Read and check a definition.

    Args:
        text: YAML or JSON, at most 10 MB.
        source: What messages call it, such as its file's name.

    Raises:
        DefinitionRefused: One line a fault, at most 20: `source:line:column: rule: what is wrong`.
    """
    value = _parsed(text, source)
    definition, faults = _checked(value)
    if definition is None or faults:
        places = _places(text) if len(text) <= PLACED_BYTES_MAX else None
        lines = [_line(fault, source, places) for fault in faults[:FAULTS_MAX]]
        more = len(faults) - FAULTS_MAX
        raise DefinitionRefused("\n".join([*lines, *([f"and {more} more"] if more > 0 else [])]))
    return definition


def of_json(value: object, *, source: str = "workflow") -> Definition:
    """A definition from its JSON form, as "Workflow"."dag" holds it.

    Raises:
        DefinitionRefused: One line a fault, with its path.
    """
    _refuse_unwieldy(value, source)
    definition, faults = _checked(value)
    if definition is None or faults:
        lines = [_line(fault, source, None) for fault in faults[:FAULTS_MAX]]
        raise DefinitionRefused("\n".join(lines))
    return definition


def _parsed(text: str, source: str) -> object:
    if len(text.encode(errors="replace")) > BYTES_MAX:
        raise DefinitionRefused(f"{source}: too_large: at most {BYTES_MAX:,} bytes.")
    found = _CONTROL.search(text)
    if found is not None:
        line = text.count("\n", 0, found.start()) + 1
        raise DefinitionRefused(
            f"{source}:{line}: control_character: U+{ord(found[0]):04X} has no place here."
        )
    _refuse_nesting(text, source)
    try:
        value = _json(text) if text.lstrip().startswith("{") else yaml.load(text, _Loader)  # noqa: S506 - a safe loader's child
    except yaml.YAMLError as error:
        raise DefinitionRefused(f"{source}{_yaml_fault(error)}") from None
    except (ValueError, RecursionError) as error:
        raise DefinitionRefused(f"{source}: syntax: {error}.") from None
    _refuse_unwieldy(value, source)
    return value


def _refuse_nesting(text: str, source: str) -> None:
    """Refuse nesting that would overflow the stack of the YAML reader, which is written in C."""
    depth = deepest = 0
    for found in _BRACKETS.finditer(text):
        depth += 1 if found[0] in "[{" else -1
        deepest = max(deepest, depth)
    indent = max((len(line) - len(line.lstrip(" ")) for line in text.splitlines()), default=0)
    if deepest > NESTING_MAX or indent > 2 * NESTING_MAX or _DASHES.search(text):
        raise DefinitionRefused(f"{source}: too_deep: values nest {DEPTH_MAX} deep at most.")


def _json(text: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        try:
            return yaml.load(text, _Loader)  # noqa: S506 - YAML in flow style begins so too
        except yaml.YAMLError:
            raise ValueError(f"line {error.lineno}, column {error.colno}: {error.msg}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} comes twice")
    return made


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")


def _twice(node: yaml.MappingNode) -> str:
    seen: set[str] = set()
    for key, _ in node.value:
        if key.value in seen:
            return f"the name {key.value!r} comes twice"
        seen.add(key.value)
    return "a name comes twice"


def _yaml_fault(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error)
    return (
        f": syntax: {what}."
        if mark is None
        else f":{mark.line + 1}:{mark.column + 1}: syntax: {what}."
    )


def _refuse_unwieldy(value: object, source: str) -> None:
    """Refuse what nests too deep, or grows by aliases beyond measure, before anything recurses."""
    waiting: list[tuple[object, int]] = [(value, 0)]
    count = 0
    while waiting:
        one, depth = waiting.pop()
        count += 1
        if depth > DEPTH_MAX:
            raise DefinitionRefused(f"{source}: too_deep: values nest {DEPTH_MAX} deep at most.")
        if count > VALUES_MAX:
            raise DefinitionRefused(f"{source}: too_large: at most {VALUES_MAX:,} values.")
        inner: Iterable[object] = ()
        if isinstance(one, dict):
            inner = one.values()
        elif isinstance(one, list):
            inner = one
        waiting.extend((each, depth + 1) for each in inner)


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
        return Fault(path, "unknown_field", f"there is no field {name!r}{nearest(name, known)}")
    if detail["loc"] and detail["loc"][-1] == "[key]":
        return Fault(
            path, "bad_name", f"{name!r} is no name of a step: letters, digits and _, at most 64"
        )
    return Fault(path, detail["type"], detail["msg"][:1].lower() + detail["msg"][1:])


Places = dict[str, Any]


def _places(text: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, RecursionError):
        return None


def _line(fault: Fault, source: str, places: yaml.Node | None) -> str:
    where = ".".join(fault.path)
    mark = _mark(places, fault.path)
    at = f":{mark.line + 1}:{mark.column + 1}" if mark is not None else ""
    named = f"{where}: " if where else ""
    return f"{source}{at}: {fault.rule}: {named}{fault.message}."


def _mark(node: yaml.Node | None, path: Sequence[str] | Path) -> yaml.Mark | None:
    """Where a path begins, or the last part of it that exists."""
    mark = None if node is None else node.start_mark
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = next((pair for pair in node.value if pair[0].value == part), None)
            if found is None:
                break
            mark, node = found[0].start_mark, found[1]
        elif isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            node = node.value[int(part)]
            mark = node.start_mark
        else:
            break
    return mark
