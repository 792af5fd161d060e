"""The bandit that chooses models, one for each intent.

Thompson sampling: draw from what is believed about each arm, and take the best draw. Arms that are
little known are drawn widely and so are tried; arms that are known to be worse hardly ever are.
The arms are updated in Postgres, by the function `ailydian_reward`; the draw is one term of
the blend in `workers.domain.models.routing`.

Source: Thompson (1933); for rewards in [0, 1] that are counted as parts of a success, Agrawal and
Goyal, "Analysis of Thompson sampling for the multi-armed bandit problem" (2012), section 3. Fading
old rewards, for models that change: Raj and Kalyani, "Taming non-stationary bandits" (2017).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Arm:
    """The belief about a model's reward: a beta distribution, both parameters above 0."""

    alpha: float = 1.0
    beta: float = 1.0

    @property
    def mean(self) -> float:
        """The expected reward, in [0, 1]."""
        return self.alpha / (self.alpha + self.beta)


def sampled(arms: Mapping[str, Arm], rng: np.random.Generator) -> dict[str, float]:
    """One draw of each arm's mean reward, in [0, 1]; the same arms and rng give the same draws."""
    return {name: float(rng.beta(arm.alpha, arm.beta)) for name, arm in sorted(arms.items())}
