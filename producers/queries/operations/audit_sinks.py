"""Places outside the database that keep checkpoints, and how far each has come."""

from dataclasses import dataclass
from typing import Final

from shared.db import Connection

PUT_SINK: Final = """
    INSERT INTO "AuditSink" ("sink") VALUES (%(sink)s) ON CONFLICT DO NOTHING
"""

SELECT_SINK: Final = """
    SELECT s."checkpoint" FROM "AuditSink" s WHERE s."sink" = %(sink)s
"""


def select_place(conn: Connection, sink: str) -> int:
    """Return the number of the last checkpoint that a place has; 0 for a new place."""
    row = conn.execute(SELECT_SINK, {"sink": sink}).fetchone()
    if row is None:
        conn.execute(PUT_SINK, {"sink": sink})
    return 0 if row is None else int(row[0])


UPDATE_KEPT: Final = """
    UPDATE "AuditSink" SET "checkpoint" = greatest("checkpoint", %(checkpoint)s), "error" = NULL,
           "triedAt" = now(), "heardAt" = now()
    WHERE "sink" = %(sink)s
"""


def mark_kept(conn: Connection, sink: str, checkpoint: int) -> None:
    """Note that a place has the checkpoints up to this number."""
    conn.execute(UPDATE_KEPT, {"sink": sink, "checkpoint": checkpoint})


UPDATE_FAILED: Final = """
    UPDATE "AuditSink" SET "error" = %(error)s, "triedAt" = now() WHERE "sink" = %(sink)s
"""


def mark_failed(conn: Connection, sink: str, error: str) -> None:
    """Note why a place did not take a checkpoint."""
    conn.execute(UPDATE_FAILED, {"sink": sink, "error": error})


@dataclass(frozen=True, slots=True)
class SilentSink:
    """A place that has not taken checkpoints for some time."""

    sink: str
    error: str
    seconds: float


SELECT_SILENT: Final = """
    SELECT s."sink", s."error", extract(epoch FROM now() - s."heardAt")::float8 AS "seconds"
    FROM "AuditSink" s WHERE s."error" IS NOT NULL
      AND s."heardAt" < now() - %(seconds)s * interval '1 second'
      AND s."triedAt" > now() - interval '1 hour'
    ORDER BY s."sink" LIMIT %(limit)s
"""


def select_silent(conn: Connection, *, seconds: float, limit: int) -> list[SilentSink]:
    """Return places that have failed for so long. In the relay's role too."""
    rows = conn.execute(SELECT_SILENT, {"seconds": seconds, "limit": limit})
    return [SilentSink(*row) for row in rows]


SELECT_BROKEN: Final = """
    SELECT t."broken" FROM "AuditState" t WHERE t."broken" IS NOT NULL
"""


def select_broken(conn: Connection) -> str | None:
    """Return what the last verification found; None if nothing. In the relay's role too."""
    row = conn.execute(SELECT_BROKEN).fetchone()
    return None if row is None else str(row[0])
