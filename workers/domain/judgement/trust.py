"""The weights of trust in a person: what each factor weighs, how it fades, and its bounds.

score = BASE + sum over factors of clip(weight * sum_i value_i * 2^(-age_i / half_life), low, high)

The score itself is computed in Postgres, from these rows: `ailydian_update_trust`. The lows and
highs add up to -BASE and 1 - BASE, so the score stays in [0, 1] without being clipped itself: the
factors add up to it exactly. Old evidence fades by halves.

Source: evidence that fades by a constant factor is Josang and Ismail, "The beta reputation system"
(2002), section 4.4; the additive form with a bound for each factor is ours, so that a score can be
read by people and its Shapley values are its factors.
"""

from dataclasses import dataclass
from typing import Final

BASE: Final = 0.5
DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Factor:
    """One factor: what its events weigh, how they fade, and how far it may go."""

    kind: str
    weight: float
    half_life_s: float
    low: float
    high: float


# Values of events are in [-1, 1]: a block is -1, a flag -0.5; a rating goes from -1 to 1; a granted
# appeal is 1, a rejected one -0.2; a session from a new place is -0.2; a payment is 1.
FACTORS: Final = (
    Factor("moderation", weight=0.15, half_life_s=30 * DAY_S, low=-0.30, high=0.0),
    Factor("feedback", weight=0.02, half_life_s=90 * DAY_S, low=-0.05, high=0.15),
    Factor("appeal", weight=0.05, half_life_s=90 * DAY_S, low=-0.05, high=0.05),
    Factor("session", weight=0.05, half_life_s=14 * DAY_S, low=-0.10, high=0.0),
    Factor("payment", weight=0.05, half_life_s=180 * DAY_S, low=0.0, high=0.15),
    Factor("age", weight=0.15, half_life_s=90 * DAY_S, low=0.0, high=0.15),
)
