"""Thompson sampling: it learns, it follows what changes, and its regret is that of the textbook."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.bandit import WORLD, drifting, ours, textbook, ucb1
from workers.domain.models.bandit import Arm, moved, sampled

rewards = st.lists(st.floats(0, 1), max_size=30)


def test_regret_is_the_textbooks_and_below_that_of_ucb1():
    pulls, seeds = 2_000, range(8)

    mine = np.mean([ours(WORLD, pulls, seed) for seed in seeds])
    theirs = np.mean([textbook(WORLD, pulls, seed) for seed in seeds])
    bound = np.mean([ucb1(WORLD, pulls, seed) for seed in seeds])

    assert mine == pytest.approx(theirs, rel=0.1)
    assert mine < bound


def test_forgetting_follows_a_world_that_changes():
    seeds = range(4)

    forgetting = np.mean([drifting(3_000, seed, discount=0.99) for seed in seeds])
    remembering = np.mean([drifting(3_000, seed, discount=1.0) for seed in seeds])

    assert forgetting < remembering


@given(rewards)
def test_without_forgetting_an_arm_is_the_sum_of_its_rewards_in_any_order(values):
    arm, turned = Arm(), Arm()
    for value in values:
        arm = moved(arm, value)
    for value in reversed(values):
        turned = moved(turned, value)

    assert arm.alpha == pytest.approx(1 + sum(values))
    assert (arm.alpha, arm.beta) == pytest.approx((turned.alpha, turned.beta))
    assert arm.alpha + arm.beta == pytest.approx(2 + len(values))
    assert 0 <= arm.mean <= 1


def test_half_a_weight_is_half_a_pull():
    assert moved(Arm(), 1.0, weight=0.5) == Arm(1.5, 1.0)


def test_the_same_chance_gives_the_same_draws():
    arms = {"a": Arm(3, 4), "b": Arm(1, 1)}

    one, other = (sampled(arms, np.random.default_rng(7)) for _ in range(2))

    assert one == other
    assert all(0 <= value <= 1 for value in one.values())
