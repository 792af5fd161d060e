"""Kind `complete`: a model's answer, with what it rests on and what it cost."""

from shared import providers
from shared.errors import PayloadRefused
from shared.language import detect
from shared.providers.completions import Completion, Passage, Question
from shared.workflow.kinds import CompleteWith
from workers.steps.step import Step
from workers.steps.table import step_kind

_NOTHING_GIVEN = {
    "tr": "Verilen belgelerde buna bir yanıt yok.",
    "en": "The given documents hold no answer to this.",
}


@step_kind("complete")
def complete(given: CompleteWith, step: Step) -> object:
    """Return {text, model, citations, tokensIn, tokensOut, costUsd}.

    Raises:
        PayloadRefused: `context` is not made of search's hits.
        SpendRefused: The model's answers cost money, and nobody has allowed that.
        ProviderRefused: The model will not answer this.
        TransientError: The provider is away, busy, or answered with nonsense.
    """
    model = choose_model(given)
    passages = _passages(given, step)
    if not passages and "context" in given.model_fields_set and model == providers.LOCAL_COMPLETER:
        # A search that found nothing is an outcome; that nobody gave a context is a mistake.
        return _described(Completion(_NOTHING_GIVEN[detect(given.prompt)], model))
    question = Question(
        prompt=given.prompt,
        system=given.system or "",
        passages=passages,
        tokens_max=given.tokens_max,
        temperature=given.temperature,
    )
    return _described(providers.completer_for(model).complete(question))


def choose_model(given: CompleteWith) -> str:
    """The model that answers: the one that the step names, else the settings'.

    The user's preference and the tenant's routing will be asked here, between the two.
    """
    return given.model or providers.completion_model()


def _passages(given: CompleteWith, step: Step) -> tuple[Passage, ...]:
    context = given.model_dump(mode="json", by_alias=True, include={"context"})["context"] or []
    try:
        return tuple(
            Passage(str(each["chunkId"]), str(each["documentId"]), str(each["content"]))
            for each in context
        )
    except (KeyError, TypeError):
        raise PayloadRefused(
            f"Step {step.name}: with.context: each passage needs chunkId, documentId and content, "
            f"as the hits of `search` have them."
        ) from None


def _described(answer: Completion) -> dict[str, object]:
    return {
        "text": answer.text,
        "model": answer.model,
        "citations": [
            {
                "chunkId": each.chunk_id,
                "documentId": each.document_id,
                "start": each.start,
                "end": each.end,
            }
            for each in answer.citations
        ],
        "tokensIn": answer.tokens_in,
        "tokensOut": answer.tokens_out,
        "costUsd": f"{answer.cost_usd:f}",  # money is no float
    }
