"""Where the blocks of a document stand, found in one pass and without recursion.

A block is what a reader would not cut without need: a heading, a fenced code block, or a run of
lines without a blank one (a paragraph, a tight list, a quotation, a table). Front matter counts
as code. The pattern has no choice to take back (possessive repeats), so no input makes it slow.
Where a repeated line can fail behind a lookahead, an atomic group stands for the possessive repeat:
until CPython 3.11.5 that one goes on where the failed line had looked to.
"""

import re
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

Kind = Literal["plain", "markdown"]

TITLE_CHARS_MAX: Final = 200

_BLANKS: Final = r"[^\S\n]*+"
_FENCE: Final = rf"{_BLANKS}(?:`{{3,}}+[^`\n]*+$|~{{3,}}+)"
_HEADING: Final = rf"{_BLANKS}\#{{1,6}}+(?:[^\S\n]|$)"


def _lines(line: str, repeat: Literal["*", "+"]) -> str:
    """Return a pattern of as many lines as there are, none given back.

    A hundred at a time: what could still be given back is held in memory, some 250 bytes a line.
    """
    return f"(?> (?: (?> (?:{line}){{1,100}} ) ){repeat} )"


_FILLED: Final = rf"{_BLANKS}[^\s][^\n]*+\n?+"
_WRITTEN: Final = rf"(?!{_FENCE}|{_HEADING}){_FILLED}"
_CODE: Final = rf"\n(?!{_BLANKS}(?P=ticks)(?(tick)`*+|~*+){_BLANKS}$)[^\n]*+"
_MARKDOWN: Final = re.compile(
    rf"""
      (?P<front> \A---{_BLANKS}\n (?:{_BLANKS}[^\s][^\n]*+\n)*? ---{_BLANKS}$ \n? )
    | (?P<fence> ^{_BLANKS} (?P<ticks>(?P<tick>`)`{{2,}}+(?=[^`\n]*+$) | ~{{3,}}+) [^\n]*+
                 {_lines(_CODE, "*")}
                 (?: \n [^\n]*+ )? \n? )
    | (?P<heading> ^{_BLANKS} (?P<marks>\#{{1,6}}+) (?: [^\S\n]++ (?P<title>[^\n]*+) | $ ) \n? )
    | (?P<setext> ^[ ]{{0,3}}+ (?![-*+>|]) (?P<over>[^\s][^\n]*+) \n
                  [ ]{{0,3}}+ (?P<under>=++|-++) {_BLANKS}$ \n? )
    | (?P<rows> ^{_BLANKS} (?: \| | [-*+][^\S\n] | \d{{1,9}}+[.)][^\S\n] ) [^\n]*+ \n?+
                {_lines(_WRITTEN, "*")} )
    | (?P<prose> ^ {_lines(_WRITTEN, "+")} )
    """,
    re.MULTILINE | re.VERBOSE,
)
_PLAIN: Final = re.compile(rf"(?P<prose>^(?:{_FILLED})++)", re.MULTILINE)
_ITEM: Final = re.compile(r"\s*+(?:[-*+]|\d{1,9}+[.)])[^\S\n]")


class Block(NamedTuple):
    """One block: `text[start:end]`, its last line break included.

    Attributes:
        start: Offset of its first code point.
        end: Offset after its last.
        level: 1 to 6 for a heading, else 0.
        title: A heading's words, at most 200 characters.
        rows: Whether its lines, not its sentences, are its parts: table, list, code.
        item: Whether it opens with a list marker.
    """

    start: int
    end: int
    level: int = 0
    title: str = ""
    rows: bool = False
    item: bool = False


def blocks(text: str, kind: Kind) -> Iterator[Block]:
    """Yield the blocks of a text in order; what lies between them is white space.

    Args:
        text: Valid Unicode; lines end with a line feed, alone or after a carriage return.
        kind: With `plain` only blank lines separate blocks, and there are no headings.
    """
    pattern = _PLAIN if kind == "plain" else _MARKDOWN
    for match in pattern.finditer(text):
        name = match.lastgroup
        start, end = match.span()
        if name == "prose":
            yield Block(start, end)
        elif name == "heading":
            title = (match["title"] or "")[: 2 * TITLE_CHARS_MAX].strip().rstrip("#").rstrip()
            yield Block(start, end, len(match["marks"]), title[:TITLE_CHARS_MAX])
        elif name == "setext":
            level = 1 if match["under"][0] == "=" else 2
            yield Block(start, end, level, match["over"][:TITLE_CHARS_MAX].strip())
        else:
            item = name == "rows" and _ITEM.match(text, start, end) is not None
            yield Block(start, end, rows=True, item=item)
