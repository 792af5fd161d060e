"""Conversation analysis: topic, tags and sentiment."""

import json
from collections.abc import Sequence
from typing import Final

import numpy as np

from shared import db
from shared.contracts import AnalyseConversation
from shared.db import Connection
from shared.judgement import intents
from shared.ledger.outbox import Lease, effects, publish_many
from shared.queries.ledger import outbox
from shared.text import language
from workers.domain.messages import conversations, sentiment
from workers.judgement import topics
from workers.judgement.english_sentiment import english
from workers.process.broker import actor
from workers.queries.messages import conversations as queries
from workers.queries.messages.conversations import (
    ConversationAnalysis,
    LockedConversation,
    ReadingLimits,
    Thread,
    Turn,
)

READ: Final = ReadingLimits(turns=50, chars=4_000, vectors=10, model=topics.model())
# A text shorter than this takes the language of its conversation.
_TELLING_CHARS: Final = 40


@actor(AnalyseConversation)
def analyse_conversation(jobs: Sequence[tuple[AnalyseConversation, Lease]]) -> None:
    """Find sentiment, topic and tags of conversations from their newest messages.

    A message recorded meanwhile is not lost: its own request has the key of this job, so this job
    requests another analysis, with the next number.
    """
    ids = sorted({job.conversation_id for job, _ in jobs})
    leases = [lease for _, lease in jobs]
    with db.transaction(leases[0].tenant_id) as conn:
        threads = queries.select_threads(conn, ids, READ)
    found = {id_: _analysed(id_, thread) for id_, thread in threads.items()}
    with effects(leases) as conn:
        standing = queries.begin_next(conn, ids)
        queries.upsert_metadata(conn, [found[id_] for id_ in sorted(standing) if id_ in found])
        _ask_again(conn, threads, standing)
        outcomes = [
            (lease.job_id, lease.fence, _outcome(found.get(job.conversation_id)))
            for job, lease in jobs
        ]
        outbox.set_outcomes(conn, outcomes)


def _ask_again(
    conn: Connection, threads: dict[str, Thread], standing: dict[str, LockedConversation]
) -> None:
    late = [
        AnalyseConversation(conversation_id=id_, analysis=now.analysis)
        for id_, now in sorted(standing.items())
        if id_ not in threads
        or (now.newest_id, now.messages) != (threads[id_].newest_id, threads[id_].messages)
    ]
    publish_many(conn, late, delay_s=AnalyseConversation.delay_s)


def _analysed(conversation_id: str, thread: Thread) -> ConversationAnalysis:
    said = [turn for turn in thread.turns if turn.role == "USER"]
    spoken = [turn for turn in thread.turns if turn.role in {"USER", "ASSISTANT"}]
    of = language.detect("\n".join(turn.content for turn in said or spoken))
    weighted = [
        (turn.content, 1.0 if turn.role == "USER" else conversations.ANSWER_WEIGHT)
        for turn in spoken
    ]
    return ConversationAnalysis(
        conversation_id=conversation_id,
        sentiment=conversations.sentiment([_mood(turn.content, of) for turn in said]),
        topic=_topic(said[-READ.vectors :]),
        tags=conversations.tags(
            conversations.keywords(weighted, language=of),
            language=of,
            intents=_intents(spoken, said),
        ),
        language=of,
        messages=thread.messages,
    )


def _mood(text: str, of: str) -> float:
    if len(text) >= _TELLING_CHARS:
        of = language.detect(text)
    if of == "tr":
        return sentiment.turkish(text)
    return sentiment.mean(english(sentiment.sentences(text)))


def _intents(spoken: Sequence[Turn], said: Sequence[Turn]) -> list[str | None]:
    """Intents: those that routing stored with the answers, else of the person's last messages."""
    noted = [turn.intent for turn in spoken if turn.intent is not None]
    if noted or not said:
        return [*noted]
    return [intents.intent_of(said[-1].content).name]


def _topic(said: Sequence[Turn]) -> str:
    if not said:
        return topics.OTHER
    missing = [turn.content for turn in said if turn.vector is None]
    embedded = iter(topics.embedded(missing) if missing else ())
    rows = np.stack([next(embedded) if it.vector is None else it.vector for it in said])
    weights = conversations.weights(len(said)).astype(np.float32)
    return topics.topic_of(topics.similarities(rows), weights)


def _outcome(found: ConversationAnalysis | None) -> str:
    if found is None:
        return json.dumps({"gone": True})
    return json.dumps(
        {"sentiment": found.sentiment, "topic": found.topic, "tags": found.tags},
        ensure_ascii=False,
    )
