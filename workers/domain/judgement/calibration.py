"""Calibration: map estimates of quality to the ratings that people gave.

Few pairs of estimate and rating: the estimate is left alone. Some: Platt's logistic curve, two
numbers. Many: isotonic regression, any curve that rises. A curve is kept only where it makes the
expected calibration error smaller on pairs it was not fitted to.

Source: Platt, "Probabilistic outputs for support vector machines" (1999); Zadrozny and Elkan,
"Transforming classifier scores into accurate multiclass probability estimates" (2002), isotonic;
Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning" (2015), the error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

PLATT_AT: Final = 30
ISOTONIC_AT: Final = 200
BINS: Final = 10
FOLDS: Final = 5
_KNOTS_MAX: Final = 100
_EDGE: Final = 1e-4
_SETTLED: Final = 1e-9

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """A calibration curve.

    Attributes:
        method: `identity`, `platt` or `isotonic`.
        curve: Its numbers, JSON: {} | {"slope", "offset"} | {"x": [...], "y": [...]}.
        pairs: How many pairs it was fitted to.
        error_raw: The expected calibration error of the estimates as they are, in [0, 1].
        error: That of the curve, on pairs it was not fitted to (five-fold cross-validation).
    """

    method: str
    curve: Mapping[str, Any]
    pairs: int
    error_raw: float
    error: float


def calibrated(raw: float, method: str, curve: Mapping[str, Any]) -> float:
    """Calibrate an estimate by a curve; the result is in [0, 1]."""
    return float(_applied(np.array([raw]), method, curve)[0])


def calibration_error(estimates: Floats, actual: Floats) -> float:
    """The expected calibration error: the mean distance of estimates from ratings.

    Args:
        estimates: Shape (n,), in [0, 1].
        actual: Shape (n,), in [0, 1].

    Returns:
        The mean over bins of equal mass of |mean estimate - mean actual|; 0 of nothing.
    """
    if len(estimates) == 0:
        return 0.0
    order = np.argsort(estimates, kind="stable")
    bins = np.array_split(order, min(BINS, len(order)))
    gaps = [len(each) * abs(estimates[each].mean() - actual[each].mean()) for each in bins]
    return float(sum(gaps) / len(order))


def fitted(estimates: Floats, actual: Floats) -> Calibration:
    """Fit a curve; the identity where there is too little data, or nothing to gain.

    Args:
        estimates: Shape (n,), raw scores in [0, 1], in an order that does not matter.
        actual: Shape (n,), the ratings, in [0, 1].
    """
    count = len(estimates)
    error_raw = calibration_error(estimates, actual)
    if count < PLATT_AT:
        return Calibration("identity", {}, count, error_raw, error_raw)
    order = np.lexsort((actual, estimates))  # the folds depend on the values, not on their order
    estimates, actual = estimates[order], actual[order]
    method = "isotonic" if count >= ISOTONIC_AT else "platt"
    held_out = np.empty(count)
    for fold in range(FOLDS):
        inside = np.arange(count) % FOLDS != fold
        curve = _fitted(estimates[inside], actual[inside], method)
        held_out[~inside] = _applied(estimates[~inside], method, curve)
    error = calibration_error(held_out, actual)
    if error >= error_raw:
        return Calibration("identity", {}, count, error_raw, error_raw)
    return Calibration(method, _fitted(estimates, actual, method), count, error_raw, error)


def _fitted(estimates: Floats, actual: Floats, method: str) -> Mapping[str, Any]:
    if method == "platt":
        return _platt(estimates, actual)
    x, y = _isotonic(estimates, actual)
    if len(x) > _KNOTS_MAX:
        kept = np.linspace(0, len(x) - 1, _KNOTS_MAX).round().astype(int)
        x, y = x[kept], y[kept]
    return {"x": x.tolist(), "y": y.tolist()}


def _isotonic(estimates: Floats, actual: Floats) -> tuple[Floats, Floats]:
    """The rising curve with the least squared error, by pooling adjacent violators.

    Returns:
        Its knots: the ends, and each point that differs from a neighbour.
    """
    x, place = np.unique(estimates, return_inverse=True)
    counts = np.bincount(place)
    means = np.bincount(place, actual) / counts
    pools: list[tuple[float, int, int]] = []  # mean, pairs, points
    for mean, count in zip(means.tolist(), counts.tolist(), strict=True):
        pool = (mean, count, 1)
        while pools and pools[-1][0] >= pool[0]:
            before = pools.pop()
            both = before[1] + pool[1]
            pooled = (before[0] * before[1] + pool[0] * pool[1]) / both
            pool = (pooled, both, before[2] + pool[2])
        pools.append(pool)
    y = np.clip(np.repeat([pool[0] for pool in pools], [pool[2] for pool in pools]), 0.0, 1.0)
    knots = np.ones(len(x), dtype=bool)
    knots[1:-1] = (y[1:-1] != y[:-2]) | (y[1:-1] != y[2:])
    return x[knots], y[knots]


def _platt(estimates: Floats, actual: Floats) -> Mapping[str, Any]:
    """Newton's method on the log-likelihood of sigmoid(slope * logit + offset), a little ridged.

    Targets may be any share in [0, 1]: a rating of 4 of 5 is three quarters of a success.
    """
    logits = _logit(estimates)
    design = np.stack([logits, np.ones_like(logits)], axis=1)
    weights = np.array([1.0, 0.0])
    for _ in range(50):
        chance = 1.0 / (1.0 + np.exp(-design @ weights))
        slope = design.T @ (chance - actual) + 1e-3 * (weights - [1.0, 0.0])
        bend = (design * (chance * (1 - chance))[:, None]).T @ design + 1e-3 * np.eye(2)
        step = np.linalg.solve(bend, slope)
        weights = weights - np.clip(step, -2.0, 2.0)
        if float(np.abs(step).max()) < _SETTLED:
            break
    # A falling curve says nothing about single estimates: use their mean.
    return {"slope": max(float(weights[0]), 0.0), "offset": float(weights[1])}


def _applied(raw: Floats, method: str, curve: Mapping[str, Any]) -> Floats:
    if method == "platt":
        lifted = curve["slope"] * _logit(raw) + curve["offset"]
        return np.asarray(1.0 / (1.0 + np.exp(-lifted)))
    if method == "isotonic":
        return np.asarray(np.interp(raw, curve["x"], curve["y"]))
    return np.clip(raw, 0.0, 1.0)


def _logit(shares: Floats) -> Floats:
    inside = np.clip(shares, _EDGE, 1.0 - _EDGE)
    return np.asarray(np.log(inside / (1.0 - inside)))
