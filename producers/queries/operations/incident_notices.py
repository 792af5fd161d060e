"""Incident notifications and their delivery. In the relay's role."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from shared.db import Connection


@dataclass(frozen=True, slots=True)
class Notice:
    """A notification to post; `attempts` includes the current one."""

    id: str
    event: str
    body: dict[str, Any]
    attempts: int


# Notifications of one incident are delivered in order: an earlier pending one blocks the later
# ones. A claimed one is due again after the lease, in case its sender dies.
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
    """Claim the next due notification for `lease_s` seconds; None if there is none."""
    row = conn.execute(CLAIM_NEXT, {"lease_s": lease_s}).fetchone()
    return None if row is None else Notice(*row)


MARK_SENT: Final = """
    UPDATE "IncidentNotice" SET "sentAt" = now(), "nextAt" = 'infinity', "error" = NULL
    WHERE "id" = %(id)s
"""


def mark_sent(conn: Connection, notice_id: str) -> None:
    """Record that a notification was delivered."""
    conn.execute(MARK_SENT, {"id": notice_id})


# An undeliverable notification is abandoned in the end, so that later ones are sent.
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
    """Record a failed delivery and the time of its retry.

    Args:
        conn: A connection in the relay's role.
        notice_id: The notification.
        error: One sentence.
        wait_s: Seconds until the next attempt.
        give_up_s: Age in seconds beyond which it is abandoned.

    Returns:
        Whether it was abandoned.
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
    """Delete old notifications: delivered, abandoned, and those without a webhook.

    Returns:
        How many.
    """
    return conn.execute(PRUNE, {"kept_s": kept_s, "unsent_s": unsent_s}).rowcount


@dataclass(frozen=True, slots=True)
class NoticeRow:
    """A notification in a list."""

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
    """Return the notifications of an incident, oldest first; `next_at` is None if done."""
    values = {"incident_id": incident_id, "limit": limit}
    return [NoticeRow(*row) for row in conn.execute(SELECT_NOTICES, values)]
