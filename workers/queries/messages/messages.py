"""Messages of conversations: recorded, and read to be judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from shared.db import Connection
from shared.ids import ChunkId, MessageId, UserId


@dataclass(frozen=True, slots=True)
class MessageTarget:
    """Where a message is to be recorded: in a conversation, or in a new one of a user."""

    conversation_id: str | None
    user_id: UserId | None
    title: str


@dataclass(frozen=True, slots=True)
class OpenConversation:
    """A conversation to record in, locked until the transaction ends.

    Attributes:
        analysis: How often it was analysed; names the analysis that new messages request.
    """

    id: str
    analysis: int


# A conversation that is named must be there, and be that of the user, if one is named too; without
# one, a new one of the user, or of the tenant's first user, begins. Locked in the order of their
# ids: workers that record in the same ones wait for each other and never in a circle.
OPEN_CONVERSATIONS: Final = """
    WITH ask AS MATERIALIZED (
        SELECT a."at", a."conversationId", a."title", w."userId",
               CASE WHEN a."conversationId" IS NULL THEN public.ailydian_new_id() END AS "fresh"
        FROM unnest(%(conversations)s::text[], %(users)s::text[], %(titles)s::text[])
             WITH ORDINALITY AS a("conversationId", "userId", "title", "at")
        LEFT JOIN LATERAL (
            SELECT u."id" AS "userId" FROM "User" u
            WHERE a."conversationId" IS NULL
              AND (a."userId" IS NULL OR u."id" = a."userId")
            ORDER BY u."createdAt", u."id" LIMIT 1
        ) w ON true
    ), made AS (
        INSERT INTO "Conversation" ("id", "userId", "title")
        SELECT a."fresh", a."userId", left(a."title", 100) FROM ask a
        WHERE a."fresh" IS NOT NULL AND a."userId" IS NOT NULL
    ), held AS (
        SELECT c."id", c."userId", c."analysis" FROM "Conversation" c
        WHERE c."id" = ANY(%(conversations)s::text[])
        ORDER BY c."id" FOR NO KEY UPDATE
    )
    SELECT coalesce(a."fresh", h."id") AS "id", coalesce(h."analysis", 0) AS "analysis"
    FROM ask a
    LEFT JOIN held h ON h."id" = a."conversationId"
        AND (h."userId" = (%(users)s::text[])[a."at"] OR (%(users)s::text[])[a."at"] IS NULL)
    WHERE h."id" IS NOT NULL OR (a."fresh" IS NOT NULL AND a."userId" IS NOT NULL)
    ORDER BY a."at"
"""


def open_conversations(conn: Connection, asks: Sequence[MessageTarget]) -> list[OpenConversation]:
    """Open the conversations to record in, one a target, in order; fewer if one is not found."""
    values = {
        "conversations": [ask.conversation_id for ask in asks],
        "users": [ask.user_id for ask in asks],
        "titles": [ask.title for ask in asks],
    }
    return [OpenConversation(*row) for row in conn.execute(OPEN_CONVERSATIONS, values)]


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A row of "Message"; dollars as decimal text, None to take the model's price."""

    conversation_id: str
    role: str
    content: str
    model: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: str | None = None
    latency_ms: int | None = None
    intent: str | None = None


@dataclass(frozen=True, slots=True)
class RecordedMessage:
    """A message as it was recorded; `cost_usd` is None where no price is known."""

    id: MessageId
    cost_usd: Decimal | None


# One transaction has one now(): messages of one conversation come a millisecond apart, as the
# platform sorts by it, and after its newest one, though that were recorded in this millisecond.
# A price is for a thousand tokens.
INSERT_MESSAGES: Final = """
    WITH given AS MATERIALIZED (
        SELECT public.ailydian_new_id() AS "id", g.*,
               row_number() OVER (PARTITION BY g."conversationId" ORDER BY g."at") AS "nth"
        FROM unnest(%(conversations)s::text[], %(roles)s::text[], %(contents)s::text[],
                    %(models)s::text[], %(tokens_in)s::int[], %(tokens_out)s::int[],
                    %(costs)s::numeric[], %(latencies)s::int[], %(intents)s::text[])
             WITH ORDINALITY AS g("conversationId", "role", "content", "model", "tokensIn",
                                  "tokensOut", "cost", "latencyMs", "intent", "at")
    ), priced AS MATERIALIZED (
        SELECT g.*, m."id" AS "modelId", greatest(now() AT TIME ZONE 'UTC', CASE
                   WHEN c."updatedAt" < now() AT TIME ZONE 'UTC' + interval '1 minute'
                   THEN c."updatedAt" + interval '1 ms' END)
               + (g."nth" - 1) * interval '1 ms' AS "createdAt",
               coalesce(g."cost", round((g."tokensIn" * m."costPer1kIn"
                                         + g."tokensOut" * m."costPer1kOut") / 1000, 8)) AS "price"
        FROM given g
        LEFT JOIN "Conversation" c ON c."id" = g."conversationId"
        LEFT JOIN "AIModel" m ON m."slug" = g."model"
    ), moved AS (
        UPDATE "Conversation" c SET "updatedAt" = n."newest"
        FROM (SELECT p."conversationId", max(p."createdAt") AS "newest" FROM priced p
              GROUP BY p."conversationId") n
        WHERE c."id" = n."conversationId"
    ), made AS (
        INSERT INTO "Message" ("id", "conversationId", "role", "content", "modelId", "tokensIn",
                               "tokensOut", "cost", "latencyMs", "createdAt", "intent")
        SELECT p."id", p."conversationId", p."role"::"MessageRole", p."content", p."modelId",
               p."tokensIn", p."tokensOut", p."price", p."latencyMs", p."createdAt", p."intent"
        FROM priced p
    )
    SELECT p."id", p."price" AS "costUsd" FROM priced p ORDER BY p."at"
"""


def insert_messages(conn: Connection, new: Sequence[NewMessage]) -> list[RecordedMessage]:
    """Record messages in opened conversations, in the order given.

    Returns:
        One entry a message, in the order given.
    """
    rows = conn.execute(
        INSERT_MESSAGES,
        {
            "conversations": [one.conversation_id for one in new],
            "roles": [one.role for one in new],
            "contents": [one.content for one in new],
            "models": [one.model for one in new],
            "tokens_in": [one.tokens_in for one in new],
            "tokens_out": [one.tokens_out for one in new],
            "costs": [None if one.cost_usd is None else Decimal(one.cost_usd) for one in new],
            "latencies": [one.latency_ms for one in new],
            "intents": [one.intent for one in new],
        },
    )
    return [RecordedMessage(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class NewProvenance:
    """A row of "Provenance"; hashes are SHA-256 in hex, `citations` and `inputs` JSON text."""

    message_id: MessageId
    question_id: MessageId | None
    question_sha256: str
    model: str
    input_sha256: str
    output_sha256: str
    citations: str
    inputs: str
    watermark: str
    key_id: str


INSERT_PROVENANCES: Final = """
    WITH given AS MATERIALIZED (
        SELECT public.ailydian_new_id() AS "id", g.*
        FROM unnest(%(messages)s::text[], %(questions)s::text[], %(models)s::text[],
                    %(inputs_sha256)s::text[], %(outputs_sha256)s::text[], %(citations)s::jsonb[],
                    %(inputs)s::jsonb[], %(watermarks)s::text[], %(keys)s::text[],
                    %(questions_sha256)s::text[])
             WITH ORDINALITY AS g("messageId", "questionId", "modelId", "inputHash", "outputHash",
                                  "citations", "inputs", "watermark", "keyId",
                                  "questionSha256", "at")
    ), made AS (
        INSERT INTO "Provenance" ("id", "messageId", "questionId", "modelId", "inputHash",
                                  "outputHash", "citations", "inputs", "watermark", "keyId",
                                  "questionSha256")
        SELECT g."id", g."messageId", g."questionId", g."modelId", g."inputHash", g."outputHash",
               g."citations", g."inputs", g."watermark", g."keyId", g."questionSha256"
        FROM given g
    )
    SELECT g."id" FROM given g ORDER BY g."at"
"""


def insert_provenances(conn: Connection, new: Sequence[NewProvenance]) -> list[str]:
    """Store the provenance of messages. Returns the ids of the rows, in the order given."""
    values: dict[str, object] = {
        "messages": [one.message_id for one in new],
        "questions": [one.question_id for one in new],
        "questions_sha256": [one.question_sha256 for one in new],
        "models": [one.model for one in new],
        "inputs_sha256": [one.input_sha256 for one in new],
        "outputs_sha256": [one.output_sha256 for one in new],
        "citations": [one.citations for one in new],
        "inputs": [one.inputs for one in new],
        "watermarks": [one.watermark for one in new],
        "keys": [one.key_id for one in new],
    }
    return [row[0] for row in conn.execute(INSERT_PROVENANCES, values)]


SELECT_PASSAGES: Final = """
    SELECT c."id", c."content" FROM "DocumentChunk" c WHERE c."id" = ANY(%(ids)s::text[])
"""


def select_passages(conn: Connection, chunk_ids: list[ChunkId]) -> dict[ChunkId, str]:
    """The texts of chunks that are still there, by their ids."""
    rows = conn.execute(SELECT_PASSAGES, {"ids": chunk_ids})
    return {id_: content for id_, content in rows}
