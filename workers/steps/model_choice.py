"""Which model answers a `complete` step: the step's own, the person's, or the one routed to."""

import random
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

import numpy as np

from shared import db
from shared.errors import NoModelFits
from shared.ids import TenantId, UserId
from shared.judgement import intents, trust
from shared.models import providers
from shared.models.providers import LOCAL_COMPLETER
from shared.queries.accounts import preferences
from shared.queries.judgement import trust_scores
from shared.queries.models import model_routes, models
from shared.queries.models.models import Call, Price
from shared.settings import settings
from shared.text import tokens
from shared.workflow.kinds import CompleteWith
from workers.domain.models import routing
from workers.domain.models.bandit import Arm
from workers.domain.models.routing import RoutingCandidate, RoutingRequest

_CONTEXT_TOKENS_A_CHAR: Final = 0.3  # enough to compare prices; what is billed is counted
_ARM_MIN: Final = 1e-3  # a beta distribution needs parameters above 0


@dataclass(frozen=True, slots=True)
class Chosen:
    """The model that answers, with what its asker prefers; `reasons` tells why, a line a model."""

    model: str
    intent: str
    temperature: float | None
    tokens_max: int
    reasons: dict[str, str] = field(default_factory=dict)


def choose_model(tenant_id: TenantId, given: CompleteWith) -> Chosen:
    """Choose by the step, else by the person's preference, else by routing.

    Raises:
        NoModelFits: The step's limits leave no model; the message says why, for each.
    """
    intent = given.intent or intents.intent_of(given.prompt).name
    with db.transaction(tenant_id) as conn:
        user_id = None if given.user_id is None else UserId(given.user_id)
        preference = None if user_id is None else preferences.select_preference(conn, user_id)
        found = model_routes.select_candidates(conn, intent)
        known = {} if user_id is None else trust_scores.select_scores(conn, [user_id])
    candidates, probes = _able(found), {each.slug for each in found if each.is_probe}
    wanted = None if preference is None else preference.model
    temperature, tokens_max = given.temperature, given.tokens_max
    if preference is not None and temperature is None:
        temperature = preference.temperature
    if (
        preference is not None
        and preference.tokens_max
        and "tokens_max" not in given.model_fields_set
    ):
        tokens_max = preference.tokens_max
    if given.model is not None:
        return Chosen(given.model, intent, temperature, tokens_max, {given.model: "the step's"})
    if wanted in {each.slug for each in candidates}:
        assert wanted is not None, "a slug is given"
        return Chosen(wanted, intent, temperature, tokens_max, {wanted: "the person's"})
    if not candidates:  # a catalogue without a model that this process can reach
        model = providers.completion_model()
        return Chosen(model, intent, temperature, tokens_max, {model: "the settings'"})
    score = trust.NEUTRAL if user_id is None else known.get(user_id, trust.NEUTRAL)
    request = _request(given, tokens_max, score)
    choice = routing.choose(candidates, request, _rng())
    if choice.slug in probes and not _probed(tenant_id, choice.slug):
        # Somebody else tries whether its provider answers again.
        others = [each for each in candidates if each.slug != choice.slug]
        choice = routing.choose(others, request, _rng())
    if choice.slug is None:
        why = "; ".join(f"{slug}: {reason}" for slug, reason in choice.reasons.items())
        raise NoModelFits(f"No model fits the step's limits. {why}.")
    return Chosen(choice.slug, intent, temperature, tokens_max, choice.reasons)


def _probed(tenant_id: TenantId, slug: str) -> bool:
    with db.transaction(tenant_id) as conn:
        return models.take_probe(conn, slug)


def note_call(tenant_id: TenantId, call: Call) -> Price | None:
    """Count a call in the model's statistics and its provider's breaker, in its own transaction.

    Returns:
        What the model costs, by the catalogue; None where it does not know the model.
    """
    with db.transaction(tenant_id, durable=False) as conn:
        models.note_call(conn, call)
        return models.select_prices(conn, [call.model]).get(call.model)


def candidate_of(found: model_routes.ModelCandidate) -> RoutingCandidate:
    """A model of the catalogue as `routing.choose` compares it with others."""
    return RoutingCandidate(
        slug=found.slug,
        arm=Arm(max(found.alpha, _ARM_MIN), max(found.beta, _ARM_MIN)),
        cost_in=found.cost_in,
        cost_out=found.cost_out,
        context_window=found.context_window,
        latency_ms=found.latency_ms,
        success=found.success,
    )


def _able(found: list[model_routes.ModelCandidate]) -> list[RoutingCandidate]:
    """Those that this process can call; one that costs money refuses where that is not allowed."""
    return [candidate_of(each) for each in found if _is_reached(each.slug)]


def _is_reached(slug: str) -> bool:
    chosen = settings()
    if not chosen.uses_openai:
        return slug == LOCAL_COMPLETER
    if chosen.openai_base_url is not None:  # a server of one's own serves what the settings name
        return slug == chosen.openai_completion_model
    return slug != LOCAL_COMPLETER  # who pays for answers wants them written


def _request(given: CompleteWith, tokens_max: int, score: float) -> RoutingRequest:
    context = sum(len(str(each.get("content", ""))) for each in given.context)
    return RoutingRequest(
        tokens_in=tokens.count(given.prompt) + int(context * _CONTEXT_TOKENS_A_CHAR),
        tokens_out=tokens_max,
        cost_usd_max=None if given.cost_usd_max is None else Decimal(str(given.cost_usd_max)),
        latency_ms_max=given.latency_ms_max,
        trust=score,
    )


def _rng() -> np.random.Generator:
    return np.random.default_rng(random.SystemRandom().getrandbits(64))
