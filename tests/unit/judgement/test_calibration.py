"""Calibration on a synthetic truth: estimates that promise too much learn what they are worth."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.calibration import synthetic, true_error
from workers.domain.judgement import calibration
from workers.domain.judgement.calibration import calibrated, calibration_error, fitted

shares = st.floats(0, 1)


def rounded(share):
    """Of two estimates that differ by less than 1e-15 the library makes one."""
    return round(share, 9)


def test_the_error_is_the_gap_between_promise_and_fact():
    estimates = np.full(100, 0.9)

    assert calibration_error(estimates, np.full(100, 0.9)) == pytest.approx(0)
    assert calibration_error(estimates, np.tile([1.0, 0.0], 50)) == pytest.approx(0.4)
    assert calibration_error(np.array([]), np.array([])) == 0


@pytest.mark.thorough
def test_more_pairs_make_a_better_calibration_and_any_beats_none():
    errors = [
        np.mean([true_error(fitted(*synthetic(count, seed))) for seed in range(5)])
        for count in (10, 100, 1_000, 5_000)
    ]

    assert errors[0] > 0.1
    assert errors[0] > errors[1] > errors[2] > errors[3]
    assert errors[3] < 0.02


@pytest.mark.thorough
@given(
    st.lists(
        st.tuples(shares.map(rounded), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])), min_size=1
    )
)
def test_the_rising_curve_is_that_of_scikit_learn(pairs):
    from sklearn.isotonic import IsotonicRegression  # noqa: PLC0415 - only tests ask it

    estimates, actual = np.array(pairs).T
    model = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(estimates, actual)

    x, y = calibration._isotonic(estimates, actual)

    everywhere = np.concatenate([np.linspace(-0.1, 1.1, 50), estimates])
    assert np.allclose(np.interp(everywhere, x, y), model.predict(everywhere), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("count", "method"), [(29, "identity"), (150, "platt"), (1_000, "isotonic")]
)
def test_the_method_is_the_one_that_the_number_of_pairs_allows(count, method):
    found = fitted(*synthetic(count))

    assert found.method == method
    assert found.pairs == count
    assert found.error <= found.error_raw


def test_estimates_that_are_right_already_are_left_alone():
    rng = np.random.default_rng(4)
    raw = rng.uniform(0, 1, 60)

    assert fitted(raw, raw).method == "identity"


def test_the_order_of_the_pairs_does_not_matter():
    raw, rated = synthetic(400)
    order = np.random.default_rng(5).permutation(400)

    assert fitted(raw, rated) == fitted(raw[order], rated[order])


@given(st.lists(st.tuples(shares, shares), min_size=1, max_size=300), st.lists(shares, min_size=2))
def test_a_curve_stays_between_0_and_1_and_never_falls(pairs, asked):
    raw, rated = np.array(pairs).T
    found = fitted(raw, rated)

    values = [calibrated(each, found.method, found.curve) for each in sorted(asked)]
    assert all(0.0 <= value <= 1.0 for value in values)
    assert all(later >= earlier - 1e-12 for earlier, later in itertools.pairwise(values))
