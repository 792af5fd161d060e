"""Where a block that is too large for one chunk may be cut, the kindest places first.

Every cut depends only on the text near it, so an edit does not move far-off ones, and none falls
inside a grapheme cluster unless that cluster alone is over the limit.
"""

import re
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import regex  # type: ignore[import-untyped]

from shared.text.sentences import LINE_BREAKS, STOPS

# How much a reader minds a cut, weakest place first; chunking merges over weak places first.
WORD, LINE, SENTENCE, ITEM = 1, 2, 3, 4

_ITEM: Final = re.compile(r"[^\S\n]*+(?:[-*+]|\d{1,9}+[.)])[^\S\n]")
_WORDS: Final = re.compile(r"\s++")
_CLUSTERS: Final = regex.compile(r"\X")
_JOINS_LEFT: Final = regex.compile(r"[\p{GCB=Extend}\p{GCB=ZWJ}\p{GCB=SpacingMark}]")
_JOINS_RIGHT: Final = regex.compile(r"\p{GCB=Prepend}")
_CONTROLS: Final = "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029"
_FIRST_MARK: Final = "\u0300"  # nothing below joins a neighbour
_WINDOW_CHARS: Final = 256

Cut = tuple[int, int]  # offset, strength


def soft_cuts(text: str, start: int, end: int, *, rows: bool) -> list[Cut]:
    """Return the line and sentence breaks inside `text[start:end]`, in order.

    Args:
        text: The whole text.
        start: Where the block begins; no cut is put there.
        end: Where it ends.
        rows: Whether its lines are its parts (table, list, code), not its sentences.
    """
    found: list[Cut] = []
    for match in (LINE_BREAKS if rows else STOPS).finditer(text, start, end):
        offset = match.end()
        # A line break ends a cluster whatever follows; a CJK stop does not.
        if offset >= end or (text[offset - 1] != "\n" and joins_left(text, offset)):
            continue
        if match.lastgroup == "stop":
            found.append((offset, SENTENCE))
        else:
            found.append((offset, ITEM if _ITEM.match(text, offset, end) else LINE))
    return found


def hard_cuts(text: str, start: int, end: int, tokens_max: int) -> list[Cut]:
    """Cut a span without kinder places between words, and long runs between graphemes.

    Returns:
        Cuts such that every part is one grapheme cluster or has at most
        `3 * (tokens_max // 8) // 2` code points, so at most 0.75 `tokens_max` bytes or tokens.
    """
    step = tokens_max // 8
    blanks = [
        place
        for match in _WORDS.finditer(text, start + 1, end - 1)
        if not _joins_right(text, (place := match.end() - 1) - 1)
    ]
    bounds = [start, *_thinned(text, start, end, blanks, step), end]
    found: list[int] = []
    for left, right in pairwise(bounds):
        found.append(left)
        if right - left > step + step // 2:
            found.extend(_thinned(text, left, right, _cluster_starts(text, left, right), step))
    return [(offset, WORD) for offset in found[1:]]


def raw_cuts(start: int, end: int, tokens_max: int) -> list[Cut]:
    """Cut one huge grapheme cluster between code points: the only way to keep the limit."""
    return [(offset, WORD) for offset in range(start, end, tokens_max // 8)][1:]


def tight(text: str, start: int, end: int) -> tuple[int, int]:
    """Shrink a span to what is not white space, whole grapheme clusters kept.

    Returns:
        The new start and end, equal where only white space was there.
    """
    content = text[start:end]
    left = end - len(content.lstrip())
    right = start + len(content.rstrip())
    if left >= right:
        return start, start
    # A mark may stand on a blank, and a prefix sign may reach for one.
    if left > start and joins_left(text, left) and text[left - 1] not in _CONTROLS:
        left -= 1
    if right < end and _joins_right(text, right - 1) and text[right] not in _CONTROLS:
        right += 1
    return left, right


def joins_left(text: str, offset: int) -> bool:
    """Tell whether the code point at an offset belongs to the grapheme cluster before it."""
    return text[offset] >= _FIRST_MARK and _JOINS_LEFT.match(text, offset) is not None


def _joins_right(text: str, offset: int) -> bool:
    return text[offset] >= _FIRST_MARK and _JOINS_RIGHT.match(text, offset) is not None


def _cluster_starts(text: str, start: int, end: int) -> Sequence[int]:
    if text[start:end].isascii():
        return range(start + 1, end)
    starts: list[int] = []
    at, width = start, _WINDOW_CHARS
    while at < end:
        # In slices that begin with a cluster, because the library looks back over all flags of a
        # run for each of them. A slice's last cluster may go on behind it.
        window = text[at : min(at + width, end)]
        found = [at + match.start() for match in _CLUSTERS.finditer(window)]
        if at + len(window) == end:
            starts.extend(found)
            break
        starts.extend(found[:-1])
        width = 2 * width if len(found) == 1 else _WINDOW_CHARS
        at = found[-1]
    return starts[1:]


def _thinned(text: str, start: int, end: int, places: Sequence[int], step: int) -> list[int]:
    """Pick places about `step` apart; a stretch without places stays whole.

    Each is chosen by the text around it: after an edit the next few differ, then none.
    """
    chosen: list[int] = []
    at = start
    while end - at > step + step // 2:
        low = bisect_left(places, at + (step + 1) // 2)
        high = bisect_right(places, at + step + step // 2)
        if low < high:
            at = min(
                places[low:high], key=lambda place: zlib.crc32(text[place : place + 8].encode())
            )
        elif low > 0 and places[low - 1] > at:
            at = places[low - 1]
        elif high < len(places):
            at = places[high]
        else:
            break
        chosen.append(at)
    return chosen
