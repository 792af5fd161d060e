"""Holds: what operators have paused. In the relay's role."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.db import Connection
from shared.ids import TenantId


@dataclass(frozen=True, slots=True)
class Hold:
    """A pause of everything that is all of what is named here; None is anything."""

    queue: str | None
    tenant_id: TenantId | None
    job: str | None


@dataclass(frozen=True, slots=True)
class HoldRow:
    """A pause as people look at it."""

    queue: str | None
    tenant: str | None
    job: str | None
    held_by: str
    held_at: datetime


SELECT_HOLDS: Final = """
    SELECT "queue", "tenantId", "job" FROM "JobHold"
"""

LIST_HOLDS: Final = """
    SELECT h."queue", t."slug" AS "tenant", h."job", h."heldBy", h."heldAt"
    FROM "JobHold" h LEFT JOIN "Tenant" t ON t."id" = h."tenantId" ORDER BY h."heldAt", h."id"
"""


def select_holds(conn: Connection) -> list[Hold]:
    """All that is paused."""
    return [Hold(*row) for row in conn.execute(SELECT_HOLDS)]


def list_holds(conn: Connection) -> list[HoldRow]:
    """All that is paused, by whom and since when; oldest first."""
    return [HoldRow(*row) for row in conn.execute(LIST_HOLDS)]


PUT: Final = """
    INSERT INTO "JobHold" ("queue", "tenantId", "job", "heldBy")
    VALUES (%(queue)s, %(tenant_id)s, %(job)s, %(held_by)s) ON CONFLICT DO NOTHING
"""

# What is not held any more may be due: the relay is woken up.
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


def put(conn: Connection, hold: Hold, *, held_by: str) -> bool:
    """Pause. Returns whether it was not paused before."""
    return conn.execute(PUT, _values(hold) | {"held_by": held_by}).rowcount == 1


def delete(conn: Connection, hold: Hold) -> bool:
    """Undo exactly this pause. Returns whether there was one."""
    row = conn.execute(DELETE, _values(hold)).fetchone()
    assert row is not None, "an aggregate yields a row"
    gone, _ = row
    return bool(gone)


def _values(hold: Hold) -> dict[str, object]:
    return {"queue": hold.queue, "tenant_id": hold.tenant_id, "job": hold.job}


# Wake-ups of held jobs that no worker has claimed go back to the outbox, in their old place.
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
    """Take held jobs back whose wake-ups nobody has claimed. Returns how many."""
    return conn.execute(WITHDRAW).rowcount


COUNTED_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of some jobs; `ready` counts to `COUNTED_MAX` and not further."""

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
    ), flying AS (
        SELECT j."state" FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId"
        WHERE (%(queue)s::text IS NULL OR f."queue" = %(queue)s)
          AND (%(tenant_id)s::text IS NULL OR f."tenantId" = %(tenant_id)s)
          AND (%(job)s::text IS NULL OR f."job" = %(job)s)
    )
    SELECT (SELECT count(*) FROM waiting WHERE "due")
               + (SELECT count(*) FROM flying WHERE "state" = 'PENDING') AS "ready",
           (SELECT count(*) FROM waiting WHERE NOT "due") AS "delayed",
           (SELECT count(*) FROM flying WHERE "state" = 'RUNNING') AS "running"
"""


def count_left(conn: Connection, scope: Hold) -> Left:
    """Count the jobs that a hold with this scope would hold, and those of them that run."""
    row = conn.execute(COUNT_LEFT, _values(scope) | {"limit": COUNTED_MAX}).fetchone()
    assert row is not None, "a select without a table yields a row"
    return Left(*row)
