"""Thompson sampling as it stands in the book, as a second opinion on the bandit that routes.

Production keeps its arms in Postgres (`ailydian_reward`) and chooses by a blend
(`workers.domain.models.routing.choose`); here is the plain algorithm on numbers of its own, so
that tests and the benchmark can compare the two. Nothing outside the tests imports it.

Source: Thompson (1933); for rewards in [0, 1] that count as parts of a success, Agrawal and
Goyal, "Analysis of Thompson sampling for the multi-armed bandit problem" (2012), section 3. Fading
old rewards, for models that change: Raj and Kalyani, "Taming non-stationary bandits" (2017). UCB1:
Auer, Cesa-Bianchi and Fischer, "Finite-time analysis of the multiarmed bandit problem" (2002).
"""

from collections.abc import Sequence

import numpy as np

from workers.domain.models.bandit import Arm


def moved(arm: Arm, reward: float, *, weight: float = 1.0, discount: float = 1.0) -> Arm:
    """The arm after a reward.

    Args:
        arm: Before it.
        reward: In [0, 1].
        weight: How much of a pull it counts as, in [0, 1].
        discount: What all that was learnt before is still worth, in (0, 1]; the uniform prior does
            not fade.
    """
    return Arm(
        1.0 + discount * (arm.alpha - 1.0) + weight * reward,
        1.0 + discount * (arm.beta - 1.0) + weight * (1.0 - reward),
    )


def pulled(arms: Sequence[Arm], rng: np.random.Generator) -> int:
    """The arm that Thompson sampling pulls, by its place."""
    draws = rng.beta([arm.alpha for arm in arms], [arm.beta for arm in arms])
    return int(np.argmax(draws))


def bound(counts: np.ndarray, totals: np.ndarray, turn: int) -> int:
    """The arm that UCB1 pulls, by its place: each once, then the highest upper bound."""
    if turn < len(counts):
        return turn
    return int(np.argmax(totals / counts + np.sqrt(2 * np.log(turn) / counts)))
