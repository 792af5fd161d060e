"""Explanations: the scores to explain, and their stored attributions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from shared.db import Connection


@dataclass(frozen=True, slots=True)
class ScoreSubject:
    """A score to explain.

    Attributes:
        kind: `quality`, `moderation`, `trust` or `routing`.
        id: The row's.
        about: The message, document or person that the score is about.
        score: What it is, where it is one number.
        made_of: The parts stored with it.
        text: The judged text; None for other scores.
    """

    kind: str
    id: str
    about: str
    score: float | None
    made_of: dict[str, Any]
    text: str | None


SELECT_QUALITY: Final = """
    SELECT 'quality' AS "kind", q."id", q."messageId" AS "about", q."estimatedScore" AS "score",
           q."metrics" AS "madeOf", m."content" AS "text"
    FROM "QualityScore" q JOIN "Message" m ON m."id" = q."messageId"
    WHERE q."id" = %(id)s OR q."messageId" = %(id)s LIMIT 1
"""

SELECT_MODERATION: Final = """
    SELECT 'moderation' AS "kind", r."id", r."contentId" AS "about", NULL::float8 AS "score",
           r."scores" AS "madeOf",
           coalesce((SELECT m."content" FROM "Message" m
                     WHERE m."id" = r."contentId" AND r."contentType" = 'message'),
                    (SELECT d."content" FROM "Document" d
                     WHERE d."id" = r."contentId" AND r."contentType" = 'document'),
                    (SELECT f."comment" FROM "Feedback" f
                     WHERE f."id" = r."contentId" AND r."contentType" = 'feedback')) AS "text"
    FROM "ModerationResult" r
    WHERE r."tenantId" = current_setting('app.tenant_id')
      AND (r."id" = %(id)s OR (r."contentId" = %(id)s AND NOT r."superseded"))
    ORDER BY r."createdAt" DESC, r."id" DESC LIMIT 1
"""

SELECT_TRUST: Final = """
    SELECT 'trust' AS "kind", t."id", t."userId" AS "about", t."score", t."factors" AS "madeOf",
           NULL::text AS "text"
    FROM "TrustScore" t LEFT JOIN "User" u ON u."id" = t."userId"
    WHERE t."id" = %(id)s OR t."userId" = %(id)s OR lower(u."email") = lower(%(id)s) LIMIT 1
"""

SELECT_ROUTING: Final = """
    SELECT 'routing' AS "kind", r."id", r."modelId" AS "about", r."score", r."factors" AS "madeOf",
           NULL::text AS "text"
    FROM "RoutingScore" r JOIN "AIModel" m ON m."id" = r."modelId"
    WHERE (r."id" = %(id)s OR m."slug" || '/' || r."intent" = %(id)s)
      AND r."factors" IS NOT NULL LIMIT 1
"""

_STATEMENTS: Final = {
    "quality": SELECT_QUALITY,
    "moderation": SELECT_MODERATION,
    "trust": SELECT_TRUST,
    "routing": SELECT_ROUTING,
}
KINDS: Final = tuple(_STATEMENTS)


def select_subject(conn: Connection, kind: str, subject_id: str) -> ScoreSubject | None:
    """A score by its own id, or by that of what it is about; None where there is none."""
    row = conn.execute(_STATEMENTS[kind], {"id": subject_id}).fetchone()
    return None if row is None else ScoreSubject(*row)


@dataclass(frozen=True, slots=True)
class AnswerSources:
    """The sources of an answer: its question, '' where not known, and the passages it cites."""

    question: str = ""
    passages: Sequence[str] = ()


SELECT_RESTED: Final = """
    SELECT coalesce(q."content", '') AS "question",
           coalesce(array_agg(c."content" ORDER BY x."place") FILTER (WHERE c."id" IS NOT NULL),
                    '{}') AS "passages"
    FROM "Provenance" p LEFT JOIN "Message" q ON q."id" = p."questionId"
    LEFT JOIN LATERAL jsonb_path_query(p."citations", '$[*]."chunkId"')
        WITH ORDINALITY AS x("chunkId", "place") ON true
    LEFT JOIN "DocumentChunk" c ON c."id" = x."chunkId" #>> '{}'
    WHERE p."messageId" = %(message_id)s GROUP BY q."content"
"""


def select_rested(conn: Connection, message_id: str) -> AnswerSources:
    """The recorded sources of an answer, as far as they still exist."""
    row = conn.execute(SELECT_RESTED, {"message_id": message_id}).fetchone()
    return AnswerSources() if row is None else AnswerSources(*row)


@dataclass(frozen=True, slots=True)
class NewExplanation:
    """A row of "ExplainabilityLog"; `features` and `importance` are JSON text."""

    message_id: str
    method: str
    features: str
    importance: str
    subject: str
    subject_id: str


INSERT: Final = """
    INSERT INTO "ExplainabilityLog" ("messageId", "method", "features", "importance", "subject",
                                     "subjectId")
    VALUES (%(message_id)s, %(method)s, %(features)s::jsonb, %(importance)s::jsonb, %(subject)s,
            %(subject_id)s)
    RETURNING "id"
"""


def insert(conn: Connection, new: NewExplanation) -> str:
    """Store an explanation. Returns its id."""
    values = {
        "message_id": new.message_id,
        "method": new.method,
        "features": new.features,
        "importance": new.importance,
        "subject": new.subject,
        "subject_id": new.subject_id,
    }
    row = conn.execute(INSERT, values).fetchone()
    assert row is not None, "an insert that returns yields a row"
    return str(row[0])


@dataclass(frozen=True, slots=True)
class ExplanationRow:
    """An explanation: `importance` is {base, score, values}; the values add up to score - base.

    That of an answer's quality also has `sentences`, of the same form.
    """

    id: str
    subject: str | None
    about: str
    method: str
    features: dict[str, Any]
    importance: dict[str, Any]
    created_at: datetime


SELECT: Final = """
    SELECT x."id", x."subject", x."messageId" AS "about", x."method", x."features", x."importance",
           x."createdAt" AT TIME ZONE 'UTC' AS "createdAt"
    FROM "ExplainabilityLog" x WHERE x."id" = %(id)s
"""


def select(conn: Connection, explanation_id: str) -> ExplanationRow | None:
    """An explanation of the tenant; None where there is none of this id."""
    row = conn.execute(SELECT, {"id": explanation_id}).fetchone()
    return None if row is None else ExplanationRow(*row)
