"""Where sentences end: the sentences of Turkish and English text, and places to cut any text.

`sentences` reads words to tell an end from a short form. `STOPS` looks at a few letters alone, so
that an edit moves no far-off place, and also knows the stops of other scripts.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from shared.text.letters import fold


class Sentence(NamedTuple):
    """`text` is the source's [start:end], in code points."""

    start: int
    end: int
    text: str


# A blank line, or a line that begins a heading or an item of a list, ends a sentence as well.
_BREAK: Final = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*•#|>]|\d{1,3}[.)])\s)|(?<=:)\n")
_LINE: Final = re.compile(r"\n+")
_CLOSING: Final = "\"'”’»)\\]"
_BREAKS: Final = r"\n(?:[^\S\n]*+\n)*+"
LINE_BREAKS: Final = re.compile(_BREAKS)
# Not a sentence's end: "1. item", "15. yüzyıl", "A. Bak". Western stops count before a blank, which
# opens the next piece (as in cl100k, so that the parts' counts add up); CJK stops count anywhere.
STOPS: Final = re.compile(
    rf"(?P<stop>(?<!\b\w)(?<!\b\d\d)[.!?…؟۔][{_CLOSING}*_]*+"
    rf"(?:[^\S\n]*+{_BREAKS}|(?=[^\S\n]))|[。！？]++)|{_BREAKS}"
)
_END: Final = re.compile(rf"(?<![.!?…])[.!?…]+[{_CLOSING}]*\s+")
_FULL_STOP: Final = re.compile(rf"[.][{_CLOSING}]*\s+")
_LAST_WORD: Final = re.compile(r"\w+$")
_LAST_WORD_CHARS: Final = 12  # more than any short form has
_SHORT_FORMS: Final = """
    dr prof doç yrd av sn bkz örn vb vs no md mad fık cad sok mah apt tel alm ing fr çev yay
    mr mrs ms st jr sr eg ie etc cf fig approx inc ltd co corp dept est vol pp al
"""
_LONG_NUMBER: Final = 4  # 1998. ends a sentence; 19. yüzyıl, 5. Cadde do not


def sentences(text: str, *, informal: bool = False) -> Iterator[Sentence]:
    """The sentences of a text in order; white space around them belongs to none.

    Args:
        text: Any Unicode.
        informal: Whether it was typed as messages are: each line ends a sentence, and one may
            begin with a small letter.
    """
    at = 0
    for part in (_LINE if informal else _BREAK).finditer(text):
        yield from _in_paragraph(text, at, part.start(), informal)
        at = part.end()
    yield from _in_paragraph(text, at, len(text), informal)


def _in_paragraph(text: str, start: int, end: int, informal: bool) -> Iterator[Sentence]:
    at = start
    for mark in _END.finditer(text, start, end):
        small = mark.end() < end and text[mark.end()].islower() and not informal
        if mark.end() < end and not small and _ends(text, at, mark):
            yield from _stripped(text, at, mark.end())
            at = mark.end()
    yield from _stripped(text, at, end)


def _ends(text: str, start: int, mark: re.Match[str]) -> bool:
    """Return whether a sentence ends here, or a short form or an ordinal number does."""
    before = text[max(start, mark.start() - _LAST_WORD_CHARS) : mark.start()]
    last = _LAST_WORD.search(before)
    if last is None or not _FULL_STOP.fullmatch(mark[0]):
        return True
    word = _one_i(last[0])
    if word.isdecimal():
        return len(word) >= _LONG_NUMBER
    is_initial = len(word) == 1 and last[0].isupper()
    return not is_initial and word not in _ABBREVIATIONS


def _one_i(word: str) -> str:
    """Lower case for either language: in capitals nobody can tell `ı` from `i`."""
    return fold(word, "en").replace("ı", "i")


def _stripped(text: str, start: int, end: int) -> Iterator[Sentence]:
    inner = text[start:end]
    left = len(inner) - len(inner.lstrip())
    inner = inner.strip()
    if inner:
        yield Sentence(start + left, start + left + len(inner), inner)


_ABBREVIATIONS: Final = frozenset(map(_one_i, _SHORT_FORMS.split()))
