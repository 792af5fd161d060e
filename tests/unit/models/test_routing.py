"""Routing: a blend in [0, 1], hard limits that hold, and chance only where it is wanted."""

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.domain.models.bandit import Arm
from workers.domain.models.routing import (
    WEIGHTS,
    RoutingCandidate,
    RoutingRequest,
    choose,
    score,
    terms,
)

CHEAP = RoutingCandidate(
    "cheap", Arm(20, 20), Decimal("0.0001"), Decimal("0.0002"), 8_000, 300.0, 0.99
)
GOOD = RoutingCandidate(
    "good", Arm(90, 10), Decimal("0.002"), Decimal("0.008"), 100_000, 900.0, 0.99
)
SLOW = RoutingCandidate("slow", Arm(95, 5), Decimal(0), Decimal(0), 100_000, 20_000.0, 0.99)
ALL = (CHEAP, GOOD, SLOW)


def chosen(request, candidates=ALL, seed=1):
    return choose(candidates, request, np.random.default_rng(seed))


candidates = st.builds(
    RoutingCandidate,
    slug=st.sampled_from("abcdef"),
    arm=st.builds(Arm, st.floats(0.1, 50), st.floats(0.1, 50)),
    cost_in=st.decimals(0, 1, places=8),
    cost_out=st.decimals(0, 1, places=8),
    context_window=st.integers(1, 10_000),
    latency_ms=st.none() | st.floats(0, 1e5),
    success=st.none() | st.floats(0, 1),
)


@given(candidates)
def test_a_score_is_the_weighted_sum_of_terms_in_0_to_1(candidate):
    found = terms(candidate)

    assert set(found) == set(WEIGHTS)
    assert all(0 <= value <= 1 for value in found.values())
    assert score(found) == pytest.approx(sum(WEIGHTS[name] * found[name] for name in WEIGHTS))
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)


@given(
    st.lists(candidates, max_size=6, unique_by=lambda each: each.slug),
    st.builds(
        RoutingRequest,
        tokens_in=st.integers(0, 5_000),
        tokens_out=st.integers(0, 5_000),
        cost_usd_max=st.none() | st.decimals(0, 5, places=8),
        latency_ms_max=st.none() | st.integers(1, 50_000),
        trust=st.floats(0, 1),
    ),
)
def test_what_is_chosen_keeps_every_limit_and_every_candidate_has_a_reason(some, request):
    choice = chosen(request, some)

    assert set(choice.reasons) == {each.slug for each in some}
    if choice.slug is None:
        return
    (model,) = (each for each in some if each.slug == choice.slug)
    assert request.tokens_in + request.tokens_out <= model.context_window
    cost = (request.tokens_in * model.cost_in + request.tokens_out * model.cost_out) / 1_000
    assert request.cost_usd_max is None or cost <= request.cost_usd_max
    if request.latency_ms_max is not None:
        assert (model.latency_ms or 0) <= request.latency_ms_max


def test_limits_leave_out_what_is_dear_slow_or_small_and_say_so():
    assert (
        chosen(RoutingRequest(100, 100, cost_usd_max=Decimal("0.0001"), latency_ms_max=1_000)).slug
        == "cheap"
    )
    refused = chosen(RoutingRequest(9_000, 100, cost_usd_max=Decimal(0), latency_ms_max=10))
    assert refused.slug is None
    assert "window" in refused.reasons["cheap"]
    assert "$" in refused.reasons["good"]
    assert "ms" in refused.reasons["slow"]


def test_a_limit_of_exactly_the_price_is_kept_to_the_last_digit():
    # In floats 700 * 0.0004 / 1,000 is more than 0.00028.
    model = RoutingCandidate("m", cost_in=Decimal("0.0004"))

    assert chosen(RoutingRequest(700, 0, cost_usd_max=Decimal("0.00028")), (model,)).slug == "m"


def test_nobody_experiments_on_who_is_trusted_least():
    request = RoutingRequest(100, 100, trust=0.1)

    assert len({chosen(request, seed=seed).slug for seed in range(50)}) == 1


def test_what_is_little_known_is_tried():
    new = RoutingCandidate(
        "new", Arm(1, 1), Decimal("0.0001"), Decimal("0.0002"), 8_000, 300.0, 0.99
    )

    found = {chosen(RoutingRequest(100, 100), (CHEAP, new), seed=seed).slug for seed in range(50)}

    assert found == {"cheap", "new"}
