"""Expressions in definitions: CEL, and templates whose texts hold `${{ expression }}`."""

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
NAME_CHARS_MAX: Final = 64
NAMES: Final = frozenset({"inputs", "steps", "run", "item", "index"})
_HOLE: Final = re.compile(r"\$\{\{((?:(?!\}\}).)*)\}\}", re.DOTALL)
_PATH: Final = re.compile(r"^[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*$")
_STEP: Final = re.compile(r"""\bsteps\s*(?:\.\s*([A-Za-z_]\w*)|\[\s*['"]([A-Za-z_]\w*)['"]\s*\])""")
_STRING: Final = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")


@dataclass(frozen=True, slots=True)
class Expression:
    """One compiled expression; `steps` are the steps it names."""

    text: str
    steps: frozenset[str]
    names: frozenset[str]
    _path: tuple[str, ...]
    _program: Any

    def evaluate(self, scope: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever JSON value
        """The value, a JSON value.

        Raises:
            ExpressionFailed: It names what is not there, or has no value.
        """
        if self._path:
            return self._look_up(scope)
        try:
            return _plain(self._program.execute(dict(scope)), self.text)
        except ExpressionFailed:
            raise
        except Exception as error:  # the library raises ValueError, TypeError, RuntimeError
            raise ExpressionFailed(f"The expression {self.text!r} fails: {error}.") from error

    def _look_up(self, scope: Mapping[str, Any]) -> Any:  # noqa: ANN401
        value: Any = scope
        for name in self._path:
            if not isinstance(value, Mapping) or name not in value:
                raise ExpressionFailed(f"The expression {self.text!r} fails: there is no {name}.")
            value = value[name]
        return value


@lru_cache(maxsize=4_096)
def compile_expression(text: str) -> Expression:
    """Compile an expression, with or without `${{ }}` around it.

    Raises:
        ExpressionRefused: It does not parse, is too long, or names what is not known.
    """
    bare = text.strip()
    whole = _HOLE.fullmatch(bare)
    if whole is not None:
        bare = whole[1].strip()
    if len(bare) > CHARS_MAX:
        raise ExpressionRefused(f"An expression has {CHARS_MAX:,} characters at most.")
    _refuse_nesting(bare)
    try:
        program = cel.compile(bare)
    except Exception as error:
        raise ExpressionRefused(f"The expression {bare!r} does not parse: {error}.") from error
    names = frozenset(program.variables())
    if unknown := names - NAMES:
        raise ExpressionRefused(
            f"The expression {bare!r} names {sorted(unknown)[0]!r}; known are "
            f"{', '.join(sorted(NAMES))}."
        )
    unquoted = _STRING.sub(_short, bare)
    steps = frozenset(one or other for one, other in _STEP.findall(unquoted))
    path = tuple(bare.split(".")) if _PATH.match(bare) and bare.split(".")[0] in NAMES else ()
    return Expression(bare, steps, names, path, program)


def references(template: object) -> frozenset[str]:
    """The steps that a template names."""
    found: set[str] = set()
    for expression in expressions(template):
        found |= expression.steps
    return frozenset(found)


def expressions(template: object) -> Iterator[Expression]:
    """The expressions of a template, wherever they stand in it."""
    waiting = [template]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield from (compile_expression(hole[1]) for hole in _HOLE.finditer(value))
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


def _text(template: str, scope: Mapping[str, Any]) -> Any:  # noqa: ANN401
    if "${{" not in template:
        return template
    whole = _HOLE.fullmatch(template.strip())
    if whole is not None:
        return compile_expression(whole[1]).evaluate(scope)
    return _HOLE.sub(lambda hole: _shown(compile_expression(hole[1]).evaluate(scope)), template)


def _shown(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, str):
        return value
    return "" if value is None else _json(value)


def _json(value: object) -> str:
    import json  # noqa: PLC0415

    return json.dumps(value, ensure_ascii=False)


def _plain(value: Any, text: str) -> Any:  # noqa: ANN401
    if isinstance(value, float) and not math.isfinite(value):
        raise ExpressionFailed(f"The expression {text!r} yields {value}, which is no JSON number.")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(one, text) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one, text) for one in value]
    raise ExpressionFailed(
        f"The expression {text!r} yields a {type(value).__name__}, no JSON value."
    )


def _refuse_nesting(text: str) -> None:
    depth = most = 0
    for sign in _STRING.sub("", text):
        depth += (sign in "([{") - (sign in ")]}")
        most = max(most, depth)
    if most > NESTING_MAX:
        raise ExpressionRefused(f"An expression nests {NESTING_MAX} brackets at most.")


def _short(found: re.Match[str]) -> str:
    # A step's name in brackets stays; long texts, which may look like anything, go.
    return found[0] if len(found[0]) <= NAME_CHARS_MAX + 2 else "''"
