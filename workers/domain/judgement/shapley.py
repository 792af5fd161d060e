"""Shapley values: attribute a score to the parts that went into it.

A player's value is what it adds to the score, averaged over all orders in which the players could
have joined. The values add up to the score less the base, whatever the score's form; a player that
changes nothing gets nothing; two that do the same get the same.

Source: Shapley, "A value for n-person games" (1953). Leaving words out to see what they were worth:
Ribeiro et al., "Why should I trust you?" (2016), here with exact weights in place of a local model.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import factorial
from typing import Final

import numpy as np
from numpy.typing import NDArray

EXACT_MAX: Final = 12
# Words that take part by themselves; the rest of a text takes part in so many pieces.
WORDS_MAX: Final = 8
PIECES_MAX: Final = 2
_WORD: Final = re.compile(r"\S+")
Mask = NDArray[np.bool_]
# Of rows of players that take part, shape (m, n), the scores, shape (m,).
# The places of each player's words in a text, as [start, end) in code points.
Players = Mapping[str, Sequence[tuple[int, int]]]
Worth = Callable[[Mask], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Attribution:
    """An attribution: `base` is the score without players; the values add up to `score - base`."""

    method: str
    base: float
    score: float
    values: dict[str, float]


def exact(names: Sequence[str], worth: Worth) -> Attribution:
    """Attribute a score exactly, by the worth of every subset of the players.

    Args:
        names: The players, at most `EXACT_MAX`.
        worth: Called once, with all 2^n subsets.
    """
    count = len(names)
    assert count <= EXACT_MAX, "the subsets of more players are too many"
    subsets = np.arange(2**count)
    masks = (subsets[:, None] >> np.arange(count)) & 1 == 1
    scores = worth(masks)
    sizes = masks.sum(axis=1)
    weights = np.array(
        [factorial(size) * factorial(count - size - 1) for size in range(count)], dtype=np.float64
    ) / factorial(count)
    values = {}
    for place, name in enumerate(names):
        without = subsets[~masks[:, place]]
        gains = scores[without | (1 << place)] - scores[without]
        values[name] = float(weights[sizes[without]] @ gains)
    return Attribution("shapley-exact", float(scores[0]), float(scores[-1]), values)


def of_factors(
    factors: Mapping[str, float],
    reference: Mapping[str, float],
    score: Callable[[Mapping[str, float]], float],
) -> Attribution:
    """Attribute a score of a few factors exactly.

    Args:
        factors: As they were; at most `EXACT_MAX`.
        reference: The value of each where it does not take part.
        score: The formula.
    """
    names = list(factors)

    def worth(masks: Mask) -> NDArray[np.float64]:
        given = [
            {
                name: (factors if on else reference)[name]
                for name, on in zip(names, row, strict=True)
            }
            for row in masks
        ]
        return np.array([score(each) for each in given])

    return exact(names, worth)


def words(text: str, spans: Sequence[tuple[int, int]]) -> dict[str, list[tuple[int, int]]]:
    """The words of a text that take part, with their places; the rest in a few pieces.

    A word goes with the white space behind it, so that all of them together are the text.

    Args:
        text: Any.
        spans: What was found in it, as [start, end), the surest first: words that these touch
            take part by themselves, all words do where they are at most `EXACT_MAX`.
    """
    starts = [word.start() for word in _WORD.finditer(text)]
    places = list(zip([0, *starts[1:]], [*starts[1:], len(text)], strict=True)) if starts else []
    touched = [place for span in spans for place in places if _meets(place, span)]
    alone = places
    if len(places) > EXACT_MAX:
        alone = sorted(list(dict.fromkeys(touched))[:WORDS_MAX])
    players = {f"{text[start:end].strip()}@{start}": [(start, end)] for start, end in alone}
    rest = [place for place in places if place not in set(alone)]
    return players | _pieces(rest)


def kept(text: str, players: Players, takes_part: Sequence[bool]) -> str:
    """Return a text with only some of its players, in the text's own order."""
    places = [
        place for on, each in zip(takes_part, players.values(), strict=True) if on for place in each
    ]
    return "".join(text[start:end] for start, end in sorted(places))


def _meets(place: tuple[int, int], span: tuple[int, int]) -> bool:
    return place[0] < span[1] and span[0] < place[1]


def _pieces(places: Sequence[tuple[int, int]]) -> dict[str, list[tuple[int, int]]]:
    pieces = enumerate(np.array_split(np.arange(len(places)), PIECES_MAX), 1)
    return {
        f"(the rest, part {number})": [places[at] for at in piece]
        for number, piece in pieces
        if len(piece)
    }
