"""Topics of texts, learnt from labelled examples: see `label_classifier`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.judgement import label_classifier

OTHER: Final = "other"
SMALL_TALK: Final = "smalltalk"
EXAMPLES: Final = Path(__file__).with_name("topics.yaml")
# Least similarity, and least distance to the next: below, the topic is unknown.
LIKENESS_MIN: Final = 0.2
MARGIN_MIN: Final = 0.02
_TEXT_CHARS: Final = 600


def model() -> str:
    """The name of the embedder whose vectors `similarities` takes, as it is stored beside them."""
    return label_classifier.model()


def names() -> tuple[str, ...]:
    """The topics, in the order of `similarities`; `other` is none of them."""
    return label_classifier.trained(EXAMPLES).names


def embedded(texts: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors of texts, of which the beginning is read: shape (texts, width), float32."""
    return label_classifier.embedded([text[:_TEXT_CHARS] for text in texts])


def similarities(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Similarity of texts to each topic: vectors (n, width) to (n, topics), float32."""
    return label_classifier.trained(EXAMPLES).similarities(vectors)


def topic_of(rows: NDArray[np.float32], weights: NDArray[np.float32]) -> str:
    """The common topic of several texts; `other` where none is near, or two are equally near.

    The weighted mean of the texts with a topic; greetings count only if there is nothing else.

    Args:
        rows: Similarities, shape (n, topics).
        weights: The weight of each text, shape (n,), > 0.
    """
    telling = rows.max(axis=1, initial=0.0) >= LIKENESS_MIN
    polite = rows.argmax(axis=1) == names().index(SMALL_TALK) if len(rows) else telling
    if (telling & ~polite).any():
        telling &= ~polite
    if not telling.any():
        return OTHER
    mean = np.average(rows[telling], axis=0, weights=weights[telling])
    next_best, best = np.argsort(mean)[-2:]
    return OTHER if mean[best] - mean[next_best] < MARGIN_MIN else names()[int(best)]
