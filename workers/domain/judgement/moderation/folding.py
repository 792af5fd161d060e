"""Texts as the rules read them: disguises undone, every place kept.

Undone are what a reader does not see, look-alike letters, digits for letters (`s4l4k`), letters
set apart (`s a l a k`), words broken by a sign (`sa.lak`) and letters held down (`salaaak`).
"""

import re
import unicodedata
from typing import Final, NamedTuple

from shared.text.letters import casefold_tr, unmarked

WORD_CHARS_MAX: Final = 40

# Marks on the letter before, and characters without width: they hide nothing from the rules.
_UNSEEN: Final = re.compile(
    "[\u0300-\u036f\u00ad\u034f\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe0f\ufeff]"
)
# Source: the pairs of Unicode's confusables.txt that read as Latin letters in running text.
_LIKE: Final = str.maketrans(
    "аеорсухіјѕкмтвнԁһӏԛԝпגαορικντυεβχγωηøłđ",
    "aeopcyxijskmtbhdhlqwnlaopikvtuebxywnold",
)
_SWAPPED: Final = str.maketrans("013457@$€!", "oieasta" + "sei")
_WORD: Final = re.compile(r"[^\W_]+(?:[@$€*!]+[^\W_]+)*")
_HELD: Final = re.compile(r"(.)\1{2,}")
_BROKEN: Final = re.compile(r"[^\W\d_]{1,8}(?:[._~|+*-][^\W\d_]{1,8}){1,5}")
_SPELLED_MIN: Final = 3
_GAP_MAX: Final = 3
_BROKEN_CHARS: Final = range(5, 15)


class FoldedWord(NamedTuple):
    """A word as it is looked up, and its place in the visible text."""

    plain: str
    start: int
    end: int


class Visible(NamedTuple):
    """A text without what a reader does not see; `places` is None where nothing was taken out."""

    text: str
    places: list[int] | None

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where a part of the visible text stands in the original."""
        if self.places is None:
            return start, end
        return self.places[start], self.places[end - 1] + 1


def visible(text: str) -> Visible:
    """Take out what a reader does not see."""
    if text.isascii() or not _UNSEEN.search(text):
        return Visible(text, None)
    places = [at for at, sign in enumerate(text) if not _UNSEEN.match(sign)]
    return Visible(_UNSEEN.sub("", text), places)


def marked(text: str) -> str:
    """Lower case by Turkish rules, look-alikes as Latin letters, Turkish letters kept.

    Returns:
        As many characters as the text has.
    """
    return casefold_tr(text).translate(_WIDE)


def folded(text: str) -> str:
    """As `marked`, and Turkish letters as their neighbours in ASCII: `ı` is `i`, `ş` is `s`.

    Returns:
        As many characters as the text has, so that places stay what they are.
    """
    return text.lower() if text.isascii() else unmarked(marked(text))


def words(plain: str) -> list[FoldedWord]:
    """The words of a folded text, disguises undone, in order.

    Args:
        plain: As `folded` gave it.

    Returns:
        Words of lower-case letters or of digits, at most `WORD_CHARS_MAX` characters each; a
        word with a `*` for a letter keeps it.
    """
    found = [FoldedWord(one[0], *one.span()) for one in _WORD.finditer(plain)]
    return [
        word if word.plain.isalpha() and not _HELD.search(word.plain) else _undone(word)
        for word in _joined(found)
    ]


def broken(plain: str) -> list[FoldedWord]:
    """Words that signs may have cut in two or more (`sa.lak`): addresses and names as well."""
    found = []
    for one in _BROKEN.finditer(plain):
        joined = re.sub(r"[^\w]|_", "", one[0])
        if len(joined) in _BROKEN_CHARS:
            found.append(FoldedWord(joined, *one.span()))
    return found


def other_reading(word: str) -> str:
    """A disguised word with its ones read as `l`; empty where there are none."""
    if "1" not in word or word.isdigit():
        return ""
    return _held(word.replace("1", "l").translate(_SWAPPED))


def _undone(word: FoldedWord) -> FoldedWord:
    plain = word.plain
    if not plain.isdigit():
        plain = plain.translate(_SWAPPED)
    return FoldedWord(_held(plain)[:WORD_CHARS_MAX], word.start, word.end)


def _held(plain: str) -> str:
    return plain if plain.isdigit() else _HELD.sub(r"\1", plain)


def _joined(found: list[FoldedWord]) -> list[FoldedWord]:
    """Put letters that stand alone together; a wider gap between them ends a word."""
    out: list[FoldedWord] = []
    at = 0
    while at < len(found):
        word = found[at]
        end = at + 1
        if len(word.plain) == 1 and end < len(found):
            gap = min(found[end].start - word.end, _GAP_MAX)
            while end < len(found) and _goes_on(found, end, gap):
                end += 1
        if end - at >= _SPELLED_MIN:
            letters = "".join(one.plain for one in found[at : min(end, at + WORD_CHARS_MAX)])
            out.append(FoldedWord(letters, word.start, found[end - 1].end))
        else:
            out.extend(found[at:end])
        at = end
    return out


def _goes_on(found: list[FoldedWord], at: int, gap: int) -> bool:
    return len(found[at].plain) == 1 and found[at].start - found[at - 1].end <= gap


def _look_alikes() -> dict[int, str | int]:
    """Every letter that is a Latin one in another dress: wide, bold, circled, accented."""
    table: dict[int, str | int] = dict(_LIKE)
    dressed = (range(0xC0, 0x250), range(0x1E00, 0x1F00), range(0x2100, 0x2150))
    shaped = (range(0x24B6, 0x24EA), range(0xFF01, 0xFF5F), range(0x1D400, 0x1D800))
    for code in (code for span in (*dressed, *shaped) for code in span):
        first = unicodedata.normalize("NFKD", chr(code))[:1].lower()
        if chr(code) not in "çğıöşü" and first.isascii() and first.isalnum():
            table[code] = first
        elif first and ord(first) in _LIKE:
            table[code] = _LIKE[ord(first)]
    return table


_WIDE: Final = _look_alikes()
