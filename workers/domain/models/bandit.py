"""Which model to try: a bandit over models, one for each intent.

Thompson sampling: draw from what is believed about each arm, and take the best draw. Arms that are
little known are drawn widely and so are tried; arms that are known to be worse hardly ever are.

Source: Thompson (1933); for rewards in [0, 1] that are counted as parts of a success, Agrawal and
Goyal, "Analysis of Thompson sampling for the multi-armed bandit problem" (2012), section 3. Fading
old rewards, for models that change: Raj and Kalyani, "Taming non-stationary bandits" (2017).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Arm:
    """What is believed of a model's reward: a beta distribution, both parameters above 0."""

    alpha: float = 1.0
    beta: float = 1.0

    @property
    def mean(self) -> float:
        """The expected reward, in [0, 1]."""
        return self.alpha / (self.alpha + self.beta)


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


def sampled(arms: Mapping[str, Arm], rng: np.random.Generator) -> dict[str, float]:
    """One draw of each arm's mean reward, in [0, 1]; the same arms and rng give the same draws."""
    return {name: float(rng.beta(arm.alpha, arm.beta)) for name, arm in sorted(arms.items())}


def pulled(arms: Sequence[Arm], rng: np.random.Generator) -> int:
    """The arm that Thompson sampling pulls, by its place."""
    draws = rng.beta([arm.alpha for arm in arms], [arm.beta for arm in arms])
    return int(np.argmax(draws))
