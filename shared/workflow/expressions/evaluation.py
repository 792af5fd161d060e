"""Compile and evaluate expressions (CEL), and templates whose texts hold `${{ expression }}`."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final

from shared.errors import ExpressionFailed, ExpressionRefused
from shared.workflow.expressions.costs import CHUNK_ITEMS, is_expensive, refuse_expensive
from shared.workflow.expressions.lexing import CHARS_MAX, ExpressionToken, spans, words
from shared.workflow.expressions.references import NAMES, ParsedExpression, Path, parse_references

SHOWN_CHARS: Final = 100
_PATH: Final = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*$")
_PART: Final = "part_of_list"
_FUNCTIONS: Final = frozenset(
    [
        *("size", "contains", "startsWith", "endsWith", "matches", "type", "dyn", "has"),
        *("int", "uint", "double", "string", "timestamp", "duration"),
        *("getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"),
        *("getHours", "getMinutes", "getSeconds", "getMilliseconds"),
    ]
)
_OPERATOR: Final = re.compile(r"^(?:@|!_|-_|_[^\w])")
_NO_BOOL: Final = frozenset(
    [
        *("_+_", "_-_", "_*_", "_/_", "_%_", "-_"),
        *(_FUNCTIONS - {"contains", "startsWith", "endsWith", "matches", "dyn", "has"}),
    ]
)


@dataclass(frozen=True, slots=True)
class Expression:
    """One compiled expression.

    Attributes:
        text: As it was written.
        names: Those of `inputs`, `steps`, `run`, `item`, `index` that it uses.
        steps: The steps that it names.
        inputs: The names that it reads right below `inputs`.
        outputs: By step, the names that it reads right below its output.
        may_be_bool: False where it surely yields neither true nor false.
    """

    text: str
    names: frozenset[str]
    steps: frozenset[str]
    inputs: frozenset[str]
    outputs: Mapping[str, frozenset[str]]
    may_be_bool: bool
    _path: tuple[str, ...]
    _program: Any
    _in_parts: Any
    _wanted: Mapping[str, Any]
    _parsed: ParsedExpression
    _is_expensive: bool

    def evaluate(self, scope: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever JSON value
        """The value, a JSON value: whole numbers stay whole, others are floats.

        Whole numbers have 64 bits. A value that JSON lacks (a time, bytes, NaN, a text with NUL)
        is refused; `string(...)` makes a text of times.

        Raises:
            ExpressionFailed: An unknown name, a value that JSON lacks, or too high a cost.
        """
        if self._path:
            return self._look_up(scope)
        try:
            given = _pruned(scope, self._wanted)
            if self._is_expensive:
                refuse_expensive(self._parsed, given)
            value = self._in_chunks(given) if self._in_parts is not None else None
            return _plain(self._program.execute(given) if value is None else value)
        except (ValueError, TypeError, LookupError, ArithmeticError, RuntimeError) as error:
            why = str(error).rstrip(".")
        except ExpressionFailed as error:
            why = str(error)
        raise ExpressionFailed(f"The expression `{_cut(self.text)}` fails: {why}.")

    def _look_up(self, scope: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever JSON value
        value: Any = scope
        for name in self._path:
            if not isinstance(value, Mapping) or name not in value:
                raise ExpressionFailed(
                    f"The expression `{_cut(self.text)}` fails: unknown name {name!r}."
                )
            value = value[name]
        return value

    def _in_chunks(self, given: dict[str, Any]) -> list[Any] | None:
        """`list.map(...)` in parts, for the library takes the square of the length; or None."""
        assert self._parsed.chunk is not None, "compiled so"
        items: Any = given
        for name in self._parsed.chunk[0]:
            items = items.get(name) if isinstance(items, Mapping) else None
        if not isinstance(items, list) or len(items) <= CHUNK_ITEMS:
            return None
        # Without the whole list, unless the rest of the expression reads it too.
        paths = [path for path, _ in self._parsed.paths[1:]]
        rest = _pruned(given, _wanted(paths))
        made: list[Any] = []
        for begin in range(0, len(items), CHUNK_ITEMS):
            part = items[begin : begin + CHUNK_ITEMS]
            made += self._in_parts.execute({**rest, _PART: part})
        return made


@lru_cache(maxsize=4_096)
def compile_expression(text: str) -> Expression:
    """Compile an expression, with or without `${{ }}` around it.

    Raises:
        ExpressionRefused: It does not parse, is too large, or uses unknown names.
    """
    bare = _bare(text)
    if len(bare) > CHARS_MAX:
        raise ExpressionRefused(f"An expression must be at most {CHARS_MAX:,} characters.")
    plain = _plain_path(bare)
    if plain is not None:
        return plain
    try:
        found = words(bare)
        made = parse_references(found)
    except ExpressionRefused as error:
        raise ExpressionRefused(f"`{_cut(bare)}`: {error}") from None
    program = _program(bare)
    functions = frozenset(program.functions())
    named = {name for name in functions if not _OPERATOR.match(name)}
    if strange := sorted(named - _FUNCTIONS):
        raise ExpressionRefused(
            f"`{_cut(bare)}` calls {strange[0]!r}; known are {', '.join(sorted(_FUNCTIONS))}."
        )
    paths = [path for path, _ in made.paths]
    names = frozenset(path[0] for path in paths)
    if unseen := sorted(set(program.variables()) - names - made.bound):
        raise ExpressionRefused(f"`{_cut(bare)}` refers to {unseen[0]!r} in an unsupported way.")
    return Expression(
        text=bare,
        names=names,
        steps=frozenset(path[1] for path in paths if path[0] == "steps"),
        inputs=frozenset(path[1] for path in paths if path[0] == "inputs" and len(path) > 1),
        outputs=_outputs(paths),
        may_be_bool=_may_be_bool(found, functions, made),
        _path=(),
        _program=program,
        _in_parts=_parts(bare, made),
        _wanted=_wanted(paths),
        _parsed=made,
        _is_expensive=is_expensive(made),
    )


def _plain_path(bare: str) -> Expression | None:
    """`steps.a.output` and the like need no library: they are most, and looked up at once."""
    path = tuple(bare.split("."))
    if path[0] not in NAMES or _PATH.match(bare) is None:
        return None
    if path == ("steps",):
        raise ExpressionRefused("Write steps.NAME to refer to a step.")
    return Expression(
        text=bare,
        names=frozenset(path[:1]),
        steps=frozenset(path[1:2]) if path[0] == "steps" else frozenset(),
        inputs=frozenset(path[1:2]) if path[0] == "inputs" else frozenset(),
        outputs=_outputs([path]),
        may_be_bool=True,
        _path=path,
        _program=None,
        _in_parts=None,
        _wanted={},
        _parsed=ParsedExpression(),
        _is_expensive=False,
    )


def _outputs(paths: list[Path]) -> dict[str, frozenset[str]]:
    """By step, what is read right below its output."""
    outputs: dict[str, frozenset[str]] = {}
    for path in paths:
        if path[0] == "steps" and path[2:3] == ("output",):
            outputs[path[1]] = outputs.get(path[1], frozenset()) | frozenset(path[3:4])
    return outputs


def references(template: object) -> frozenset[str]:
    """The steps that a template names."""
    found: set[str] = set()
    for text in holes(template):
        found |= compile_expression(text).steps
    return frozenset(found)


def holes(template: object) -> Iterator[str]:
    """The texts of a template's expressions, wherever they stand in it.

    Raises:
        ExpressionRefused: One is unclosed.
    """
    if template is None or "${{" not in repr(template):  # most, and much sooner than by looking
        return
    waiting = [template]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield from (text for _, _, text in spans(value))
        elif isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def is_one_expression(text: str) -> bool:
    """Return whether a text is only one `${{ expression }}`, whose value keeps its type."""
    return text.strip().startswith("${{") and _only(text) is not None


def render(template: Any, scope: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a JSON value
    """A template with its expressions evaluated.

    A text that is only one expression becomes its value; in others the values are put as text.

    Raises:
        ExpressionFailed: See `Expression.evaluate`.
    """
    if isinstance(template, str):
        return _text(template, scope)
    if isinstance(template, Mapping):
        return {name: render(value, scope) for name, value in template.items()}
    if isinstance(template, list):
        return [render(value, scope) for value in template]
    return template


def _text(template: str, scope: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a JSON value
    if "${{" not in template:
        return template
    pieces = _pieces(template)
    if len(pieces) == 1:
        return compile_expression(pieces[0][1]).evaluate(scope)
    made = []
    for before, expression in pieces:
        made.append(before)
        if expression is not None:
            made.append(_shown(compile_expression(expression).evaluate(scope)))
    return "".join(made)


@lru_cache(maxsize=4_096)
def _pieces(template: str) -> tuple[tuple[str, Any], ...]:
    """Split a template into the texts before expressions, and the expressions."""
    only = _only(template)
    if only is not None:
        return (("", only),)
    made: list[tuple[str, Any]] = []
    after = 0
    for begin, end, text in spans(template):
        made.append((template[after:begin], text))
        after = end
    return (*made, (template[after:], None))


def _only(template: str) -> str | None:
    stripped = template.strip()
    found = next(spans(stripped), None)
    return found[2] if found is not None and found[:2] == (0, len(stripped)) else None


def _bare(text: str) -> str:
    bare = text.strip()
    if not bare.startswith("${{"):
        return bare
    only = _only(bare)
    return bare if only is None else only


def _program(bare: str) -> Any:  # noqa: ANN401 - the library has no types
    import cel  # noqa: PLC0415 - it brings a terminal of its own, 11 MB

    try:
        return cel.compile(bare)
    except ValueError as error:
        why = str(error).split("ERROR: <input>:", 1)[-1].split("\n", 1)[0]
        raise ExpressionRefused(f"`{_cut(bare)}` is not a valid expression: {why}.") from None


def _parts(bare: str, made: ParsedExpression) -> Any:  # noqa: ANN401 - the library has no types
    """`path.map(...)` compiled once more, with another name in the path's place; or None."""
    return None if made.chunk is None else _program(_PART + bare[made.chunk[1] :])


def _may_be_bool(
    found: list[ExpressionToken], functions: frozenset[str], made: ParsedExpression
) -> bool:
    if made.builds:
        return True
    if functions:
        return not functions <= _NO_BOOL
    first, last = found[0], found[-1]
    return not (
        first.sort in ("number", "text") or first.text in ("null", "-") or last.text in ("]", "}")
    )


def _wanted(paths: list[Path]) -> dict[str, Any]:
    """The paths as a tree; None where all that is below is read."""
    tree: dict[str, Any] = {}
    for path in paths:
        at = tree
        for name in path[:-1]:
            below = at.setdefault(name, {})
            if below is None:
                break
            at = below
        else:
            at[path[-1]] = None
    return tree


def _pruned(scope: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the scope that an expression reads: only that is passed to the library."""
    made = {}
    for name, below in wanted.items():
        if name in scope:
            value = scope[name]
            deeper = below is not None and isinstance(value, Mapping)
            made[name] = _pruned(value, below) if deeper else value
    return made


def _shown(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _plain(value: Any) -> Any:  # noqa: ANN401 - a JSON value
    if isinstance(value, float) and not math.isfinite(value):
        raise ExpressionFailed(f"it yields {value}, which is not a JSON number")
    if isinstance(value, str) and "\x00" in value:
        raise ExpressionFailed("it yields a text with NUL, which cannot be stored")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        # The library's maps have no order, which would make another text each time.
        return {name: _plain(one) for name, one in _in_order(value)}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    raise ExpressionFailed(f"it yields a {type(value).__name__}, which is not a JSON value")


def _in_order(value: Mapping[Any, Any]) -> list[tuple[str, Any]]:
    return sorted(((_key(name), one) for name, one in value.items()), key=itemgetter(0))


def _key(name: object) -> str:
    if isinstance(name, bool):
        return "true" if name else "false"
    return str(_plain(name))


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}..."
