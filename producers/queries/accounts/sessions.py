"""Sessions of people, in the owner's role: one is looked up before its tenant is known.

A row of the platform's is read and never written: what we note of it is in "SessionState".
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from shared.db import Connection
from shared.ids import TenantId, UserId


@dataclass(frozen=True, slots=True)
class HeldSession:
    """A session as a request presents it, where it was last seen, and whether to note it again."""

    id: str
    token: str = field(repr=False)
    user_id: UserId
    email: str
    role: str
    tenant_id: TenantId | None
    state: str
    address: str | None
    agent: str | None
    is_due: bool


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as lists show it; `state` is live, idle, expired or revoked."""

    id: str
    user: str
    tenant: str | None
    state: str
    address: str | None
    agent: str | None
    created_at: datetime
    seen_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class NewSession:
    """What is stored of a new session of ours: a hash of its token."""

    user_id: UserId
    hash: str = field(repr=False)
    address: str | None
    agent: str | None
    lasts_s: float


# The platform ends its own sessions: ours alone expire by not being used.
SELECT_HELD_SESSION: Final = """
    SELECT s."id", s."token", s."userId" AS "user_id", u."email", u."role"::text AS "role",
           u."tenantId" AS "tenant_id",
           CASE WHEN t."revokedAt" IS NOT NULL THEN 'revoked'
                WHEN s."expiresAt" <= now() AT TIME ZONE 'UTC' THEN 'expired'
                WHEN t."isOurs" AND t."seenAt" <= now() - make_interval(secs => %(idle_s)s)
                THEN 'idle' ELSE 'live' END AS "state",
           coalesce(t."address", s."ipAddress") AS "address",
           coalesce(t."agent", s."userAgent") AS "agent",
           coalesce(t."seenAt" < now() - make_interval(secs => least(60, %(idle_s)s / 10)), true)
               AS "is_due"
    FROM "Session" s JOIN "User" u ON u."id" = s."userId"
    LEFT JOIN "SessionState" t ON t."sessionId" = s."id"
    WHERE s."token" = ANY(%(hashes)s) LIMIT 1
"""


def select_held_session(
    conn: Connection, hashes: Sequence[str], *, idle_s: float
) -> HeldSession | None:
    """The session that is stored under one of these hashes."""
    values = {"hashes": list(hashes), "idle_s": idle_s}
    row = conn.execute(SELECT_HELD_SESSION, values).fetchone()
    return None if row is None else HeldSession(*row)


@dataclass(frozen=True, slots=True)
class LiveSession:
    """A session that has not ended; one that is used by a stream is not idle."""

    id: str
    role: str
    tenant_id: TenantId | None

    @property
    def acts_for(self) -> TenantId | None:
        """The tenant that it acts for; None for all."""
        return None if self.role == "SUPER_ADMIN" else self.tenant_id


SELECT_LIVE: Final = """
    SELECT s."id", u."role"::text AS "role", u."tenantId" AS "tenant_id"
    FROM "Session" s JOIN "User" u ON u."id" = s."userId"
    LEFT JOIN "SessionState" t ON t."sessionId" = s."id"
    WHERE s."id" = ANY(%(ids)s) AND t."revokedAt" IS NULL
      AND s."expiresAt" > now() AT TIME ZONE 'UTC'
      AND (u."tenantId" IS NOT NULL OR u."role" = 'SUPER_ADMIN')
"""


def select_live(conn: Connection, ids: Sequence[str]) -> list[LiveSession]:
    """Those of the sessions that have not ended and may act for a tenant, or for all."""
    return [LiveSession(*row) for row in conn.execute(SELECT_LIVE, {"ids": list(ids)})]


NOTE_SEEN: Final = """
    INSERT INTO "SessionState" ("sessionId", "address", "agent")
    VALUES (%(id)s, %(address)s::text, %(agent)s::text)
    ON CONFLICT ("sessionId") DO UPDATE SET "seenAt" = now(), "address" = EXCLUDED."address",
        "agent" = EXCLUDED."agent"
"""


def note_seen(conn: Connection, session_id: str, address: str | None, agent: str | None) -> None:
    """Note that a session is in use, and from where."""
    conn.execute(NOTE_SEEN, {"id": session_id, "address": address, "agent": agent})


INSERT_SESSION: Final = """
    INSERT INTO "Session" ("userId", "token", "ipAddress", "userAgent", "expiresAt")
    VALUES (%(user_id)s, %(hash)s, %(address)s::text, %(agent)s::text,
            (now() AT TIME ZONE 'UTC') + make_interval(secs => %(lasts_s)s::double precision))
    RETURNING "id"
"""

INSERT_STATE: Final = """
    INSERT INTO "SessionState" ("sessionId", "isOurs", "address", "agent")
    VALUES (%(id)s, true, %(address)s::text, %(agent)s::text)
"""


def insert_session(conn: Connection, new: NewSession) -> str:
    """Store a session of ours. Returns its id."""
    values: dict[str, object] = {
        "user_id": new.user_id,
        "hash": new.hash,
        "address": new.address,
        "agent": new.agent,
        "lasts_s": new.lasts_s,
    }
    row = conn.execute(INSERT_SESSION, values).fetchone()
    assert row is not None, "an insert returns its row"
    values["id"] = str(row[0])
    conn.execute(INSERT_STATE, values)
    return str(row[0])


SELECT_SESSIONS: Final = """
    SELECT s."id", u."email" AS "user", t."slug" AS "tenant",
           CASE WHEN a."revokedAt" IS NOT NULL THEN 'revoked'
                WHEN s."expiresAt" <= now() AT TIME ZONE 'UTC' THEN 'expired'
                WHEN a."isOurs" AND a."seenAt" <= now() - make_interval(secs => %(idle_s)s)
                THEN 'idle' ELSE 'live' END AS "state",
           coalesce(a."address", s."ipAddress") AS "address",
           coalesce(a."agent", s."userAgent") AS "agent",
           s."createdAt" AT TIME ZONE 'UTC' AS "created_at",
           coalesce(a."seenAt", s."createdAt" AT TIME ZONE 'UTC') AS "seen_at",
           s."expiresAt" AT TIME ZONE 'UTC' AS "expires_at"
    FROM "Session" s JOIN "User" u ON u."id" = s."userId"
    LEFT JOIN "Tenant" t ON t."id" = u."tenantId"
    LEFT JOIN "SessionState" a ON a."sessionId" = s."id"
    WHERE (%(tenant_id)s::text IS NULL
           OR u."tenantId" = %(tenant_id)s AND u."role" <> 'SUPER_ADMIN')
      AND (%(user_id)s::text IS NULL OR s."userId" = %(user_id)s)
      AND (%(id)s::text IS NULL OR s."id" = %(id)s)
      AND (%(before)s::timestamptz IS NULL
           OR (s."createdAt", s."id") < (%(before)s AT TIME ZONE 'UTC', %(before_id)s::text))
    ORDER BY s."createdAt" DESC, s."id" DESC LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class SessionFilters:
    """Whose sessions; None is everybody's."""

    tenant_id: TenantId | None
    user_id: UserId | None = None
    id: str | None = None


def select_sessions(
    conn: Connection,
    wanted: SessionFilters,
    *,
    idle_s: float,
    before: tuple[datetime, str] | None = None,
    limit: int,
) -> list[SessionRow]:
    """Sessions, newest first."""
    at, before_id = before or (None, None)
    values = {
        "tenant_id": wanted.tenant_id,
        "user_id": wanted.user_id,
        "id": wanted.id,
        "idle_s": idle_s,
        "before": at,
        "before_id": before_id,
        "limit": limit,
    }
    return [SessionRow(*row) for row in conn.execute(SELECT_SESSIONS, values)]


@dataclass(frozen=True, slots=True)
class EndedSession:
    """A session that was to be revoked, and whether somebody else had done it meanwhile."""

    id: str
    tenant_id: TenantId | None
    is_new: bool


# In the order of ids, so that two who revoke the same ones do not wait for each other in a circle.
REVOKE_SESSIONS: Final = """
    WITH live AS (
        SELECT s."id", u."tenantId" FROM "Session" s JOIN "User" u ON u."id" = s."userId"
        WHERE (%(tenant_id)s::text IS NULL
               OR u."tenantId" = %(tenant_id)s AND u."role" <> 'SUPER_ADMIN')
          AND (%(user_id)s::text IS NULL OR s."userId" = %(user_id)s)
          AND (%(id)s::text IS NULL OR s."id" = %(id)s)
          AND s."expiresAt" > now() AT TIME ZONE 'UTC'
          AND NOT EXISTS (SELECT FROM "SessionState" t
                          WHERE t."sessionId" = s."id" AND t."revokedAt" IS NOT NULL)
        ORDER BY s."id" LIMIT %(limit)s
    ), revoked AS (
        INSERT INTO "SessionState" ("sessionId", "revokedBy", "revokedAt")
        SELECT l."id", %(who)s, now() FROM live l ORDER BY l."id"
        ON CONFLICT ("sessionId") DO UPDATE SET "revokedBy" = EXCLUDED."revokedBy",
            "revokedAt" = EXCLUDED."revokedAt"
        WHERE "SessionState"."revokedAt" IS NULL
        RETURNING "sessionId"
    )
    SELECT l."id", l."tenantId" AS "tenant_id", r."sessionId" IS NOT NULL AS "is_new"
    FROM live l LEFT JOIN revoked r ON r."sessionId" = l."id"
"""


def revoke_sessions(
    conn: Connection, wanted: SessionFilters, who: str, *, limit: int
) -> list[EndedSession]:
    """Revoke sessions that are neither expired nor revoked; fewer than `limit` are the last."""
    values = {
        "tenant_id": wanted.tenant_id,
        "user_id": wanted.user_id,
        "id": wanted.id,
        "who": who,
        "limit": limit,
    }
    return [EndedSession(*row) for row in conn.execute(REVOKE_SESSIONS, values)]


DELETE_ENDED: Final = """
    DELETE FROM "Session" WHERE "id" IN (
        SELECT t."sessionId" FROM "SessionState" t JOIN "Session" s ON s."id" = t."sessionId"
        WHERE t."isOurs" AND (s."expiresAt" < (now() AT TIME ZONE 'UTC') - interval '1 day'
                              OR t."revokedAt" < now() - interval '1 day')
        LIMIT %(limit)s)
"""


def delete_ended(conn: Connection, *, limit: int) -> int:
    """Delete sessions of ours that ended a day ago. Returns how many."""
    return conn.execute(DELETE_ENDED, {"limit": limit}).rowcount
