"""Split an expression into words, and find the expressions of a template; in one pass."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from shared.errors import ExpressionRefused

CHARS_MAX: Final = 4_000
_OPENS: Final = "${{"
_RAW: Final = r"""(?:[bB]?[rR]|[rR][bB])(?:'{3}.*?'{3}|"{3}.*?"{3}|'[^'\n]*'|"[^"\n]*")"""
_QUOTED: Final = (
    r"""[bB]?(?:'{3}(?:[^\\]|\\.)*?'{3}|"{3}(?:[^\\]|\\.)*?"{3}"""
    r"""|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")"""
)
_WORD: Final = re.compile(
    rf"(?P<text>{_RAW}|{_QUOTED})|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<number>[0-9][0-9A-Za-z_.]*|\.[0-9][0-9A-Za-z]*)|(?P<space>\s+)|(?P<sign>//|.)",
    re.DOTALL,
)
_LONE: Final = frozenset({"'", '"', "`", "//"})


@dataclass(frozen=True, slots=True)
class ExpressionToken:
    """A quoted text, a name, a number or a sign, by `sort`; and its offset."""

    sort: str
    text: str
    begin: int = 0


def words(expression: str) -> list[ExpressionToken]:
    """Return the tokens of an expression.

    Raises:
        ExpressionRefused: An unclosed text, or a comment.
    """
    found = []
    for match in _WORD.finditer(expression):
        sort = match.lastgroup or "sign"
        if sort == "sign":
            _refuse_lone(match[0])
        if sort != "space":
            found.append(ExpressionToken(sort, match[0], match.start()))
    return found


def spans(template: str) -> Iterator[tuple[int, int, str]]:
    """Begin, end and text of each `${{ expression }}` of a template.

    Braces and quotes of the expression are understood, so `}}` may stand in its texts and maps.

    Raises:
        ExpressionRefused: One is unclosed or too long.
    """
    begin = template.find(_OPENS)
    while begin >= 0:
        end = _end(template, begin + len(_OPENS))
        yield begin, end, template[begin + len(_OPENS) : end - 2].strip()
        begin = template.find(_OPENS, end)


def _end(template: str, at: int) -> int:
    depth = 0
    most = min(len(template), at + CHARS_MAX + len(_OPENS))
    while at < most:
        match = _WORD.match(template, at, most)
        assert match is not None, "any sign is a word"
        if match["sign"] is not None:
            _refuse_lone(match[0])
            if match[0] == "}" and not depth and template.startswith("}}", at):
                return at + 2
            depth += (match[0] == "{") - (match[0] == "}")
        at = match.end()
    if most < len(template):
        raise ExpressionRefused(f"An expression must be at most {CHARS_MAX:,} characters.")
    raise ExpressionRefused("Unclosed `${{`.")


def _refuse_lone(sign: str) -> None:
    if sign not in _LONE:
        return
    if sign == "//":
        raise ExpressionRefused("Comments are not allowed in expressions.")
    raise ExpressionRefused(f"Unclosed text: {sign} has no closing quote.")
