"""Lists of conversations and messages, with their scores and verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from shared.db import Connection
from shared.ids import MessageId, UserId


@dataclass(frozen=True, slots=True)
class ConversationRow:
    """A conversation with its analysis, where there is one; sentiment in [-1, 1]."""

    id: str
    user: str
    title: str | None
    messages: int
    sentiment: float | None
    topic: str | None
    tags: list[str] | None
    updated_at: datetime


SELECT_CONVERSATIONS: Final = """
    SELECT c."id", u."email" AS "user", c."title",
           (SELECT count(*) FROM "Message" m WHERE m."conversationId" = c."id") AS "messages",
           a."sentiment", a."topic", a."tags", c."updatedAt" AT TIME ZONE 'UTC' AS "updatedAt"
    FROM "Conversation" c JOIN "User" u ON u."id" = c."userId"
    LEFT JOIN "ConversationMetadata" a ON a."conversationId" = c."id"
    WHERE (%(user_id)s::text IS NULL OR c."userId" = %(user_id)s::text)
      AND (%(id)s::text IS NULL OR c."id" = %(id)s)
      AND (%(before)s::timestamptz IS NULL
           OR (c."updatedAt", c."id")
              < (%(before)s::timestamptz AT TIME ZONE 'UTC', %(before_id)s::text))
    ORDER BY c."updatedAt" DESC, c."id" DESC LIMIT %(limit)s
"""


def select_conversations(
    conn: Connection,
    user_id: UserId | None,
    *,
    before: tuple[datetime, str] | None = None,
    limit: int,
) -> list[ConversationRow]:
    """Return conversations of the tenant or one user, most recent first.

    Args:
        conn: A connection inside `db.transaction(tenant_id)`.
        user_id: Whose; None for all.
        before: Time and id of the one that the list goes on after.
        limit: Maximum rows.
    """
    values = {
        "user_id": user_id,
        "id": None,
        "before": before and before[0],
        "before_id": before and before[1],
        "limit": limit,
    }
    return [ConversationRow(*row) for row in conn.execute(SELECT_CONVERSATIONS, values)]


def select_conversation(conn: Connection, conversation_id: str) -> ConversationRow | None:
    """Return a conversation of the tenant; None if it does not exist."""
    values = {"user_id": None, "id": conversation_id, "before": None, "before_id": None, "limit": 1}
    row = conn.execute(SELECT_CONVERSATIONS, values).fetchone()
    return None if row is None else ConversationRow(*row)


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A message with its scores and verdict.

    Attributes:
        model: By its slug in the catalogue, or as its provenance names it.
        moderation: The current verdict, or None: `{action, flagged, categories, engine}`.
        quality: Or None: `{estimated, actual, metrics}`.
        provenance: Or None: `{inputHash, outputHash, citations, watermark}`.
        feedback: `{ratings, mean}`.
        embedding: The model of its vector, or None.
    """

    id: MessageId
    conversation_id: str
    role: str
    content: str
    model: str | None
    intent: str | None
    tokens_in: int | None
    tokens_out: int | None
    cost_usd: Decimal | None
    latency_ms: int | None
    moderation: dict[str, Any] | None
    quality: dict[str, Any] | None
    provenance: dict[str, Any] | None
    feedback: dict[str, Any] | None
    embedding: str | None
    created_at: datetime


SELECT_MESSAGES: Final = """
    SELECT m."id", m."conversationId", m."role"::text, m."content",
           coalesce(a."slug", p."modelId") AS "model", m."intent", m."tokensIn", m."tokensOut",
           m."cost" AS "costUsd", m."latencyMs",
           (SELECT jsonb_build_object('id', r."id", 'action', r."action", 'flagged', r."flagged",
                                      'categories', r."categories", 'engine', r."engine")
            FROM "ModerationResult" r
            WHERE r."tenantId" = current_setting('app.tenant_id') AND r."contentId" = m."id"
              AND NOT r."superseded"
            ORDER BY r."createdAt" DESC, r."id" DESC LIMIT 1) AS "moderation",
           (SELECT jsonb_build_object('estimated', q."estimatedScore", 'actual', q."actualScore",
                                      'metrics', q."metrics")
            FROM "QualityScore" q WHERE q."messageId" = m."id") AS "quality",
           CASE WHEN p."id" IS NOT NULL THEN jsonb_build_object(
               'id', p."id", 'inputHash', p."inputHash", 'outputHash', p."outputHash",
               'citations', p."citations", 'watermark', p."watermark") END AS "provenance",
           (SELECT jsonb_build_object('ratings', count(*), 'mean', avg(l."rating"))
            FROM (SELECT DISTINCT ON (f."userId") f."rating" FROM "Feedback" f
                  WHERE f."messageId" = m."id"
                  ORDER BY f."userId", f."createdAt" DESC, f."id" DESC) l HAVING count(*) > 0)
               AS "feedback",
           (SELECT e."model" FROM "MessageEmbedding" e WHERE e."messageId" = m."id") AS "embedding",
           m."createdAt" AT TIME ZONE 'UTC' AS "createdAt"
    FROM "Message" m LEFT JOIN "AIModel" a ON a."id" = m."modelId"
    LEFT JOIN "Provenance" p ON p."messageId" = m."id"
    WHERE (m."id" = %(message_id)s::text OR m."conversationId" = %(conversation_id)s::text)
      AND (%(after)s::timestamptz IS NULL
           OR (m."createdAt", m."id")
              > (%(after)s::timestamptz AT TIME ZONE 'UTC', %(after_id)s::text))
    ORDER BY m."createdAt", m."id" LIMIT %(limit)s
"""


def select_message(conn: Connection, message_id: MessageId) -> MessageRow | None:
    """Return a message of the tenant; None if it does not exist."""
    values = {
        "message_id": message_id,
        "conversation_id": None,
        "after": None,
        "after_id": None,
        "limit": 1,
    }
    row = conn.execute(SELECT_MESSAGES, values).fetchone()
    return None if row is None else MessageRow(*row)


def select_of_conversation(
    conn: Connection,
    conversation_id: str,
    *,
    after: tuple[datetime, str] | None = None,
    limit: int,
) -> list[MessageRow]:
    """Return the messages of a conversation, oldest first.

    Args:
        conn: A connection inside `db.transaction(tenant_id)`.
        conversation_id: Of the conversation.
        after: Time and id of the message that the list goes on after.
        limit: Maximum rows.
    """
    values = {
        "message_id": None,
        "conversation_id": conversation_id,
        "after": after and after[0],
        "after_id": after and after[1],
        "limit": limit,
    }
    return [MessageRow(*row) for row in conn.execute(SELECT_MESSAGES, values)]


SELECT_LACKING: Final = """
    SELECT w."id" FROM unnest(%(ids)s::text[], %(users)s::text[]) AS w("id", "userId")
    WHERE NOT EXISTS (
        SELECT FROM "Conversation" c
        WHERE c."id" = w."id" AND (w."userId" IS NULL OR c."userId" = w."userId"))
    LIMIT 1
"""


def select_lacking(conn: Connection, wanted: Sequence[tuple[str, str | None]]) -> str | None:
    """Return one of these conversations that the tenant lacks; None if it has all of them.

    Args:
        conn: A connection inside `db.transaction(tenant_id)`.
        wanted: Ids of conversations, and of the users that they must be of; None of any.
    """
    values = {"ids": [one for one, _ in wanted], "users": [user for _, user in wanted]}
    row = conn.execute(SELECT_LACKING, values).fetchone()
    return None if row is None else str(row[0])
