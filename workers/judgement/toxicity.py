"""Abuse scores of English texts, by a linear model that is shipped inside a wheel.

Source: alt-profanity-check, a linear SVM over the words of 200,000 labelled comments, calibrated
by Platt's sigmoids on five folds.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.models.providers.local import one_blas_thread
from shared.models.providers.shaping import cleaned

Predict = Callable[[list[str]], NDArray[np.float64]]


def probabilities(texts: Sequence[str]) -> list[float]:
    """Return the probability that each English text is abuse; the first call loads the model.

    Args:
        texts: Short ones: what is abusive in 100 words drowns in 1,000.

    Returns:
        One number in [0, 1] per text, in order.
    """
    if not texts:
        return []
    return [float(one) for one in _predictor()([cleaned(text) for text in texts])]


@cache
def _predictor() -> Predict:
    # 1.3 s of CPU and 100 MB: loaded only where texts are moderated.
    from profanity_check import (  # type: ignore[import-untyped]  # noqa: PLC0415
        profanity_check as loaded,
    )

    one_blas_thread()
    # The library's own function takes 3.5 ms a call to check its model five times over.
    folds: list[Any] = loaded.model.calibrated_classifiers_
    weights = np.stack([fold.estimator.coef_[0] for fold in folds], axis=1)
    intercepts = np.array([fold.estimator.intercept_[0] for fold in folds])
    slopes = np.array([fold.calibrators[0].a_ for fold in folds])
    offsets = np.array([fold.calibrators[0].b_ for fold in folds])

    def predicted(texts: list[str]) -> NDArray[np.float64]:
        margins = loaded.vectorizer.transform(texts) @ weights + intercepts
        sigmoids: NDArray[np.float64] = 1 / (1 + np.exp(slopes * margins + offsets))
        return np.asarray(sigmoids.mean(axis=1), dtype=np.float64)

    return predicted
