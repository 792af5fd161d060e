"""What a score was made of: Shapley values, which share a score out among what went into it.

A player's value is what it adds to the score, averaged over all orders in which the players could
have joined. The values add up to the score less the base, whatever the score's form; a player that
changes nothing gets nothing; two that do the same get the same.

Source: Shapley, "A value for n-person games" (1953). Leaving words out to see what they were worth:
Ribeiro et al., "Why should I trust you?" (2016), here with exact weights in place of a local model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import factorial
from typing import Final

import numpy as np
from numpy.typing import NDArray

EXACT_MAX: Final = 12
Mask = NDArray[np.bool_]
# Of rows of players that take part, shape (m, n), the scores, shape (m,).
Worth = Callable[[Mask], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Attribution:
    """A score shared out: `base` is the score of nobody; the values add up to `score - base`."""

    method: str
    base: float
    score: float
    values: dict[str, float]


def exact(names: Sequence[str], worth: Worth) -> Attribution:
    """Share a score out exactly, by the worth of every subset of the players.

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
    """Share a score of a few factors out exactly.

    Args:
        factors: As they were; at most `EXACT_MAX`.
        reference: What each is taken for where it does not take part.
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
