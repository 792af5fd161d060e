"""Messages of conversations: recorded, and read to be judged."""

from dataclasses import dataclass
from typing import Final

from shared.db import Connection
from shared.ids import ChunkId, MessageId, UserId

# A conversation that is named must be there, and be that of the user, if one is named too; without
# one, a new one of the user, or of the tenant's first user, begins.
OPEN_CONVERSATION: Final = """
    WITH given AS (
        SELECT c."id" FROM "Conversation" c
        WHERE c."id" = %(conversation_id)s::text
          AND (%(user_id)s::text IS NULL OR c."userId" = %(user_id)s::text)
    ), whose AS (
        SELECT u."id" FROM "User" u
        WHERE %(conversation_id)s::text IS NULL
          AND (%(user_id)s::text IS NULL OR u."id" = %(user_id)s::text)
        ORDER BY u."createdAt", u."id" LIMIT 1
    ), made AS (
        INSERT INTO "Conversation" ("userId", "title")
        SELECT w."id", left(%(title)s::text, 100) FROM whose w RETURNING "id"
    )
    SELECT "id" FROM given UNION ALL SELECT "id" FROM made
"""


def open_conversation(
    conn: Connection, conversation_id: str | None, user_id: UserId | None, title: str
) -> str | None:
    """A conversation to record in; None where neither it nor a user is there."""
    values = {"conversation_id": conversation_id, "user_id": user_id, "title": title}
    row = conn.execute(OPEN_CONVERSATION, values).fetchone()
    return None if row is None else str(row[0])


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A row of "Message"; dollars as decimal text."""

    conversation_id: str
    role: str
    content: str
    model: str | None
    tokens_in: int | None
    tokens_out: int | None
    cost_usd: str | None


# One transaction has one now(): the answer comes a millisecond later, as the platform sorts by it.
INSERT_MESSAGE: Final = """
    WITH moved AS (
        UPDATE "Conversation" c SET "updatedAt" = now() AT TIME ZONE 'UTC'
        WHERE c."id" = %(conversation_id)s
    )
    INSERT INTO "Message" ("conversationId", "role", "content", "modelId", "tokensIn", "tokensOut",
                           "cost", "createdAt")
    VALUES (%(conversation_id)s, %(role)s::"MessageRole", %(content)s,
            (SELECT m."id" FROM "AIModel" m WHERE m."slug" = %(model)s::text), %(tokens_in)s,
            %(tokens_out)s, %(cost_usd)s::numeric,
            now() AT TIME ZONE 'UTC'
                + CASE %(role)s WHEN 'ASSISTANT' THEN interval '1 ms' ELSE interval '0' END)
    RETURNING "id"
"""


def insert_message(conn: Connection, new: NewMessage) -> MessageId:
    """Record a message; its conversation has moved."""
    row = conn.execute(
        INSERT_MESSAGE,
        {
            "conversation_id": new.conversation_id,
            "role": new.role,
            "content": new.content,
            "model": new.model,
            "tokens_in": new.tokens_in,
            "tokens_out": new.tokens_out,
            "cost_usd": new.cost_usd,
        },
    ).fetchone()
    assert row is not None, "an insert that returns yields a row"
    return MessageId(row[0])


@dataclass(frozen=True, slots=True)
class NewProvenance:
    """A row of "Provenance"; hashes are SHA-256 in hex, `citations` JSON text."""

    message_id: MessageId
    model: str
    input_sha256: str
    output_sha256: str
    citations: str


INSERT_PROVENANCE: Final = """
    INSERT INTO "Provenance" ("messageId", "modelId", "inputHash", "outputHash", "citations")
    VALUES (%(message_id)s, %(model)s, %(input_sha256)s, %(output_sha256)s, %(citations)s::jsonb)
    RETURNING "id"
"""


def insert_provenance(conn: Connection, new: NewProvenance) -> str:
    """Keep what a message was made from."""
    row = conn.execute(
        INSERT_PROVENANCE,
        {
            "message_id": new.message_id,
            "model": new.model,
            "input_sha256": new.input_sha256,
            "output_sha256": new.output_sha256,
            "citations": new.citations,
        },
    ).fetchone()
    assert row is not None, "an insert that returns yields a row"
    return str(row[0])


SELECT_PASSAGES: Final = """
    SELECT c."id", c."content" FROM "DocumentChunk" c WHERE c."id" = ANY(%(ids)s::text[])
"""


def select_passages(conn: Connection, chunk_ids: list[ChunkId]) -> dict[ChunkId, str]:
    """The texts of chunks that are still there, by their ids."""
    return {row[0]: row[1] for row in conn.execute(SELECT_PASSAGES, {"ids": chunk_ids})}
