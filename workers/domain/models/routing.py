"""Which model answers: a blend of quality, price, speed and reliability, within hard limits.

score = 0.55 quality + 0.20 price + 0.15 speed + 0.10 success, each term in [0, 1]:
quality is the bandit's mean reward for the intent; price = 1 / (1 + cost / COST_HALF_USD), where
cost is that of 1,000 tokens in and 1,000 out; speed = 1 / (1 + latency / LATENCY_HALF_MS);
success is the share of calls that were answered. A model of which something is not known gets the
middle of that term. To choose, quality is drawn from the bandit (Thompson sampling) in place of its
mean, so that what is little known is tried. The weights are a beginning; the table keeps each row's
terms, so that a choice can be explained.

Source: the hyperbolic terms are Michaelis-Menten saturation: half of the term is lost at the
constant. The blend is ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

import numpy as np

from workers.domain.models import bandit
from workers.domain.models.bandit import Arm

WEIGHTS: Final = {"quality": 0.55, "price": 0.20, "speed": 0.15, "success": 0.10}
COST_HALF_USD: Final = 0.01
LATENCY_HALF_MS: Final = 2_000.0
UNKNOWN: Final = 0.5
# Below this trust a person's questions are not used for exploration.
EXPLORES_AT: Final = 0.3


@dataclass(frozen=True, slots=True)
class RoutingCandidate:
    """A model that could answer. Prices in dollars a thousand tokens."""

    slug: str
    arm: Arm = field(default_factory=Arm)
    cost_in: Decimal = Decimal(0)
    cost_out: Decimal = Decimal(0)
    context_window: int = 8_192
    latency_ms: float | None = None
    success: float | None = None


@dataclass(frozen=True, slots=True)
class RoutingRequest:
    """A request to route: its length, the longest answer, and the caller's limits."""

    tokens_in: int
    tokens_out: int
    cost_usd_max: Decimal | None = None
    latency_ms_max: int | None = None
    trust: float = 0.5


@dataclass(frozen=True, slots=True)
class RoutingChoice:
    """The chosen model, or None where nothing fits; and the reasons, a line a candidate."""

    slug: str | None
    reasons: dict[str, str]


def terms(candidate: RoutingCandidate, quality: float | None = None) -> dict[str, float]:
    """The terms of a model's score, each in [0, 1].

    Args:
        candidate: The model.
        quality: A draw in place of the bandit's mean.
    """
    cost = float(candidate.cost_in + candidate.cost_out)  # a term of a score, not money
    latency = candidate.latency_ms
    return {
        "quality": candidate.arm.mean if quality is None else quality,
        "price": 1.0 / (1.0 + cost / COST_HALF_USD),
        "speed": UNKNOWN if latency is None else 1.0 / (1.0 + latency / LATENCY_HALF_MS),
        "success": UNKNOWN if candidate.success is None else candidate.success,
    }


def score(of_terms: Mapping[str, float]) -> float:
    """The blend of a model's terms, in [0, 1]."""
    return sum(weight * of_terms[name] for name, weight in WEIGHTS.items())


def choose(
    candidates: Sequence[RoutingCandidate], request: RoutingRequest, rng: np.random.Generator
) -> RoutingChoice:
    """Choose the model that answers a request.

    Args:
        candidates: Those that are enabled and whose providers answer.
        request: What is asked.
        rng: Chance; the same candidates, request and rng give the same choice.
    """
    reasons = {each.slug: _misfit(each, request) for each in candidates}
    fitting = [each for each in candidates if not reasons[each.slug]]
    draws: Mapping[str, float] = {}
    if request.trust >= EXPLORES_AT:
        draws = bandit.sampled({each.slug: each.arm for each in fitting}, rng)
    scores = {}
    for each in fitting:
        of_terms = terms(each, draws.get(each.slug))
        scores[each.slug] = score(of_terms)
        parts = ", ".join(f"{name} {value:.2f}" for name, value in of_terms.items())
        reasons[each.slug] = f"{scores[each.slug]:.3f}: {parts}"
    best = max(scores, key=lambda slug: (scores[slug], slug), default=None)
    return RoutingChoice(best, reasons)


def _misfit(candidate: RoutingCandidate, request: RoutingRequest) -> str:
    """Return why a model cannot answer; '' if it can."""
    tokens = request.tokens_in + request.tokens_out
    if tokens > candidate.context_window:
        return f"{tokens} tokens exceed its context window of {candidate.context_window}"
    cost = (request.tokens_in * candidate.cost_in + request.tokens_out * candidate.cost_out) / 1000
    if request.cost_usd_max is not None and cost > request.cost_usd_max:
        return f"up to ${cost:.6f} exceeds the limit of ${request.cost_usd_max:.6f}"
    slow = candidate.latency_ms or 0.0
    if request.latency_ms_max is not None and slow > request.latency_ms_max:
        return f"{slow:.0f} ms exceeds the limit of {request.latency_ms_max} ms"
    return ""
