"""What is done to many jobs in the background, and how far it is. In the relay's role."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from shared.db import Connection
from shared.ids import JobId, TenantId


@dataclass(frozen=True, slots=True)
class NewBulkAction:
    """An action on all that a choice names; `words` are its filters as the audit log has them."""

    tenant_id: TenantId | None
    action: str
    choice: Mapping[str, Any]
    words: Mapping[str, Any]
    actor: str


@dataclass(frozen=True, slots=True)
class BulkActionRow:
    """An action in a list; `matched` were looked at so far, `done` of them were changed."""

    id: str
    tenant: str | None
    action: str
    state: str
    matched: int
    done: int
    actor: str
    error: str | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class RunningAction:
    """A locked action that goes on; `now` is the clock that it is due by."""

    id: str
    tenant_id: TenantId | None
    action: str
    choice: dict[str, Any]
    words: dict[str, Any]
    actor: str
    after: str
    watched: list[JobId]
    canary_until: datetime | None
    created_at: datetime
    now: datetime


INSERT_ACTION: Final = """
    INSERT INTO "BulkAction" ("tenantId", "action", "choice", "words", "actor")
    VALUES (%(tenant_id)s, %(action)s, %(choice)s::jsonb, %(words)s::jsonb, %(actor)s)
    RETURNING "id"
"""


def insert_action(conn: Connection, wanted: NewBulkAction) -> str:
    """Begin an action, which is due at once. Returns its id."""
    values = {
        "tenant_id": wanted.tenant_id,
        "action": wanted.action,
        "choice": json.dumps(dict(wanted.choice)),
        "words": json.dumps(dict(wanted.words)),
        "actor": wanted.actor,
    }
    row = conn.execute(INSERT_ACTION, values).fetchone()
    assert row is not None, "an insert returns its row"
    return str(row[0])


LOCK_BY_ID: Final = """
    SELECT b."id", b."tenantId", b."action", b."choice", b."words", b."actor", b."after",
           b."watched", b."canaryUntil", b."createdAt", clock_timestamp() AS "now"
    FROM "BulkAction" b WHERE b."id" = %(id)s AND b."state" = 'RUNNING' FOR UPDATE
"""

LOCK_DUE: Final = """
    SELECT b."id", b."tenantId", b."action", b."choice", b."words", b."actor", b."after",
           b."watched", b."canaryUntil", b."createdAt", clock_timestamp() AS "now"
    FROM "BulkAction" b WHERE b."state" = 'RUNNING' AND b."nextAt" <= now()
    ORDER BY b."nextAt" LIMIT 1 FOR UPDATE SKIP LOCKED
"""


def lock(conn: Connection, action_id: str) -> RunningAction | None:
    """Lock an action that goes on; None if it has ended."""
    row = conn.execute(LOCK_BY_ID, {"id": action_id}).fetchone()
    return None if row is None else RunningAction(*row)


def lock_due(conn: Connection) -> RunningAction | None:
    """Lock the action that has been due longest and that nobody else works at."""
    row = conn.execute(LOCK_DUE).fetchone()
    return None if row is None else RunningAction(*row)


# The time of the next step is by the clock of now, not of the transaction's beginning: the step
# itself has taken a while.
ADVANCE: Final = """
    UPDATE "BulkAction"
    SET "matched" = "matched" + %(matched)s, "done" = "done" + %(done)s, "after" = %(after)s,
        "watched" = %(watched)s::text[], "canaryUntil" = %(canary_until)s::timestamptz,
        "nextAt" = clock_timestamp() + make_interval(secs => %(wait_s)s::float8)
    WHERE "id" = %(id)s AND "state" = 'RUNNING'
"""


@dataclass(frozen=True, slots=True)
class ActionStep:
    """How far a step has brought an action, and how long it waits for the next one."""

    id: str
    matched: int
    done: int
    after: str
    watched: Sequence[JobId]
    canary_until: datetime | None
    wait_s: float


def advance(conn: Connection, step: ActionStep) -> None:
    """Note what a step has done, in its transaction."""
    conn.execute(
        ADVANCE,
        {
            "id": step.id,
            "matched": step.matched,
            "done": step.done,
            "after": step.after,
            "watched": list(step.watched),
            "canary_until": step.canary_until,
            "wait_s": step.wait_s,
        },
    )


END: Final = """
    UPDATE "BulkAction" SET "state" = %(state)s, "error" = %(error)s::text,
        "finishedAt" = clock_timestamp()
    WHERE "id" = %(id)s AND "state" = 'RUNNING'
"""


def end(conn: Connection, action_id: str, state: str, error: str | None = None) -> bool:
    """End an action. Returns whether it went on until now."""
    values = {"id": action_id, "state": state, "error": error}
    return conn.execute(END, values).rowcount == 1


SELECT_ACTIONS: Final = """
    SELECT b."id", t."slug" AS "tenant", b."action", b."state", b."matched", b."done", b."actor",
           b."error", b."createdAt", b."finishedAt"
    FROM "BulkAction" b LEFT JOIN "Tenant" t ON t."id" = b."tenantId"
    WHERE (%(id)s::text IS NULL OR b."id" = %(id)s)
      AND (%(tenant_id)s::text IS NULL OR b."tenantId" = %(tenant_id)s)
      AND b."action" LIKE %(kinds)s::text
    ORDER BY b."createdAt" DESC, b."id" DESC LIMIT %(limit)s
"""


def select_actions(
    conn: Connection, tenant_id: TenantId | None, *, of: str, limit: int
) -> list[BulkActionRow]:
    """Return the actions on one kind of thing, such as `dead`, newest first; None is any tenant."""
    values = {"id": None, "tenant_id": tenant_id, "kinds": f"{of}.%", "limit": limit}
    return [BulkActionRow(*row) for row in conn.execute(SELECT_ACTIONS, values)]


def select_action(
    conn: Connection, action_id: str, tenant_id: TenantId | None, *, of: str
) -> BulkActionRow | None:
    """Return an action on one kind of thing; None if the tenant has none of this id."""
    values = {"id": action_id, "tenant_id": tenant_id, "kinds": f"{of}.%", "limit": 1}
    row = conn.execute(SELECT_ACTIONS, values).fetchone()
    return None if row is None else BulkActionRow(*row)


DELETE_OLD: Final = """
    DELETE FROM "BulkAction" WHERE "id" IN (
        SELECT "id" FROM "BulkAction"
        WHERE "createdAt" < now() - make_interval(secs => %(kept_s)s::float8)
          AND "state" <> 'RUNNING'
        ORDER BY "createdAt" LIMIT %(limit)s)
"""


def delete_old(conn: Connection, *, kept_s: float, limit: int) -> int:
    """Delete actions that have ended and are older. Returns how many."""
    return conn.execute(DELETE_OLD, {"kept_s": kept_s, "limit": limit}).rowcount
