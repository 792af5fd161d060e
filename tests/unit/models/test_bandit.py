"""The bandit's draws, and the textbook's version of it that production is compared with."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.bandit import Environment, textbook, ucb1
from tests.oracles.bandit import moved
from workers.domain.models.bandit import Arm, sampled

rewards = st.lists(st.floats(0, 1), max_size=30)


def test_the_same_chance_gives_the_same_draws():
    arms = {"a": Arm(3, 4), "b": Arm(1, 1)}

    one, other = (sampled(arms, np.random.default_rng(7)) for _ in range(2))

    assert one == other
    assert all(0 <= value <= 1 for value in one.values())


def test_draws_spread_as_widely_as_an_arm_is_little_known():
    rng = np.random.default_rng(7)

    draws = [sampled({"known": Arm(300, 100), "new": Arm(3, 1)}, rng) for _ in range(2_000)]

    for name, spread in (("known", 0.0216), ("new", 0.194)):
        values = [each[name] for each in draws]
        assert np.mean(values) == pytest.approx(0.75, abs=0.02)
        assert np.std(values) == pytest.approx(spread, rel=0.1)


def test_the_textbooks_regret_is_below_that_of_ucb1():
    world = Environment("plain")

    book = np.mean([textbook(world, 2_000, seed).quality for seed in range(8)])
    bound = np.mean([ucb1(world, 2_000, seed).quality for seed in range(8)])

    assert book < bound


@given(rewards)
def test_without_forgetting_the_textbooks_arm_is_the_sum_of_its_rewards_in_any_order(values):
    arm, turned = Arm(), Arm()
    for value in values:
        arm = moved(arm, value)
    for value in reversed(values):
        turned = moved(turned, value)

    assert arm.alpha == pytest.approx(1 + sum(values))
    assert (arm.alpha, arm.beta) == pytest.approx((turned.alpha, turned.beta))
    assert arm.alpha + arm.beta == pytest.approx(2 + len(values))
    assert 0 <= arm.mean <= 1
