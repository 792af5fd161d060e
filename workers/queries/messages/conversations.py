"""Conversation analysis: read the newest messages, store the results."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from psycopg.types.json import Jsonb

from shared.db import Connection


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation; `vector` is its own, where there is one of the model asked."""

    id: str
    role: str
    content: str
    intent: str | None
    vector: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True)
class Thread:
    """A conversation's newest messages, oldest first, and how many it has altogether."""

    turns: list[Turn]
    messages: int

    @property
    def newest_id(self) -> str | None:
        """Its newest message."""
        return self.turns[-1].id if self.turns else None


# The vectors of a person's last words alone: they say what it is about. Each is 6 kB.
SELECT_TURNS: Final = """
    SELECT c."id" AS "threadId", m."id", m."role"::text,
           left(m."content", %(chars)s::int) AS "content", m."intent",
           e."embedding" AS "vector", k."messages"
    FROM "Conversation" c
    CROSS JOIN LATERAL (
        SELECT count(*) AS "messages" FROM "Message" a WHERE a."conversationId" = c."id"
    ) k
    LEFT JOIN LATERAL (
        SELECT n.*, row_number() OVER (PARTITION BY n."role"
                                       ORDER BY n."createdAt" DESC, n."id" DESC) AS "nth"
        FROM (SELECT n.* FROM "Message" n WHERE n."conversationId" = c."id"
              ORDER BY n."createdAt" DESC, n."id" DESC LIMIT %(limit)s) n
    ) m ON true
    LEFT JOIN "MessageEmbedding" e ON e."messageId" = m."id" AND e."model" = %(model)s
        AND m."role" = 'USER' AND m."nth" <= %(vectors)s::int
    WHERE c."id" = ANY(%(ids)s::text[])
    ORDER BY c."id", m."createdAt", m."id"
"""


@dataclass(frozen=True, slots=True)
class ReadingLimits:
    """Limits of reading a conversation: messages, characters of each, and the vectors' model."""

    turns: int
    chars: int
    vectors: int
    model: str


def select_threads(conn: Connection, ids: Sequence[str], how: ReadingLimits) -> dict[str, Thread]:
    """The conversations of these ids that are there, by their ids."""
    values = {
        "ids": list(ids),
        "limit": how.turns,
        "chars": how.chars,
        "vectors": how.vectors,
        "model": how.model,
    }
    found: dict[str, Thread] = {}
    for thread_id, id_, role, content, intent, vector, messages in conn.execute(
        SELECT_TURNS, values, binary=True
    ):
        thread = found.setdefault(thread_id, Thread([], messages))
        if id_ is not None:
            unpacked = None if vector is None else vector.to_numpy()
            thread.turns.append(Turn(id_, role, content, intent, unpacked))
    return found


# Locked in the order of their ids, as recording locks them: either the next statement sees the
# recorded message, or recording sees the generation that is counted up here and requests an
# analysis of that.
NEXT_ANALYSES: Final = """
    WITH held AS (
        SELECT c."id" FROM "Conversation" c WHERE c."id" = ANY(%(ids)s::text[])
        ORDER BY c."id" FOR NO KEY UPDATE
    )
    UPDATE "Conversation" c SET "analysis" = c."analysis" + 1
    FROM held h WHERE c."id" = h."id" RETURNING c."id", c."analysis"
"""

# A statement of its own, so that it sees what was committed while the one before waited.
SELECT_NEWEST: Final = """
    SELECT c."id", n."id" AS "newestId",
           (SELECT count(*) FROM "Message" a WHERE a."conversationId" = c."id") AS "messages"
    FROM "Conversation" c LEFT JOIN LATERAL (
        SELECT m."id" FROM "Message" m WHERE m."conversationId" = c."id"
        ORDER BY m."createdAt" DESC, m."id" DESC LIMIT 1
    ) n ON true
    WHERE c."id" = ANY(%(ids)s::text[])
"""


@dataclass(frozen=True, slots=True)
class LockedConversation:
    """A locked conversation and the number of its next analysis."""

    analysis: int
    newest_id: str | None
    messages: int


def begin_next(conn: Connection, ids: Sequence[str]) -> dict[str, LockedConversation]:
    """Lock conversations, count up their analyses, and read their state; by their ids."""
    values = {"ids": list(ids)}
    analyses = {id_: analysis for id_, analysis in conn.execute(NEXT_ANALYSES, values)}
    rows = conn.execute(SELECT_NEWEST, values)
    return {
        id_: LockedConversation(analyses[id_], newest_id, messages)
        for id_, newest_id, messages in rows
    }


@dataclass(frozen=True, slots=True)
class ConversationAnalysis:
    """The result of an analysis; `sentiment` is None where no person has spoken."""

    conversation_id: str
    sentiment: float | None
    topic: str
    tags: list[str]
    language: str
    messages: int


# Tags as JSON: arrays of arrays must be of one length.
UPSERT_METADATA: Final = """
    INSERT INTO "ConversationMetadata" AS m ("conversationId", "tags", "sentiment", "topic",
                                             "messages", "language", "analysedAt")
    SELECT f."id", ARRAY(SELECT jsonb_array_elements_text(f."tags")), f."sentiment", f."topic",
           f."messages", f."language", now()
    FROM unnest(%(ids)s::text[], %(tags)s::jsonb[], %(sentiments)s::float8[], %(topics)s::text[],
                %(messages)s::int[], %(languages)s::text[])
         AS f("id", "tags", "sentiment", "topic", "messages", "language")
    ORDER BY f."id"
    ON CONFLICT ("conversationId") DO UPDATE
    SET "tags" = excluded."tags", "sentiment" = excluded."sentiment", "topic" = excluded."topic",
        "messages" = excluded."messages", "language" = excluded."language",
        "analysedAt" = excluded."analysedAt"
"""


def upsert_metadata(conn: Connection, found: Sequence[ConversationAnalysis]) -> None:
    """Store the results, one row a conversation."""
    values: dict[str, object] = {
        "ids": [one.conversation_id for one in found],
        "tags": [Jsonb(one.tags) for one in found],
        "sentiments": [one.sentiment for one in found],
        "topics": [one.topic for one in found],
        "messages": [one.messages for one in found],
        "languages": [one.language for one in found],
    }
    conn.execute(UPSERT_METADATA, values)
