"""Kind `complete`: a model's answer, with what it rests on and what it cost."""

import hashlib
import time
from decimal import Decimal

from shared import db
from shared.errors import (
    AilydianError,
    PayloadRefused,
    ProviderContractBroken,
    ProviderUnavailable,
)
from shared.models import providers
from shared.models.embedding_model import live_model
from shared.models.providers.completions import AnswerPassage, Completion, CompletionRequest
from shared.queries.messages.semantic_entries import Source
from shared.queries.models.models import Call, Price
from shared.text.language import detect
from shared.workflow.kinds import CompleteWith
from workers.cache import semantic_cache
from workers.cache.semantic_cache import CachedAnswer, CacheQuestion, CacheResult
from workers.steps import model_choice
from workers.steps.live_text import LiveText
from workers.steps.model_choice import Chosen
from workers.steps.step import Step
from workers.steps.table import step_kind

_NOTHING_GIVEN = {
    "tr": "Verilen belgelerde buna bir yanıt yok.",
    "en": "The given documents hold no answer to this.",
}
# What a provider's breaker counts; a request that was refused, or spending, is no fault of its.
_FAULTS = (ProviderUnavailable, ProviderContractBroken)


@step_kind("complete")
def complete(given: CompleteWith, step: Step) -> object:
    """Return {text, model, intent, citations, tokensIn, tokensOut, costUsd, latencyMs, ...}.

    `costUsd` is null where the catalogue has no price for the model.

    Raises:
        PayloadRefused: `context` is not made of search's hits.
        NoModelFits: The step's limits leave no model.
        SpendRefused: The model's answers cost money, and nobody has allowed that.
        ProviderRefused: The model will not answer this.
        TransientError: The provider is away, busy, or answered with nonsense.
    """
    chosen = model_choice.choose_model(step.tenant_id, given)
    passages = _passages(given, step)
    if (
        not passages
        and "context" in given.model_fields_set
        and (chosen.model == providers.LOCAL_COMPLETER)
    ):
        # A search that found nothing is an outcome; that nobody gave a context is a mistake.
        said = _NOTHING_GIVEN[detect(given.prompt)]
        nothing = CachedAnswer(said, chosen.model, cost_usd=Decimal(0))  # no model was asked
        return _described(CacheResult(nothing), chosen, latency_ms=0)
    question = CompletionRequest(
        prompt=given.prompt,
        system=given.system or "",
        passages=passages,
        tokens_max=chosen.tokens_max,
        temperature=chosen.temperature,
    )
    live = LiveText(step)
    began = time.monotonic()
    found = _found(question, chosen, step, live, is_kept=given.cache)
    live.end(found.answer.text)
    latency_ms = round((time.monotonic() - began) * 1000)
    return _described(found, chosen, latency_ms=latency_ms)


def _found(
    question: CompletionRequest, chosen: Chosen, step: Step, live: LiveText, *, is_kept: bool
) -> CacheResult:
    """The answer from the cache, or the model's; who asks by chance wants another each time."""
    if not is_kept or (question.temperature or 0.0) > semantic_cache.TEMPERATURE_MAX:
        return CacheResult(_asked(question, chosen, step, live))
    with db.transaction(step.tenant_id) as conn:
        embedding_model = live_model(conn)
    ask = CacheQuestion(
        tenant_id=step.tenant_id,
        question=question.prompt,
        model=chosen.model,
        parameters={
            "system": question.system,
            "temperature": question.temperature,
            "tokens_max": question.tokens_max,
        },
        passages=tuple(
            Source(each.chunk_id, each.document_id, _sha256(each.content))
            for each in question.passages
        ),
        embedding_model=embedding_model,
    )
    return semantic_cache.answered(ask, lambda: _asked(question, chosen, step, live))


def _asked(question: CompletionRequest, chosen: Chosen, step: Step, live: LiveText) -> CachedAnswer:
    completer = providers.completer_for(chosen.model)
    began = time.monotonic()
    try:
        answer = completer.complete(question, live.add if live.is_followed else None)
    except AilydianError as error:
        latency_ms = (time.monotonic() - began) * 1000
        is_fault = isinstance(error, _FAULTS)
        model_choice.note_call(step.tenant_id, Call(chosen.model, latency_ms, False, is_fault))
        raise
    latency_ms = (time.monotonic() - began) * 1000
    price = model_choice.note_call(step.tenant_id, Call(chosen.model, latency_ms, answered=True))
    return _answer(answer, price)


def _sha256(content: str) -> str:
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def _passages(given: CompleteWith, step: Step) -> tuple[AnswerPassage, ...]:
    context = given.model_dump(mode="json", by_alias=True, include={"context"})["context"] or []
    try:
        return tuple(
            AnswerPassage(str(each["chunkId"]), str(each["documentId"]), str(each["content"]))
            for each in context
        )
    except (KeyError, TypeError):
        raise PayloadRefused(
            f"Step {step.name}: with.context: each passage needs chunkId, documentId and content, "
            f"as the hits of `search` have them."
        ) from None


def _answer(given: Completion, price: Price | None) -> CachedAnswer:
    return CachedAnswer(
        text=given.text,
        model=given.model,
        citations=tuple(
            {
                "chunkId": each.chunk_id,
                "documentId": each.document_id,
                "start": each.start,
                "end": each.end,
            }
            for each in given.citations
        ),
        tokens_in=given.tokens_in,
        tokens_out=given.tokens_out,
        cost_usd=None if price is None else price.of(given.tokens_in, given.tokens_out),
    )


def _described(found: CacheResult, chosen: Chosen, *, latency_ms: int) -> dict[str, object]:
    answer = found.answer
    cost_usd = answer.cost_usd if found.level is None else Decimal(0)
    return {
        "text": answer.text,
        "model": answer.model,
        "intent": chosen.intent,
        "citations": [dict(each) for each in answer.citations],
        "tokensIn": answer.tokens_in,
        "tokensOut": answer.tokens_out,
        # Money is no float, and an unknown price is not 0.
        "costUsd": None if cost_usd is None else f"{cost_usd.normalize():f}",
        "latencyMs": latency_ms,
        "parameters": {"temperature": chosen.temperature, "tokensMax": chosen.tokens_max},
        "chosenBecause": chosen.reasons,
        "cached": found.level is not None,
    }
