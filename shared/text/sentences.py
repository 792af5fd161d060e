"""Sentences of Turkish and English text, with their offsets."""

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
_END: Final = re.compile(r"[.!?…]+[\"'”’»)\]]*\s+")
_LAST_WORD: Final = re.compile(r"(\w+)[.]+[\"'”’»)\]]*\s+$")
_SHORT_FORMS: Final = """
    dr prof doç yrd av sn bkz örn vb vs no md mad fık cad sok mah apt tel alm ing fr çev yay
    mr mrs ms st jr sr eg ie etc cf fig approx inc ltd co corp dept est vol pp al
"""
_LONG_NUMBER: Final = 4  # 1998. ends a sentence; 19. yüzyıl, 5. Cadde do not


def sentences(text: str) -> Iterator[Sentence]:
    """The sentences of a text in order; white space around them belongs to none."""
    at = 0
    for part in _BREAK.finditer(text):
        yield from _in_paragraph(text, at, part.start())
        at = part.end()
    yield from _in_paragraph(text, at, len(text))


def _in_paragraph(text: str, start: int, end: int) -> Iterator[Sentence]:
    at = start
    for mark in _END.finditer(text, start, end):
        if mark.end() < end and _ends(text, at, mark):
            yield from _stripped(text, at, mark.end())
            at = mark.end()
    yield from _stripped(text, at, end)


def _ends(text: str, start: int, mark: re.Match[str]) -> bool:
    """Whether a sentence ends here, or a short form or an ordinal number does."""
    after = text[mark.end()]
    if after.islower():
        return False
    last = _LAST_WORD.search(text, start, mark.end())
    if last is None or mark[0].count(".") != 1:
        return True
    word = _one_i(last[1])
    if word.isdecimal():
        return len(word) >= _LONG_NUMBER
    is_initial = len(word) == 1 and last[1].isupper()
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
