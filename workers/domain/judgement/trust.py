"""Trust in a person: a sum of named factors, each computed from what is known of them.

score = BASE + sum over factors of clip(weight * sum_i value_i * 2^(-age_i / half_life), low, high)

The lows and highs add up to -BASE and 1 - BASE, so the score stays in [0, 1] without being clipped
itself: the factors add up to it exactly. Old evidence fades by halves.

Source: evidence that fades by a constant factor is Josang and Ismail, "The beta reputation system"
(2002), section 4.4; the additive form with a bound for each factor is ours, so that a score can be
read by people and its Shapley values are its factors.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.ids import UserId

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
KINDS: Final = frozenset(factor.kind for factor in FACTORS if factor.kind != "age")


@dataclass(frozen=True, slots=True)
class Event:
    """What speaks for or against a person; of two about one source the greater revision holds."""

    user_id: UserId
    kind: str
    source_id: str
    value: float
    occurred_at: datetime
    revision: datetime
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class Trust:
    """A score in [0, 1], and its factors, which add up to it together with `base`."""

    score: float
    factors: Mapping[str, float]


def trust_score(events: Iterable[Event], *, age_s: float, now: datetime) -> Trust:
    """The trust of one person, whatever the order of their events and however often they come.

    Args:
        events: About one person; those of kinds without a factor are ignored.
        age_s: How long they have had their account, in seconds, >= 0.
        now: The instant at which old events have faded so far.
    """
    standing = _standing(events)
    factors = {"base": BASE}
    for factor in FACTORS:
        if factor.kind == "age":
            raw = factor.weight * (1.0 - 2.0 ** (-age_s / factor.half_life_s))
        else:
            raw = factor.weight * sum(
                each.value
                * 2.0 ** (-max((now - each.occurred_at).total_seconds(), 0.0) / factor.half_life_s)
                for each in standing
                if each.kind == factor.kind
            )
        factors[factor.kind] = round(min(max(raw, factor.low), factor.high), 12)
    return Trust(sum(factors.values()), factors)


def _standing(events: Iterable[Event]) -> list[Event]:
    """The last word about each source, in the order in which they are summed."""
    latest: dict[tuple[str, str], Event] = {}
    for event in events:
        key = (event.kind, event.source_id)
        if key not in latest or _rank(event) > _rank(latest[key]):
            latest[key] = event
    return [latest[key] for key in sorted(latest) if not latest[key].withdrawn]


def _rank(event: Event) -> tuple[datetime, bool, float, datetime]:
    return event.revision, event.withdrawn, event.value, event.occurred_at
