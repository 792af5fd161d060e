"""Find what an expression reads, from its words; nothing is evaluated."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from shared.errors import ExpressionRefused
from shared.workflow.expressions.lexing import ExpressionToken

NAMES: Final = frozenset({"inputs", "steps", "run", "item", "index"})
BUILDING: Final = frozenset({"map", "filter"})
MACROS: Final = BUILDING | {"all", "exists", "exists_one"}
NESTING_MAX: Final = 32
MACROS_NESTED_MAX: Final = 2
PATTERN_CHARS_MAX: Final = 200
_CONSTANTS: Final = frozenset({"true", "false", "null", "in"})
_NOTHING: Final = ExpressionToken("sign", "")
_SHORTEST_STEP: Final = 2

Path = tuple[str, ...]


@dataclass(slots=True)
class ParsedExpression:
    """The parts of one expression.

    Attributes:
        paths: The paths it reads, such as ("steps", "a", "output"), with their depth in macros.
        bound: The names that its macros give to items.
        bound_uses: How often those are read.
        builds: By depth from 1, whether a macro there makes a list.
        words: How many words it has.
        chunk: Where it is nothing but `path.map(x, ...)` or `path.filter(x, ...)`, that path, and
            where it ends, in characters.
    """

    paths: list[tuple[Path, int]] = field(default_factory=list)
    bound: set[str] = field(default_factory=set)
    bound_uses: int = 0
    builds: dict[int, bool] = field(default_factory=dict)
    words: int = 0
    chunk: tuple[Path, int] | None = None


def parse_references(words: Sequence[ExpressionToken]) -> ParsedExpression:
    """Take an expression apart.

    Raises:
        ExpressionRefused: Unknown names, or limits of nesting, loops or patterns exceeded.
    """
    made = ParsedExpression(words=len(words))
    brackets: list[str | None] = []
    for at, word in enumerate(words):
        if word.sort == "sign":
            _bracket(made, brackets, words, at)
        elif word.sort == "name" and not _is_member(words, at):
            _name(made, brackets, words, at)
        elif word.text == "matches":
            _refuse_pattern(words, at)
    made.chunk = _chunk(made, words)
    return made


def _bracket(
    made: ParsedExpression, brackets: list[str | None], words: Sequence[ExpressionToken], at: int
) -> None:
    sign = words[at].text
    if sign in ")]}":
        if brackets:
            brackets.pop()
        return
    if sign not in "([{":
        return
    variable = _variable(words, at) if sign == "(" else None
    brackets.append(variable)
    if len(brackets) > NESTING_MAX:
        raise ExpressionRefused(f"Brackets nest too deeply: at most {NESTING_MAX} levels.")
    if variable is None:
        return
    if variable in NAMES:
        raise ExpressionRefused(f"{variable!r} is reserved and cannot name a macro variable.")
    depth = _depth(brackets)
    if depth > MACROS_NESTED_MAX:
        raise ExpressionRefused(
            f"map, filter, all and exists nest too deeply: at most {MACROS_NESTED_MAX} levels."
        )
    made.bound.add(variable)
    made.builds[depth] = made.builds.get(depth, False) or words[at - 1].text in BUILDING


def _variable(words: Sequence[ExpressionToken], at: int) -> str | None:
    """The variable of the macro whose bracket opens here, or None if it is not a macro."""
    if at < 1 or words[at - 1].text not in MACROS or not _is_member(words, at - 1):
        return None
    variable, comma = _word(words, at + 1), _word(words, at + 2)
    return variable.text if variable.sort == "name" and comma.text == "," else None


def _name(
    made: ParsedExpression, brackets: list[str | None], words: Sequence[ExpressionToken], at: int
) -> None:
    name, after = words[at].text, _word(words, at + 1)
    if after.text == "(":
        if name == "matches":
            raise ExpressionRefused("Write text.matches('pattern').")
        return
    if name in _CONSTANTS:
        return
    if name in brackets:
        made.bound_uses += _variable(words, at - 1) is None  # else it is named here, not read
    elif name in NAMES:
        path = (name, *_members(words, at + 1))
        if name == "steps" and len(path) < _SHORTEST_STEP:
            raise ExpressionRefused("Write steps.NAME to refer to a step.")
        made.paths.append((path, _depth(brackets)))
    else:
        known = ", ".join(sorted(NAMES))
        raise ExpressionRefused(f"Unknown name {name!r}; known names: {known}.")


def _members(words: Sequence[ExpressionToken], at: int) -> Iterator[str]:
    """The plain names that follow a name: `.a`, `['b']`; a call ends them."""
    while True:
        first, second, third = (_word(words, at + ahead) for ahead in range(3))
        if first.text == "." and second.sort == "name" and third.text != "(":
            yield second.text
            at += 2
        elif (
            first.text == "["
            and second.sort == "text"
            and second.text[0] in "'\""
            and not second.text.startswith(("'''", '"""'))
            and "\\" not in second.text
            and third.text == "]"
        ):
            yield second.text[1:-1]
            at += 3
        else:
            return


def _chunk(made: ParsedExpression, words: Sequence[ExpressionToken]) -> tuple[Path, int] | None:
    if not made.paths or not words or words[0].sort != "name" or made.paths[0][1]:
        return None
    path = made.paths[0][0]
    ahead = 2 * len(path) - 1
    if any(word.text == "[" for word in words[:ahead]) or path[0] != words[0].text:
        return None
    macro = _word(words, ahead + 1)
    if macro.text not in BUILDING or _variable(words, ahead + 2) is None:
        return None
    depth = 0
    for at in range(ahead + 2, len(words)):
        depth += (words[at].text in ("(", "[", "{")) - (words[at].text in (")", "]", "}"))
        if not depth:
            return (path, words[ahead].begin) if at == len(words) - 1 else None
    return None


def _refuse_pattern(words: Sequence[ExpressionToken], at: int) -> None:
    if _word(words, at + 1).text != "(":
        return
    pattern, close = _word(words, at + 2), _word(words, at + 3)
    if pattern.sort != "text" or close.text != ")" or len(pattern.text) > PATTERN_CHARS_MAX:
        raise ExpressionRefused(
            f"The pattern of `matches` must be a text of at most {PATTERN_CHARS_MAX} characters."
        )


def _is_member(words: Sequence[ExpressionToken], at: int) -> bool:
    if _word(words, at - 1).text != ".":
        return False
    before = _word(words, at - 2)
    if before.sort == "sign" and before.text not in (")", "]", "}"):
        raise ExpressionRefused("A name must not begin with a dot.")
    return True


def _word(words: Sequence[ExpressionToken], at: int) -> ExpressionToken:
    return words[at] if 0 <= at < len(words) else _NOTHING


def _depth(brackets: Sequence[str | None]) -> int:
    return sum(variable is not None for variable in brackets)
