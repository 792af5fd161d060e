"""Writes into a page what its commands have printed, and changes nothing else of it."""

import difflib
import re

from tests.support.masks import Ids, masked

_ELLIPSIS = "..."
_CUT = re.compile(r"(?:\.\.\.|…)$")


def merged(shown: list[str], printed: list[str], ids: Ids) -> list[str]:
    """The lines for the page, where a command has printed something else than it shows.

    Args:
        shown: The lines of the page. `...` stands for any lines; one that ends so, for its rest.
        printed: What was printed.
        ids: The page's ids; they stay its ids.

    Returns:
        What was printed, with the page's `...` where its neighbours are the same.
    """
    found = [ids.written(line) for line in printed]
    left, right = _comparable(shown, found)
    lines: list[str] = []
    at, to = 0, 0
    for block in difflib.SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks():
        lines += _gap(shown[at : block.a], found[to : block.b])
        for one, other in zip(
            shown[block.a : block.a + block.size],
            found[block.b : block.b + block.size],
            strict=True,
        ):
            lines.append(one if _CUT.search(one) else other)
        at, to = block.a + block.size, block.b + block.size
    return lines


def _gap(shown: list[str], found: list[str]) -> list[str]:
    """Lines that have no equal: `...` keeps its place among them."""
    places = [at for at, line in enumerate(shown) if line.strip() == _ELLIPSIS]
    if not places:
        return found
    before, after = places[0], len(shown) - 1 - places[-1]
    if len(found) < before + after:
        return found
    return [*found[:before], _ELLIPSIS, *found[len(found) - after :]]


def _comparable(shown: list[str], found: list[str]) -> tuple[list[str], list[str]]:
    """Both sides without what is different each time, and the rest of lines that are cut."""
    left = [masked(line) for line in shown]
    right = [masked(line) for line in found]
    for line in shown:
        begin = masked(_CUT.sub("", line))
        if _CUT.search(line) and begin:
            right = [masked(line) if it.startswith(begin) else it for it in right]
    return left, right
