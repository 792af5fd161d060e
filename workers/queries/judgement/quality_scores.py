"""Quality scores: estimates for messages, and the ratings of their readers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared.db import Connection
from shared.ids import MessageId


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """A message to score; `intent` is None where it is not known yet."""

    id: MessageId
    content: str
    intent: str | None


SELECT_ANSWERS: Final = """
    SELECT "id", "content", "intent" FROM "Message" WHERE "id" = ANY(%(ids)s::text[])
"""


def select_answers(conn: Connection, ids: Sequence[MessageId]) -> dict[MessageId, AnswerRow]:
    """Those of the messages that are still there."""
    rows = conn.execute(SELECT_ANSWERS, {"ids": list(ids)})
    return {row[0]: AnswerRow(*row) for row in rows}


@dataclass(frozen=True, slots=True)
class NewEstimate:
    """An estimate in [0, 1] and its parts, as JSON text."""

    message_id: MessageId
    score: float
    metrics: str
    intent: str


# The intent of a message is set once: its reward goes to the arm of that intent.
UPSERT_ESTIMATES: Final = """
    WITH new AS MATERIALIZED (
        SELECT n.* FROM unnest(%(ids)s::text[], %(scores)s::float8[], %(metrics)s::jsonb[],
                               %(intents)s::text[]) AS n("id", "score", "metrics", "intent")
        JOIN "Message" m ON m."id" = n."id"
    ), told AS (
        UPDATE "Message" m SET "intent" = n."intent" FROM new n
        WHERE m."id" = n."id" AND m."intent" IS NULL
    )
    INSERT INTO "QualityScore" ("messageId", "estimatedScore", "metrics")
    SELECT n."id", n."score", n."metrics" FROM new n ORDER BY n."id"
    ON CONFLICT ("messageId") DO UPDATE
    SET "estimatedScore" = excluded."estimatedScore", "metrics" = excluded."metrics"
"""


def upsert_estimates(conn: Connection, new: Sequence[NewEstimate]) -> None:
    """Store estimates, one a message, and the intents of messages that had none."""
    values: dict[str, object] = {
        "ids": [one.message_id for one in new],
        "scores": [one.score for one in new],
        "metrics": [one.metrics for one in new],
        "intents": [one.intent for one in new],
    }
    conn.execute(UPSERT_ESTIMATES, values)


# A user's last rating counts, the mean of the users is the score; ratings are 1 to 5, or -1 and 1.
# An answer that was not scored yet gets its row now; the estimate is added when it comes.
APPLY_RATINGS: Final = """
    WITH last AS (
        SELECT DISTINCT ON (f."userId") f."userId", f."rating", f."createdAt" FROM "Feedback" f
        WHERE f."messageId" = %(message_id)s
        ORDER BY f."userId", f."createdAt" DESC, f."id" DESC
    ), valued AS (
        SELECT l."userId", CASE WHEN l."rating" <= 0 THEN 0.0
                                WHEN l."rating" = 1 AND (SELECT min(x."rating") FROM last x) < 1
                                THEN 1.0
                                ELSE (least(l."rating", 5) - 1) / 4.0 END AS "value"
        FROM last l
    ), kept AS (
        UPDATE "QualityScore" q SET "actualScore" = (SELECT avg(v."value") FROM valued v)
        WHERE q."messageId" = %(message_id)s
    )
    SELECT v."userId", v."value"::float8 AS "value" FROM valued v ORDER BY v."userId"
"""


def apply_ratings(conn: Connection, message_id: MessageId) -> dict[str, float]:
    """Apply the ratings of a message to its quality score, if it has one.

    Returns:
        The rating of each of its readers, in [0, 1].
    """
    rows = conn.execute(APPLY_RATINGS, {"message_id": message_id})
    return {user_id: value for user_id, value in rows}


# An answer that was rated before it was scored: its ratings wait in "Feedback".
SELECT_RATED: Final = """
    SELECT DISTINCT f."messageId" FROM "Feedback" f WHERE f."messageId" = ANY(%(ids)s::text[])
"""


def select_rated(conn: Connection, ids: Sequence[MessageId]) -> list[MessageId]:
    """Those of the messages that somebody has rated."""
    return [row[0] for row in conn.execute(SELECT_RATED, {"ids": list(ids)})]


SELECT_PAIRS: Final = """
    SELECT (q."metrics" ->> 'raw')::float8 AS "raw", q."actualScore" FROM "QualityScore" q
    WHERE q."tenantId" = current_setting('app.tenant_id') AND q."actualScore" IS NOT NULL
      AND jsonb_typeof(q."metrics" -> 'raw') = 'number'
    ORDER BY q."createdAt" DESC, q."id" DESC LIMIT %(limit)s
"""


def select_pairs(conn: Connection, *, limit: int) -> list[tuple[float, float]]:
    """The newest pairs of a raw estimate and its rating, both in [0, 1]."""
    rows = conn.execute(SELECT_PAIRS, {"limit": limit})
    return [(raw, actual_score) for raw, actual_score in rows]


@dataclass(frozen=True, slots=True)
class CalibrationRow:
    """A calibration curve."""

    version: int
    method: str
    curve: dict[str, Any]
    pairs: int
    error_raw: float
    error: float


SELECT_CALIBRATION: Final = """
    SELECT c."version", c."method", c."curve", c."pairs", c."errorRaw", c."error"
    FROM "QualityCalibration" c WHERE c."tenantId" = current_setting('app.tenant_id')
    ORDER BY c."version" DESC LIMIT 1
"""


def select_calibration(conn: Connection) -> CalibrationRow | None:
    """The tenant's current calibration; None before the first."""
    row = conn.execute(SELECT_CALIBRATION).fetchone()
    return None if row is None else CalibrationRow(*row)


INSERT_CALIBRATION: Final = """
    INSERT INTO "QualityCalibration" ("version", "method", "curve", "pairs", "errorRaw", "error")
    SELECT 1 + coalesce(max(c."version"), 0), %(method)s, %(curve)s::jsonb, %(pairs)s,
           %(error_raw)s, %(error)s
    FROM "QualityCalibration" c WHERE c."tenantId" = current_setting('app.tenant_id')
    RETURNING "version"
"""


@dataclass(frozen=True, slots=True)
class NewCalibration:
    """A calibration to store; `curve` is JSON text."""

    method: str
    curve: str
    pairs: int
    error_raw: float
    error: float


def insert_calibration(conn: Connection, new: NewCalibration) -> int:
    """Make a calibration the current one. Returns its version."""
    values = {
        "method": new.method,
        "curve": new.curve,
        "pairs": new.pairs,
        "error_raw": new.error_raw,
        "error": new.error,
    }
    row = conn.execute(INSERT_CALIBRATION, values).fetchone()
    assert row is not None, "an insert that returns yields a row"
    return int(row[0])
