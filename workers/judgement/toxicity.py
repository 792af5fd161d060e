"""Abuse scores of English texts, by a linear model whose numbers lie beside this module.

Source: alt-profanity-check 1.9.1, a linear SVM over the words of 200,000 labelled comments,
calibrated by Platt's sigmoids on five folds. Its wheel holds the model as a pickle, which is code
of its publisher; `toxicity.npz` holds the numbers alone, under the licence in
`toxicity.txt`. `tests/support/toxicity_model.py` makes it, a test compares both.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.models.providers.shaping import cleaned

Floats = NDArray[np.float64]

_WORD: Final = re.compile(r"\b\w\w+\b")


@dataclass(frozen=True, slots=True)
class _Model:
    """One row a word, one column a fold.

    Attributes:
        rows: The row of each word; words that say nothing have none.
        rarity: The inverse document frequency of each word.
        weights: Of each word in each fold.
        intercepts: Of each fold.
        slopes: Of the sigmoid of each fold.
        offsets: Of the sigmoid of each fold.
    """

    rows: dict[str, int]
    rarity: Floats
    weights: Floats
    intercepts: Floats
    slopes: Floats
    offsets: Floats


def probabilities(texts: Sequence[str]) -> list[float]:
    """Return the probability that each English text is abuse; the first call loads the model.

    Args:
        texts: Short ones: what is abusive in 100 words drowns in 1,000.

    Returns:
        One number in [0, 1] per text, in order.
    """
    return [_probability(cleaned(text)) for text in texts]


def _probability(text: str) -> float:
    model = _model()
    counts = Counter(model.rows[word] for word in _WORD.findall(text.lower()) if word in model.rows)
    rows = np.fromiter(counts.keys(), dtype=np.intp, count=len(counts))
    said = np.fromiter(counts.values(), dtype=np.float64, count=len(counts)) * model.rarity[rows]
    length = float(np.sqrt(said @ said)) or 1.0
    margins = said / length @ model.weights[rows] + model.intercepts
    return float((1 / (1 + np.exp(model.slopes * margins + model.offsets))).mean())


@cache
def _model() -> _Model:
    # 5 MB, loaded only where texts are moderated.
    with np.load(Path(__file__).with_suffix(".npz"), allow_pickle=False) as held:
        words = held["words"].tobytes().decode().split("\n")
        rows = {word: row for row, word in enumerate(words)}
        numbers = ("rarity", "weights", "intercepts", "slopes", "offsets")
        return _Model(rows, *(held[name] for name in numbers))
