"""Expressions in definitions: CEL, and templates whose texts hold `${{ expression }}`."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import cel

from shared.errors import ExpressionFailed, ExpressionRefused

CHARS_MAX: Final = 4_000
NESTING_MAX: Final = 32
MACROS_NESTED_MAX: Final = 2
PATTERN_CHARS_MAX: Final = 200
SHOWN_CHARS: Final = 100
NAMES: Final = frozenset({"inputs", "steps", "run", "item", "index"})
_NAME: Final = r"[A-Za-z_]\w*"
_TEXT: Final = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_HOLE: Final = re.compile(rf"\$\{{\{{((?:{_TEXT}|(?!\}}\}}).)*)\}}\}}", re.DOTALL)
_PATH: Final = re.compile(rf"^{_NAME}(?:\.{_NAME})*$")
_QUOTED: Final = re.compile(rf"(\bsteps\s*\[\s*)?({_TEXT})")
_STEP: Final = re.compile(
    rf"""\bsteps\s*(?:\.\s*({_NAME})|\[\s*['"]({_NAME})['"]\s*\])"""
    rf"""(?:\s*\.\s*output\s*\.\s*({_NAME}))?"""
)
_ANY_STEP: Final = re.compile(r"(?<![.\w])steps\b")
_INPUT: Final = re.compile(rf"(?<![.\w])inputs\s*\.\s*({_NAME})(?!\s*\()")
_MACRO: Final = re.compile(rf"\.\s*(?:map|filter|all|exists|exists_one)\s*\(\s*({_NAME})\s*,")
_MATCHES: Final = re.compile(r"\.\s*matches\s*\(\s*")
_FUNCTIONS: Final = frozenset(
    [
        *("size", "contains", "startsWith", "endsWith", "matches", "type", "dyn"),
        *("int", "uint", "double", "string", "timestamp", "duration"),
        *("getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"),
        *("getHours", "getMinutes", "getSeconds", "getMilliseconds"),
    ]
)
_OPERATOR: Final = re.compile(r"^(?:@|!_|-_|_[^\w])")
_LITERALS: Final[Mapping[str, object]] = {"true": True, "false": False, "null": None}


@dataclass(frozen=True, slots=True)
class Expression:
    """One compiled expression.

    Attributes:
        text: As it was written.
        names: Those of `inputs`, `steps`, `run`, `item`, `index` that it uses.
        steps: The steps that it names.
        inputs: The names that it reads right below `inputs`.
        outputs: By step, the names that it reads right below its output.
        literal: Its value where it is nothing but a number, a text or null; else None, or a bool.
    """

    text: str
    names: frozenset[str]
    steps: frozenset[str]
    inputs: frozenset[str]
    outputs: Mapping[str, frozenset[str]]
    literal: object
    _path: tuple[str, ...]
    _program: Any

    def evaluate(self, scope: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever JSON value
        """The value, a JSON value: whole numbers stay whole, others are floats.

        Raises:
            ExpressionFailed: It names what is not there, or has no JSON value.
        """
        if self._path:
            return self._look_up(scope)
        try:
            value = self._program.execute(dict(scope))
        except (ValueError, TypeError, LookupError, ArithmeticError, RuntimeError) as error:
            raise ExpressionFailed(f"The expression `{_cut(self.text)}` fails: {error}.") from error
        return _plain(value, self.text)

    def _look_up(self, scope: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever JSON value
        value: Any = scope
        for name in self._path:
            if not isinstance(value, Mapping) or name not in value:
                raise ExpressionFailed(
                    f"The expression `{_cut(self.text)}` fails: there is no {name!r}."
                )
            value = value[name]
        return value


@lru_cache(maxsize=4_096)
def compile_expression(text: str) -> Expression:
    """Compile an expression, with or without `${{ }}` around it.

    Raises:
        ExpressionRefused: It does not parse, is too large, or uses what is not known here.
    """
    bare = text.strip()
    whole = _HOLE.fullmatch(bare)
    if whole is not None:
        bare = whole[1].strip()
    if len(bare) > CHARS_MAX:
        raise ExpressionRefused(f"An expression has {CHARS_MAX:,} characters at most.")
    unquoted = _QUOTED.sub(lambda found: found[0] if found[1] else "''", bare)
    _refuse_nesting(unquoted)
    _refuse_patterns(bare)
    try:
        program = cel.compile(bare)
    except ValueError as error:
        why = str(error).split("ERROR: <input>:", 1)[-1].split("\n", 1)[0]
        raise ExpressionRefused(f"`{_cut(bare)}` is no expression: {why}.") from None
    names = frozenset(program.variables()) - (frozenset(_MACRO.findall(unquoted)) - NAMES)
    if unknown := sorted(names - NAMES):
        raise ExpressionRefused(
            f"`{_cut(bare)}` names {unknown[0]!r}; known are {', '.join(sorted(NAMES))}."
        )
    functions = {name for name in program.functions() if not _OPERATOR.match(name)}
    if strange := sorted(functions - _FUNCTIONS):
        raise ExpressionRefused(
            f"`{_cut(bare)}` calls {strange[0]!r}; there are {', '.join(sorted(_FUNCTIONS))}."
        )
    found = [(one or other, output) for one, other, output in _STEP.findall(unquoted)]
    if len(_ANY_STEP.findall(unquoted)) > len(found):
        raise ExpressionRefused(f"`{_cut(bare)}`: a step is named as steps.NAME.")
    outputs: dict[str, frozenset[str]] = {}
    for step, output in found:
        if output:
            outputs[step] = outputs.get(step, frozenset()) | {output}
    return Expression(
        text=bare,
        names=names,
        steps=frozenset(step for step, _ in found),
        inputs=frozenset(_INPUT.findall(unquoted)),
        outputs=outputs,
        literal=_literal(bare),
        _path=tuple(bare.split(".")) if _PATH.match(bare) and names else (),
        _program=program,
    )


def references(template: object) -> frozenset[str]:
    """The steps that a template names."""
    found: set[str] = set()
    for text in holes(template):
        found |= compile_expression(text).steps
    return frozenset(found)


def holes(template: object) -> Iterator[str]:
    """The texts of a template's expressions, wherever they stand in it."""
    if template is None or "${{" not in repr(template):  # most, and much sooner than by looking
        return
    waiting = [template]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield from (hole[1].strip() for hole in _HOLE.finditer(value))
        elif isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


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
    whole = _HOLE.fullmatch(template.strip())
    if whole is not None:
        return compile_expression(whole[1]).evaluate(scope)
    return _HOLE.sub(lambda hole: _shown(compile_expression(hole[1]).evaluate(scope)), template)


def _shown(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _plain(value: Any, text: str) -> Any:  # noqa: ANN401 - a JSON value
    if isinstance(value, float) and not math.isfinite(value):
        raise ExpressionFailed(
            f"The expression `{_cut(text)}` yields {value}, which is no JSON number."
        )
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(one, text) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one, text) for one in value]
    raise ExpressionFailed(
        f"The expression `{_cut(text)}` yields a {type(value).__name__}, which is no JSON value."
    )


def _literal(text: str) -> object:
    if text in _LITERALS:
        return _LITERALS[text]
    try:
        return float(text)
    except ValueError:
        return text if re.fullmatch(_TEXT, text) else None


def _refuse_nesting(text: str) -> None:
    brackets: list[bool] = []
    for at, sign in enumerate(text):
        if sign in "([{":
            brackets.append(sign == "(" and _MACRO.match(text, text.rfind(".", 0, at)) is not None)
        elif sign in ")]}" and brackets:
            brackets.pop()
        if len(brackets) > NESTING_MAX:
            raise ExpressionRefused(f"An expression nests {NESTING_MAX} brackets at most.")
        if sum(brackets) > MACROS_NESTED_MAX:
            raise ExpressionRefused(
                f"An expression nests map, filter, all and exists {MACROS_NESTED_MAX} deep at most."
            )


def _refuse_patterns(text: str) -> None:
    for found in _MATCHES.finditer(text):
        pattern = re.compile(_TEXT).match(text, found.end())
        if pattern is None or len(pattern[0]) > PATTERN_CHARS_MAX:
            raise ExpressionRefused(
                f"The pattern of `matches` is a text of {PATTERN_CHARS_MAX} characters at most."
            )


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}..."
