"""The effects of a trust score on limits, thresholds and the weight of a rating."""

from typing import Final

NEUTRAL: Final = 0.5  # of somebody nothing is known about yet
_DISTRUSTED: Final = 0.3
_WATCHED: Final = 0.4


def rate_weight(score: float) -> int:
    """The weight of one job of a person in limits by cost: 1, 2 or 4.

    Args:
        score: In [0, 1].
    """
    if score < _DISTRUSTED:
        return 4
    return 2 if score < _WATCHED else 1


def reward_weight(score: float) -> float:
    """The weight of a person's rating for a model, in [0.1, 1]."""
    return min(max(score / NEUTRAL, 0.1), 1.0)


def strictness(score: float) -> float:
    """The factor on the thresholds of moderation, in [0.8, 1.1]: below 1 flags sooner.

    Linear on both sides of the neutral score: somebody nothing is known about meets the policy as
    it was written.
    """
    away = min(max(score, 0.0), 1.0) - NEUTRAL
    return 1.0 + (0.2 if away > 0 else 0.4) * away
