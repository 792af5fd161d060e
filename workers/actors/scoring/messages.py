"""Messages: record them with their citations and publish the jobs that score them."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shared.contract import Contract
from shared.contracts import (
    AnalyseConversation,
    EmbedMessages,
    ModerateContent,
    RecordMessage,
    ScoreQuality,
)
from shared.db import Connection
from shared.errors import PermanentError
from shared.ids import ChunkId, MessageId
from shared.judgement import provenance
from shared.judgement.provenance import SealedContent
from shared.ledger.outbox import Lease, effects, publish_many
from shared.models.embedding_model import live_model
from shared.queries.ledger import outbox
from shared.text import tokens
from workers.process.broker import actor, signing_key
from workers.queries.messages import messages
from workers.queries.messages.messages import (
    MessageTarget,
    NewMessage,
    NewProvenance,
    OpenConversation,
    RecordedMessage,
)

EMBEDDED_TOGETHER: Final = 64


@dataclass(frozen=True, slots=True)
class _Pair:
    """A job's message, the question before it, and their conversation."""

    job: RecordMessage
    opened: OpenConversation
    message: RecordedMessage
    question: RecordedMessage | None


@actor(RecordMessage)
def record_message(jobs: Sequence[tuple[RecordMessage, Lease]]) -> None:
    """Record messages, the questions before them and their provenance, in one transaction.

    Embedding, moderation, scoring and conversation analysis are published with it.
    """
    counted = _counted([job for job, _ in jobs])
    with effects([lease for _, lease in jobs]) as conn:
        pairs = _recorded(conn, [job for job, _ in jobs], counted)
        proofs = _proven(conn, pairs)
        moved = {pair.opened.id: pair.opened for pair in pairs}.values()
        analyses = [
            AnalyseConversation(conversation_id=it.id, analysis=it.analysis) for it in moved
        ]
        publish_many(conn, [*_follow_ups(pairs), *_embeddings(conn, pairs)])
        publish_many(conn, analyses, delay_s=AnalyseConversation.delay_s)
        outcomes = [
            (lease.job_id, lease.fence, json.dumps(_outcome(pair, count, proofs)))
            for (_, lease), pair, count in zip(jobs, pairs, counted, strict=True)
        ]
        outbox.set_outcomes(conn, outcomes)


def _counted(jobs: Sequence[RecordMessage]) -> list[tuple[int, int | None]]:
    """Tokens in and out of each job's message: as given, else counted.

    A person's message is input for the model that answers: it has no output tokens.
    """
    counts = tokens.count_many([text for job in jobs for text in (job.question, job.content)])
    found: list[tuple[int, int | None]] = []
    for job, asked, said in zip(jobs, counts[::2], counts[1::2], strict=True):
        if job.role == "ASSISTANT":
            tokens_in = asked if job.tokens_in is None else job.tokens_in
            found.append((tokens_in, said if job.tokens_out is None else job.tokens_out))
        else:
            found.append((said if job.tokens_in is None else job.tokens_in, job.tokens_out))
    return found


def _recorded(
    conn: Connection, jobs: Sequence[RecordMessage], counted: Sequence[tuple[int, int | None]]
) -> list[_Pair]:
    asks = [
        MessageTarget(job.conversation_id, job.user_id, job.question or job.content) for job in jobs
    ]
    opened = messages.open_conversations(conn, asks)
    if len(opened) < len(jobs):
        raise PermanentError(_nowhere(jobs))
    new = [
        row
        for job, place, count in zip(jobs, opened, counted, strict=True)
        for row in _rows(job, place.id, count)
    ]
    made = iter(messages.insert_messages(conn, new))
    pairs = []
    for job, place in zip(jobs, opened, strict=True):
        question = next(made) if job.question else None
        pairs.append(_Pair(job, place, next(made), question))
    return pairs


def _nowhere(jobs: Sequence[RecordMessage]) -> str:
    """Return why there is no conversation for one of the messages."""
    named = sorted({job.conversation_id for job in jobs if job.conversation_id})
    if named:
        return (
            f"The tenant has no conversation {', '.join(named[:3])}, or it is another user's: "
            "leave it out to begin a new one."
        )
    return (
        "There is no user to begin a conversation for: name one of the tenant's users, or make one "
        "with `ailydian user create`."
    )


def _rows(
    job: RecordMessage, conversation_id: str, count: tuple[int, int | None]
) -> list[NewMessage]:
    message = NewMessage(
        conversation_id,
        role=job.role,
        content=job.content,
        model=job.model,
        tokens_in=count[0],
        tokens_out=count[1],
        cost_usd=job.cost_usd,
        latency_ms=job.latency_ms,
        intent=job.intent,
    )
    if not job.question:
        return [message]
    asked = NewMessage(conversation_id, "USER", job.question, tokens_in=count[0])
    return [asked, message]


def _proven(conn: Connection, pairs: Sequence[_Pair]) -> dict[MessageId, str]:
    """Store the provenance of answers. Returns the ids of the rows by message."""
    answers = [pair for pair in pairs if pair.job.model is not None]
    if not answers:
        return {}
    cited = [cited.chunk_id for pair in answers for cited in pair.job.citations]
    texts = messages.select_passages(conn, cited) if cited else {}
    key = signing_key()
    proofs = messages.insert_provenances(conn, [_proof(pair, texts, key) for pair in answers])
    return dict(zip((pair.message.id for pair in answers), proofs, strict=True))


def _proof(pair: _Pair, texts: dict[ChunkId, str], key: bytes) -> NewProvenance:
    job = pair.job
    assert job.model is not None, "an answer names its model"
    citations = [
        cited.model_dump(mode="json", by_alias=True)
        | {"sha256": _sha256(texts[cited.chunk_id][cited.start : cited.end])}
        for cited in job.citations
        if cited.chunk_id in texts
    ]
    sealed = SealedContent(
        message_id=pair.message.id,
        model=job.model,
        input_sha256=provenance.input_sha256(job.question, job.model, job.parameters),
        output_sha256=provenance.output_sha256(job.content),
        citations=citations,
    )
    return NewProvenance(
        message_id=pair.message.id,
        question_id=None if pair.question is None else pair.question.id,
        question_sha256=provenance.output_sha256(job.question),
        model=sealed.model,
        input_sha256=sealed.input_sha256,
        output_sha256=sealed.output_sha256,
        citations=json.dumps(citations),
        inputs=json.dumps({"parameters": job.parameters}),
        watermark=provenance.watermark(key, sealed),
        key_id=provenance.key_id(key),
    )


def _follow_ups(pairs: Sequence[_Pair]) -> list[Contract]:
    """The follow-up jobs of recorded messages, if the job asks for them."""
    jobs: list[Contract] = []
    for pair in pairs:
        if not pair.job.judge:
            continue
        jobs.append(_judged(pair.message.id, pair.job.content))
        if pair.question is not None:
            jobs.append(_judged(pair.question.id, pair.job.question))
        if pair.job.role == "ASSISTANT":
            jobs.append(
                ScoreQuality(
                    message_id=pair.message.id,
                    question=pair.job.question,
                    chunk_ids=[cited.chunk_id for cited in pair.job.citations],
                )
            )
    return jobs


def _judged(message_id: MessageId, content: str) -> ModerateContent:
    return ModerateContent(
        content_type="message", content_id=message_id, content_sha256=_sha256(content)
    )


def _embeddings(conn: Connection, pairs: Sequence[_Pair]) -> list[Contract]:
    ids = [one.id for pair in pairs for one in (pair.question, pair.message) if one is not None]
    model = live_model(conn)
    return [
        EmbedMessages(message_ids=ids[start : start + EMBEDDED_TOGETHER], model=model)
        for start in range(0, len(ids), EMBEDDED_TOGETHER)
    ]


def _outcome(
    pair: _Pair, count: tuple[int, int | None], proofs: dict[MessageId, str]
) -> dict[str, object]:
    cost = pair.message.cost_usd
    return {
        "messageId": pair.message.id,
        "questionId": None if pair.question is None else pair.question.id,
        "conversationId": pair.opened.id,
        "provenanceId": proofs.get(pair.message.id),
        "tokensIn": count[0],
        "tokensOut": count[1],
        "costUsd": None if cost is None else f"{cost:f}",
    }


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
