"""Queue `scoring`: answers recorded, scored, and what people said about them."""

import hashlib
import json

from shared import db, tokens
from shared.contracts import ApplyFeedback, RecordMessage, ScoreQuality
from shared.db import Connection
from shared.errors import PermanentError
from shared.outbox import Lease, effect
from shared.queries import messages, outbox, scores
from shared.queries.messages import NewMessage, NewProvenance
from workers.broker import actor
from workers.domain import quality


@actor(RecordMessage)
def record_message(job: RecordMessage, lease: Lease) -> None:
    """Record an answer, and the question before it, with its provenance: one transaction."""
    counted_in, counted_out = tokens.count_many([job.question, job.content])
    tokens_in = counted_in if job.tokens_in is None else job.tokens_in
    tokens_out = counted_out if job.tokens_out is None else job.tokens_out
    with effect(lease) as conn:
        conversation_id = messages.open_conversation(
            conn, job.conversation_id, job.user_id, job.question or job.content
        )
        if conversation_id is None:
            raise PermanentError(
                "There is neither that conversation of that user nor a user to begin one for: name "
                "one of the tenant's users, or make one with `ailydian user create`."
            )
        if job.question:
            asked = NewMessage(conversation_id, "USER", job.question, None, counted_in, None, None)
            messages.insert_message(conn, asked)
        answer = NewMessage(
            conversation_id,
            role="ASSISTANT",
            content=job.content,
            model=job.model,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            cost_usd=job.cost_usd,
        )
        message_id = messages.insert_message(conn, answer)
        provenance = NewProvenance(
            message_id=message_id,
            model=job.model,
            input_sha256=_sha256(job.question),
            output_sha256=_sha256(job.content),
            citations=_citations(conn, job),
        )
        outcome = {
            "messageId": message_id,
            "conversationId": conversation_id,
            "provenanceId": messages.insert_provenance(conn, provenance),
            "tokensIn": tokens_in,
            "tokensOut": tokens_out,
            "costUsd": job.cost_usd,
        }
        outbox.set_outcome(conn, lease.job_id, lease.fence, json.dumps(outcome))


@actor(ScoreQuality)
def score_quality(job: ScoreQuality, lease: Lease) -> None:
    """Estimate the quality of an answer against its question and the passages it cites."""
    with db.transaction(lease.tenant_id) as conn:
        answer = scores.select_answer(conn, job.message_id)
        passages = messages.select_passages(conn, job.chunk_ids)
    if answer is None:
        raise PermanentError(f"The message {job.message_id} is gone.")
    found = quality.estimate(answer, question=job.question, passages=list(passages.values()))
    metrics = {"factors": found.factors, "refusal": found.is_refusal, "passages": len(passages)}
    outcome = json.dumps({"score": found.score, **metrics})
    with effect(lease) as conn:
        scores.upsert_estimate(conn, job.message_id, found.score, json.dumps(metrics))
        outbox.set_outcome(conn, lease.job_id, lease.fence, outcome)


@actor(ApplyFeedback)
def apply_feedback(job: ApplyFeedback, lease: Lease) -> None:
    """Carry the ratings of a message over to its quality score, where one was estimated."""
    with effect(lease) as conn:
        scores.apply_ratings(conn, job.message_id)


def _citations(conn: Connection, job: RecordMessage) -> str:
    """The citations with the hash of what was cited, so that a later change of it is seen."""
    texts = messages.select_passages(conn, [citation.chunk_id for citation in job.citations])
    cited = [
        citation.model_dump(mode="json", by_alias=True)
        | {"sha256": _sha256(texts[citation.chunk_id][citation.start : citation.end])}
        for citation in job.citations
        if citation.chunk_id in texts
    ]
    return json.dumps(cited)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
