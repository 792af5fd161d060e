"""The formula of trust in a person, as a second opinion on `ailydian_update_trust`.

score = BASE + sum over factors of clip(weight * sum_i value_i * 2^(-age_i / half_life), low, high)

Production computes this in Postgres; here it is written down once more in plain Python, on the same
weights, so that a test can compare the two. Nothing outside the tests imports it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.ids import UserId
from workers.domain.judgement.trust import BASE, FACTORS

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
