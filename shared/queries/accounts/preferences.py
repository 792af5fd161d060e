"""Preferences of users: model, temperature and length. In the tenant's role."""

from dataclasses import dataclass
from typing import Any, Final

from psycopg.types.json import Jsonb

from shared.db import Connection
from shared.ids import UserId


@dataclass(frozen=True, slots=True)
class Preference:
    """A user's preferences; None leaves a value to routing or the model."""

    model: str | None = None
    temperature: float | None = None
    tokens_max: int | None = None
    settings: dict[str, Any] | None = None


SELECT_PREFERENCE: Final = """
    SELECT p."preferredModel" AS "model", p."temperature", p."maxTokens" AS "tokensMax",
           p."customSettings" AS "settings"
    FROM "UserPreference" p WHERE p."userId" = %(user_id)s
"""


def select_preference(conn: Connection, user_id: UserId) -> Preference | None:
    """A user's preferences; None where none are stored."""
    row = conn.execute(SELECT_PREFERENCE, {"user_id": user_id}).fetchone()
    return None if row is None else Preference(*row)


UPSERT_PREFERENCE: Final = """
    INSERT INTO "UserPreference" ("userId", "preferredModel", "temperature", "maxTokens",
                                  "customSettings")
    VALUES (%(user_id)s, %(model)s::text, %(temperature)s::float8, %(tokens_max)s::int,
            %(settings)s::jsonb)
    ON CONFLICT ("userId") DO UPDATE
    SET "preferredModel" = excluded."preferredModel", "temperature" = excluded."temperature",
        "maxTokens" = excluded."maxTokens", "customSettings" = excluded."customSettings"
"""


def upsert_preference(conn: Connection, user_id: UserId, wanted: Preference) -> None:
    """Replace a user's preferences."""
    values: dict[str, object] = {
        "user_id": user_id,
        "model": wanted.model,
        "temperature": wanted.temperature,
        "tokens_max": wanted.tokens_max,
        "settings": None if wanted.settings is None else Jsonb(wanted.settings),
    }
    conn.execute(UPSERT_PREFERENCE, values)
