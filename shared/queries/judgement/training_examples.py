"""Training examples from rated answers, and their export."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.db import Connection
from shared.ids import MessageId, UserId

# Ratings of answers to one question are weighed against each other one at a time.
LOCK_QUESTION: Final = """
    SELECT pg_advisory_xact_lock(hashtextextended(
        'question' || current_setting('app.tenant_id') || coalesce((
            SELECT p."questionSha256" FROM "Provenance" p WHERE p."messageId" = %(message_id)s
        ), %(message_id)s), 0))
"""


def lock_question(conn: Connection, message_id: MessageId) -> None:
    """Lock the answers to this one's question against other ratings."""
    conn.execute(LOCK_QUESTION, {"message_id": message_id})


@dataclass(frozen=True, slots=True)
class RatedRow:
    """A rated answer to a question; `worth` is None before anybody has rated it."""

    id: MessageId
    role: str
    content: str
    author_id: UserId
    question: str | None
    worth: float | None
    is_clean: bool


# The answer itself and the others to the same question that somebody has rated. Neither flagged
# content nor what belongs to somebody who asked to be deleted is taught.
SELECT_ANSWERS: Final = """
    WITH asked AS (
        SELECT p."questionSha256" FROM "Provenance" p
        WHERE p."messageId" = %(message_id)s AND p."questionId" IS NOT NULL
    ), answer AS (
        SELECT %(message_id)s::text AS "id"
        UNION
        SELECT * FROM (
            SELECT p."messageId" FROM asked a JOIN "Provenance" p
            ON p."tenantId" = current_setting('app.tenant_id')
               AND p."questionSha256" = a."questionSha256"
            WHERE EXISTS (SELECT FROM "Feedback" f WHERE f."messageId" = p."messageId")
            ORDER BY p."createdAt" DESC, p."id" DESC LIMIT %(limit)s
        ) newest
    )
    SELECT m."id", m."role"::text, m."content", c."userId" AS "authorId", q."content" AS "question",
           (SELECT avg(CASE WHEN l."rating" <= 0 THEN 0.0
                            WHEN l."rating" = 1 AND l."least" < 1 THEN 1.0
                            ELSE (least(l."rating", 5) - 1) / 4.0 END)
            FROM (SELECT f."rating", min(f."rating") OVER () AS "least" FROM (
                      SELECT DISTINCT ON (f."userId") f."rating" FROM "Feedback" f
                      WHERE f."messageId" = m."id"
                      ORDER BY f."userId", f."createdAt" DESC,
           f."id" DESC) f) l)::float8 AS "worth",
           NOT EXISTS (SELECT FROM "ModerationResult" r
                       WHERE r."tenantId" = current_setting('app.tenant_id')
                         AND r."contentId" IN (m."id", p."questionId")
                         AND r."flagged" AND NOT r."superseded")
           AND NOT EXISTS (SELECT FROM "DSARRequest" d
                           WHERE d."userId" = c."userId" AND d."type" = 'DELETION'
                             AND d."status" <> 'REJECTED') AS "isClean"
    FROM answer a JOIN "Message" m ON m."id" = a."id"
    JOIN "Conversation" c ON c."id" = m."conversationId"
    LEFT JOIN "Provenance" p ON p."messageId" = m."id"
    LEFT JOIN "Message" q ON q."id" = p."questionId"
    ORDER BY m."id"
"""


def select_answers(conn: Connection, message_id: MessageId, *, limit: int) -> list[RatedRow]:
    """A message, rated or not, and the newest rated answers to the same question."""
    values = {"message_id": message_id, "limit": limit}
    return [RatedRow(*row) for row in conn.execute(SELECT_ANSWERS, values)]


@dataclass(frozen=True, slots=True)
class NewExample:
    """A row of "TrainingExample"; `digest` names its words."""

    prompt: str
    completion: str
    rating: float
    source: str
    digest: str
    message_id: MessageId
    user_id: UserId | None
    rejected: str | None
    rejected_id: MessageId | None


REPLACE: Final = """
    WITH kept AS (
        INSERT INTO "TrainingExample" AS t ("prompt", "completion", "rating", "source", "digest",
                                            "messageId", "userId", "rejected", "rejectedId")
        SELECT * FROM unnest(%(prompts)s::text[], %(completions)s::text[], %(ratings)s::float8[],
                             %(sources)s::text[], %(digests)s::text[], %(messages)s::text[],
                             %(users)s::text[], %(rejected)s::text[], %(rejected_ids)s::text[])
        ON CONFLICT ("tenantId", "digest") DO UPDATE
        SET "rating" = excluded."rating", "withdrawnAt" = NULL
        RETURNING t."digest"
    )
    UPDATE "TrainingExample" t SET "withdrawnAt" = now()
    WHERE (t."messageId" = %(message_id)s OR t."rejectedId" = %(message_id)s)
      AND t."withdrawnAt" IS NULL AND t."digest" <> ALL(%(digests)s::text[])
"""


def replace(conn: Connection, message_id: MessageId, examples: Sequence[NewExample]) -> None:
    """Replace the training examples of a message; earlier ones not among them are withdrawn."""
    values: dict[str, object] = {
        "message_id": message_id,
        "prompts": [one.prompt for one in examples],
        "completions": [one.completion for one in examples],
        "ratings": [one.rating for one in examples],
        "sources": [one.source for one in examples],
        "digests": [one.digest for one in examples],
        "messages": [one.message_id for one in examples],
        "users": [one.user_id for one in examples],
        "rejected": [one.rejected for one in examples],
        "rejected_ids": [one.rejected_id for one in examples],
    }
    conn.execute(REPLACE, values)


@dataclass(frozen=True, slots=True)
class ExampleRow:
    """An example as it is exported."""

    id: str
    prompt: str
    completion: str
    rejected: str | None
    rating: float
    source: str
    created_at: datetime


# What was flagged since, or whose owner has withdrawn since, is left out here as well: of a
# preference both answers, their questions and their owners count.
SELECT_EXAMPLES: Final = """
    SELECT t."id", t."prompt", t."completion", t."rejected", t."rating", t."source",
           t."createdAt" AT TIME ZONE 'UTC' AS "createdAt"
    FROM "TrainingExample" t
    CROSS JOIN LATERAL (SELECT ARRAY[t."messageId", t."rejectedId"] AS "answers") a
    WHERE t."tenantId" = current_setting('app.tenant_id') AND t."withdrawnAt" IS NULL
      AND t."id" > %(after)s AND (%(source)s::text IS NULL OR t."source" = %(source)s::text)
      AND NOT EXISTS (SELECT FROM "ModerationResult" r
                      WHERE r."tenantId" = current_setting('app.tenant_id')
                        AND r."contentId" IN (
                            SELECT unnest(a."answers")
                            UNION ALL
                            SELECT p."questionId" FROM "Provenance" p
                            WHERE p."messageId" = ANY(a."answers"))
                        AND r."flagged" AND NOT r."superseded")
      AND NOT EXISTS (SELECT FROM "DSARRequest" d
                      WHERE d."type" = 'DELETION' AND d."status" <> 'REJECTED'
                        AND d."userId" IN (
                            SELECT t."userId"
                            UNION ALL
                            SELECT c."userId" FROM "Message" m
                            JOIN "Conversation" c ON c."id" = m."conversationId"
                            WHERE m."id" = ANY(a."answers")))
    ORDER BY t."id" LIMIT %(limit)s
"""


def select_examples(
    conn: Connection, source: str | None, *, after: str = "", limit: int
) -> Iterator[ExampleRow]:
    """Examples that may be taught, after an id, by id: of one source, or of all."""
    values = {"source": source, "after": after, "limit": limit}
    return (ExampleRow(*row) for row in conn.execute(SELECT_EXAMPLES, values).fetchall())
