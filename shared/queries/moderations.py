"""Moderation: the texts to judge, and what was found in them."""

from dataclasses import dataclass
from typing import Final

from shared.db import Connection

SELECT_DOCUMENT: Final = """
    SELECT "content" FROM "Document" WHERE "id" = %(id)s
"""

SELECT_MESSAGE: Final = """
    SELECT "content" FROM "Message" WHERE "id" = %(id)s
"""


def select_content(conn: Connection, content_type: str, content_id: str) -> str | None:
    """The text of a document or a message; None where it is gone."""
    statement = SELECT_MESSAGE if content_type == "message" else SELECT_DOCUMENT
    row = conn.execute(statement, {"id": content_id}).fetchone()
    return None if row is None else str(row[0])


@dataclass(frozen=True, slots=True)
class NewModeration:
    """A row of "ModerationResult"; `scores` is JSON text."""

    content_type: str
    content_id: str
    flagged: bool
    categories: list[str]
    scores: str
    action: str


INSERT_MODERATION: Final = """
    INSERT INTO "ModerationResult" ("contentType", "contentId", "flagged", "categories", "scores",
                                    "action")
    VALUES (%(content_type)s, %(content_id)s, %(flagged)s, %(categories)s::text[],
            %(scores)s::jsonb, %(action)s)
"""


def insert_moderation(conn: Connection, new: NewModeration) -> None:
    """Keep what was found in a text."""
    conn.execute(
        INSERT_MODERATION,
        {
            "content_type": new.content_type,
            "content_id": new.content_id,
            "flagged": new.flagged,
            "categories": new.categories,
            "scores": new.scores,
            "action": new.action,
        },
    )
