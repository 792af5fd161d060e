"""Rows written by the platform that may need jobs."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.db import Connection
from shared.ids import DocumentId, MessageId, TenantId

SELECT_TENANTS: Final = """
    SELECT DISTINCT "tenantId" FROM (
        SELECT "tenantId" FROM "PlatformChange" ORDER BY "changedAt" LIMIT 10000
    ) oldest
"""


def select_tenants(conn: Connection) -> list[TenantId]:
    """The tenants that have changes, seen in the relay's role."""
    return [row[0] for row in conn.execute(SELECT_TENANTS)]


@dataclass(frozen=True, slots=True)
class Change:
    """One write of the platform."""

    table: str
    row_id: str
    changed_at: datetime


TAKE: Final = """
    DELETE FROM "PlatformChange" WHERE "id" IN (
        SELECT "id" FROM "PlatformChange"
        WHERE "tenantId" = current_setting('app.tenant_id') ORDER BY "changedAt" LIMIT %(limit)s
    ) AND "tenantId" = current_setting('app.tenant_id')
    RETURNING "tableName" AS "table", "rowId", "changedAt"
"""


def take(conn: Connection, *, limit: int) -> list[Change]:
    """Take changes of the transaction's tenant off the list, for the jobs it publishes."""
    return [Change(*row) for row in conn.execute(TAKE, {"limit": limit})]


SELECT_UNINGESTED: Final = """
    SELECT "id", "ingestVersion" AS "version",
           encode(sha256(convert_to("content", 'UTF8')), 'hex') AS "sha256"
    FROM "Document" WHERE "id" = ANY(%(ids)s::text[])
      AND "ingestedSha256" IS DISTINCT FROM encode(sha256(convert_to("content", 'UTF8')), 'hex')
"""


def select_uningested(conn: Connection, ids: list[str]) -> list[tuple[DocumentId, int, str]]:
    """Those documents whose chunks are not of their content, as (id, version, its hash)."""
    rows = conn.execute(SELECT_UNINGESTED, {"ids": ids})
    return [(id_, version, sha256) for id_, version, sha256 in rows]


@dataclass(frozen=True, slots=True)
class PlatformMessage:
    """A message that the platform wrote; `question` is what stands before an answer, or ''."""

    id: MessageId
    role: str
    content_sha256: str
    conversation_id: str
    analysis: int
    question: str


SELECT_MESSAGES: Final = """
    SELECT m."id", m."role"::text,
           encode(sha256(convert_to(m."content", 'UTF8')), 'hex') AS "contentSha256",
           m."conversationId", c."analysis",
           coalesce((SELECT left(q."content", %(chars)s) FROM "Message" q
                     WHERE m."role" = 'ASSISTANT' AND q."conversationId" = m."conversationId"
                       AND q."role" = 'USER' AND q."createdAt" <= m."createdAt"
                     ORDER BY q."createdAt" DESC, q."id" DESC LIMIT 1), '') AS "question"
    FROM "Message" m JOIN "Conversation" c ON c."id" = m."conversationId"
    WHERE m."id" = ANY(%(ids)s::text[]) ORDER BY m."id"
"""


def select_messages(
    conn: Connection, ids: list[str], *, question_chars: int
) -> list[PlatformMessage]:
    """Return those of the messages that still exist."""
    rows = conn.execute(SELECT_MESSAGES, {"ids": ids, "chars": question_chars})
    return [PlatformMessage(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class PlatformFeedback:
    """A rating that the platform wrote; `comment_sha256` is None without a comment."""

    id: str
    message_id: MessageId
    comment_sha256: str | None


SELECT_FEEDBACK: Final = """
    SELECT f."id", f."messageId",
           encode(sha256(convert_to(nullif(f."comment", ''), 'UTF8')), 'hex') AS "commentSha256"
    FROM "Feedback" f WHERE f."id" = ANY(%(ids)s::text[])
"""


def select_feedback(conn: Connection, ids: list[str]) -> list[PlatformFeedback]:
    """Return those of the ratings that still exist."""
    return [PlatformFeedback(*row) for row in conn.execute(SELECT_FEEDBACK, {"ids": ids})]
