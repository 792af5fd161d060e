"""Pauses set by operators. In the relay's role."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.db import Connection
from shared.ids import TenantId


@dataclass(frozen=True, slots=True)
class Pause:
    """The scope of a pause: jobs that match all fields; None matches any."""

    queue: str | None
    tenant_id: TenantId | None
    job: str | None


@dataclass(frozen=True, slots=True)
class PauseRow:
    """A pause in a list."""

    queue: str | None
    tenant: str | None
    job: str | None
    held_by: str
    held_at: datetime


SELECT_PAUSES: Final = """
    SELECT "queue", "tenantId", "job" FROM "JobHold"
"""

LIST_PAUSES: Final = """
    SELECT h."queue", t."slug" AS "tenant", h."job", h."heldBy", h."heldAt"
    FROM "JobHold" h LEFT JOIN "Tenant" t ON t."id" = h."tenantId"
    WHERE %(tenant_id)s::text IS NULL OR h."tenantId" = %(tenant_id)s
    ORDER BY h."heldAt", h."id"
"""


def select_pauses(conn: Connection) -> list[Pause]:
    """Return the scopes of all pauses."""
    return [Pause(*row) for row in conn.execute(SELECT_PAUSES)]


def list_pauses(conn: Connection, tenant_id: TenantId | None = None) -> list[PauseRow]:
    """Return a tenant's pauses, or all, with their author and time, oldest first."""
    return [PauseRow(*row) for row in conn.execute(LIST_PAUSES, {"tenant_id": tenant_id})]


PUT: Final = """
    INSERT INTO "JobHold" ("queue", "tenantId", "job", "heldBy")
    VALUES (%(queue)s, %(tenant_id)s, %(job)s, %(held_by)s) ON CONFLICT DO NOTHING
"""

# Resumed jobs may be due: the relay is woken up.
DELETE: Final = """
    WITH gone AS (
        DELETE FROM "JobHold"
        WHERE "queue" IS NOT DISTINCT FROM %(queue)s
          AND "tenantId" IS NOT DISTINCT FROM %(tenant_id)s
          AND "job" IS NOT DISTINCT FROM %(job)s
        RETURNING 1
    )
    SELECT count(*) AS "gone", pg_notify('ailydian_outbox', '') FROM gone
"""


def put(conn: Connection, pause: Pause, *, held_by: str) -> bool:
    """Add a pause. Returns False if it existed already."""
    return conn.execute(PUT, _values(pause) | {"held_by": held_by}).rowcount == 1


def delete(conn: Connection, pause: Pause) -> bool:
    """Delete exactly this pause. Returns whether it existed."""
    row = conn.execute(DELETE, _values(pause)).fetchone()
    assert row is not None, "an aggregate yields a row"
    gone, _ = row
    return bool(gone)


def _values(pause: Pause) -> dict[str, object]:
    return {"queue": pause.queue, "tenant_id": pause.tenant_id, "job": pause.job}


# Wake-ups of paused jobs that no worker has claimed go back to the outbox, in their old place.
WITHDRAW: Final = """
    WITH held AS (
        SELECT j."id" FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId"
        WHERE j."state" = 'PENDING' AND EXISTS (
            SELECT FROM "JobHold" h
            WHERE (h."queue" IS NULL OR h."queue" = f."queue")
              AND (h."tenantId" IS NULL OR h."tenantId" = f."tenantId")
              AND (h."job" IS NULL OR h."job" = f."job"))
        ORDER BY j."id" FOR UPDATE OF j SKIP LOCKED
    ), landed AS (
        DELETE FROM "JobFlight" f USING held WHERE f."jobId" = held."id" RETURNING f."jobId"
    )
    INSERT INTO "JobOutbox" ("queue", "tenantId", "job", "limitKey", "priority", "dueAt", "jobId",
                             "attempt", "cost")
    SELECT j."queue", j."tenantId", j."job", j."limitKey", j."priority", j."dueAt", j."id",
           j."attempt", j."cost"
    FROM landed l JOIN "Job" j ON j."id" = l."jobId"
"""


def withdraw(conn: Connection) -> int:
    """Take back unclaimed wake-ups of paused jobs. Returns how many."""
    return conn.execute(WITHDRAW).rowcount


COUNTED_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Left:
    """Unfinished jobs of a scope; `ready` is counted up to `COUNTED_MAX`."""

    ready: int
    delayed: int
    running: int


COUNT_LEFT: Final = """
    WITH waiting AS (
        SELECT o."dueAt" <= now() AS "due" FROM "JobOutbox" o
        WHERE (%(queue)s::text IS NULL OR o."queue" = %(queue)s)
          AND (%(tenant_id)s::text IS NULL OR o."tenantId" = %(tenant_id)s)
          AND (%(job)s::text IS NULL OR o."job" = %(job)s)
        LIMIT %(limit)s
    ), in_flight AS (
        SELECT j."state" FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId"
        WHERE (%(queue)s::text IS NULL OR f."queue" = %(queue)s)
          AND (%(tenant_id)s::text IS NULL OR f."tenantId" = %(tenant_id)s)
          AND (%(job)s::text IS NULL OR f."job" = %(job)s)
    )
    SELECT (SELECT count(*) FROM waiting WHERE "due")
               + (SELECT count(*) FROM in_flight WHERE "state" = 'PENDING') AS "ready",
           (SELECT count(*) FROM waiting WHERE NOT "due") AS "delayed",
           (SELECT count(*) FROM in_flight WHERE "state" = 'RUNNING') AS "running"
"""


def count_left(conn: Connection, scope: Pause) -> Left:
    """Count the unfinished jobs of a scope, and the running ones among them."""
    row = conn.execute(COUNT_LEFT, _values(scope) | {"limit": COUNTED_MAX}).fetchone()
    assert row is not None, "a select without a table yields a row"
    return Left(*row)
