"""Notices of incidents: what on-call is told, until it was heard. In the relay's role."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from shared.db import Connection


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice to be posted; `attempts` counts the one that is made of it now."""

    id: str
    event: str
    body: dict[str, Any]
    attempts: int


# Those of one incident go in their order: an earlier one that is neither heard nor given up holds
# the later ones back. One that was claimed is due again after the lease, should its sender die.
CLAIM_NEXT: Final = """
    UPDATE "IncidentNotice" n
    SET "attempts" = n."attempts" + 1, "nextAt" = now() + %(lease_s)s::float8 * interval '1 second'
    FROM (
        SELECT w."id" FROM "IncidentNotice" w
        WHERE w."nextAt" <= now() AND w."sentAt" IS NULL AND NOT EXISTS (
            SELECT FROM "IncidentNotice" e
            WHERE e."incidentId" = w."incidentId" AND e."sentAt" IS NULL
              AND e."nextAt" < 'infinity' AND (e."createdAt", e."id") < (w."createdAt", w."id"))
        ORDER BY w."nextAt", w."id" LIMIT 1 FOR UPDATE SKIP LOCKED
    ) c
    WHERE n."id" = c."id"
    RETURNING n."id", n."event", n."body", n."attempts"
"""


def claim_next(conn: Connection, *, lease_s: float) -> Notice | None:
    """Claim the next notice that is due, for `lease_s` seconds; None if there is none."""
    row = conn.execute(CLAIM_NEXT, {"lease_s": lease_s}).fetchone()
    return None if row is None else Notice(*row)


MARK_SENT: Final = """
    UPDATE "IncidentNotice" SET "sentAt" = now(), "nextAt" = 'infinity', "error" = NULL
    WHERE "id" = %(id)s
"""


def mark_sent(conn: Connection, notice_id: str) -> None:
    """Note that a notice was heard."""
    conn.execute(MARK_SENT, {"id": notice_id})


# A notice that nobody hears is given up in the end, so that the later ones of its incident go.
MARK_FAILED: Final = """
    UPDATE "IncidentNotice" SET "error" = %(error)s, "nextAt" = CASE
        WHEN "createdAt" + %(give_up_s)s::float8 * interval '1 second'
             <= now() + %(wait_s)s::float8 * interval '1 second' THEN 'infinity'
        ELSE now() + %(wait_s)s::float8 * interval '1 second' END
    WHERE "id" = %(id)s AND "sentAt" IS NULL RETURNING "nextAt" = 'infinity'
"""


def mark_failed(
    conn: Connection, notice_id: str, error: str, *, wait_s: float, give_up_s: float
) -> bool:
    """Note why a notice was not heard, and when it is tried again.

    Args:
        conn: A connection in the relay's role.
        notice_id: Which.
        error: One sentence.
        wait_s: Seconds until the next attempt.
        give_up_s: Age in seconds beyond which there is none.

    Returns:
        Whether it was given up.
    """
    values = {"id": notice_id, "error": error, "wait_s": wait_s, "give_up_s": give_up_s}
    row = conn.execute(MARK_FAILED, values).fetchone()
    return row is not None and bool(row[0])


PRUNE: Final = """
    DELETE FROM "IncidentNotice"
    WHERE "createdAt" < now() - CASE WHEN "nextAt" = 'infinity' THEN %(kept_s)s::float8
                                     ELSE %(unsent_s)s::float8 END * interval '1 second'
"""


def prune(conn: Connection, *, kept_s: float, unsent_s: float) -> int:
    """Delete old notices: those heard or given up, and those that nobody was there to hear.

    Returns:
        How many.
    """
    return conn.execute(PRUNE, {"kept_s": kept_s, "unsent_s": unsent_s}).rowcount


@dataclass(frozen=True, slots=True)
class NoticeRow:
    """A notice as operators see it."""

    id: str
    event: str
    created_at: datetime
    attempts: int
    sent_at: datetime | None
    next_at: datetime | None
    error: str | None


SELECT_NOTICES: Final = """
    SELECT "id", "event", "createdAt", "attempts", "sentAt",
           nullif("nextAt", 'infinity') AS "nextAt", "error"
    FROM "IncidentNotice" WHERE "incidentId" = %(incident_id)s
    ORDER BY "createdAt", "id" LIMIT %(limit)s
"""


def select_notices(conn: Connection, incident_id: str, *, limit: int) -> list[NoticeRow]:
    """What was told of an incident, oldest first; `next_at` is None when nothing is to come."""
    values = {"incident_id": incident_id, "limit": limit}
    return [NoticeRow(*row) for row in conn.execute(SELECT_NOTICES, values)]
