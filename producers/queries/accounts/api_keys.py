"""API keys, in the owner's role: a key is looked up before its tenant is known."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from shared.db import Connection
from shared.ids import TenantId, UserId


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key as a request presents it; `tenant_id` is None for a key of all tenants."""

    id: str
    hash: str = field(repr=False)
    prefix: str
    user_id: UserId
    email: str
    role: str
    tenant_id: TenantId | None
    owner_tenant_id: TenantId | None
    scopes: list[str]
    expired: bool
    revoked: bool

    @property
    def acts_for(self) -> TenantId | None:
        """The tenant that it acts for; None for all."""
        return self.tenant_id or (None if self.role == "SUPER_ADMIN" else self.owner_tenant_id)


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key as lists show it; `state` is live, expired or revoked."""

    id: str
    prefix: str
    name: str
    owner: str
    tenant: str | None
    scopes: list[str]
    state: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewKeyRow:
    """What is stored of a new key."""

    prefix: str
    hash: str = field(repr=False)
    name: str
    user_id: UserId
    tenant_id: TenantId | None
    scopes: Sequence[str]
    expires_s: float | None


SELECT_HELD: Final = """
    SELECT k."id", k."keyHash" AS "hash", k."prefix", k."userId" AS "user_id", u."email",
           u."role"::text AS "role", k."tenantId" AS "tenant_id",
           u."tenantId" AS "owner_tenant_id", coalesce(k."scopes", '{}') AS "scopes",
           coalesce(k."expiresAt" <= now() AT TIME ZONE 'UTC', false) AS "expired",
           r."keyId" IS NOT NULL AS "revoked"
    FROM "ApiKey" k JOIN "User" u ON u."id" = k."userId"
    LEFT JOIN "RevokedKey" r ON r."keyId" = k."id"
    WHERE k."keyHash" = ANY(%(hashes)s) LIMIT 1
"""


def select_held(conn: Connection, hashes: Sequence[str]) -> HeldKey | None:
    """The key that is stored under one of these hashes."""
    row = conn.execute(SELECT_HELD, {"hashes": list(hashes)}).fetchone()
    return None if row is None else HeldKey(*row)


SELECT_HELD_BY_IDS: Final = """
    SELECT k."id", k."keyHash" AS "hash", k."prefix", k."userId" AS "user_id", u."email",
           u."role"::text AS "role", k."tenantId" AS "tenant_id",
           u."tenantId" AS "owner_tenant_id", coalesce(k."scopes", '{}') AS "scopes",
           coalesce(k."expiresAt" <= now() AT TIME ZONE 'UTC', false) AS "expired",
           r."keyId" IS NOT NULL AS "revoked"
    FROM "ApiKey" k JOIN "User" u ON u."id" = k."userId"
    LEFT JOIN "RevokedKey" r ON r."keyId" = k."id"
    WHERE k."id" = ANY(%(ids)s)
"""


def select_held_by_ids(conn: Connection, ids: Sequence[str]) -> list[HeldKey]:
    """These keys, as far as they are stored."""
    return [HeldKey(*row) for row in conn.execute(SELECT_HELD_BY_IDS, {"ids": list(ids)})]


INSERT_KEY: Final = """
    INSERT INTO "ApiKey" ("userId", "tenantId", "name", "keyHash", "prefix", "scopes", "expiresAt")
    VALUES (%(user_id)s, %(tenant_id)s::text, %(name)s, %(hash)s, %(prefix)s, %(scopes)s::text[],
            (now() AT TIME ZONE 'UTC') + make_interval(secs => %(expires_s)s::double precision))
    RETURNING "id"
"""


def insert_key(conn: Connection, key: NewKeyRow) -> str:
    """Store a key. Returns its id."""
    values = {
        "user_id": key.user_id,
        "tenant_id": key.tenant_id,
        "name": key.name,
        "hash": key.hash,
        "prefix": key.prefix,
        "scopes": list(key.scopes),
        "expires_s": key.expires_s,
    }
    row = conn.execute(INSERT_KEY, values).fetchone()
    assert row is not None, "an insert returns its row"
    return str(row[0])


SELECT_KEYS: Final = """
    SELECT k."id", k."prefix", k."name", u."email" AS "owner", t."slug" AS "tenant",
           coalesce(k."scopes", '{}') AS "scopes",
           CASE WHEN r."keyId" IS NOT NULL THEN 'revoked'
                WHEN k."expiresAt" <= now() AT TIME ZONE 'UTC' THEN 'expired'
                ELSE 'live' END AS "state",
           k."createdAt" AT TIME ZONE 'UTC' AS "created_at",
           k."expiresAt" AT TIME ZONE 'UTC' AS "expires_at",
           k."lastUsedAt" AT TIME ZONE 'UTC' AS "last_used_at"
    FROM "ApiKey" k JOIN "User" u ON u."id" = k."userId"
    LEFT JOIN "Tenant" t ON t."id" = k."tenantId"
    LEFT JOIN "RevokedKey" r ON r."keyId" = k."id"
    WHERE (%(tenant_id)s::text IS NULL OR k."tenantId" = %(tenant_id)s)
      AND (%(name)s::text IS NULL OR k."id" = %(name)s OR k."prefix" = %(name)s)
      AND (%(before)s::timestamptz IS NULL
           OR (k."createdAt", k."id") < (%(before)s AT TIME ZONE 'UTC', %(before_id)s::text))
    ORDER BY k."createdAt" DESC, k."id" DESC LIMIT %(limit)s
"""


def select_keys(
    conn: Connection,
    tenant_id: TenantId | None,
    *,
    name: str | None = None,
    before: tuple[datetime, str] | None = None,
    limit: int,
) -> list[KeyRow]:
    """Keys, newest first, of one tenant or of all; by id or prefix with `name`."""
    at, before_id = before or (None, None)
    values: dict[str, object] = {"tenant_id": tenant_id, "name": name, "limit": limit}
    values |= {"before": at, "before_id": before_id}
    return [KeyRow(*row) for row in conn.execute(SELECT_KEYS, values)]


@dataclass(frozen=True, slots=True)
class LockedKey:
    """A key that nobody else rotates, revokes or limits until this transaction ends."""

    id: str
    tenant_id: TenantId | None


# It is locked before its state is read: what is read after the wait is what the other one has left.
LOCK_KEY: Final = """
    SELECT k."id", k."tenantId" AS "tenant_id" FROM "ApiKey" k
    WHERE (%(tenant_id)s::text IS NULL OR k."tenantId" = %(tenant_id)s)
      AND (k."id" = %(name)s OR k."prefix" = %(name)s)
    ORDER BY k."createdAt" DESC, k."id" DESC LIMIT 1
    FOR NO KEY UPDATE
"""


def lock_key(conn: Connection, tenant_id: TenantId | None, name: str) -> LockedKey | None:
    """Lock a key, by id or prefix, of one tenant or of any."""
    row = conn.execute(LOCK_KEY, {"tenant_id": tenant_id, "name": name}).fetchone()
    return None if row is None else LockedKey(*row)


SELECT_LIVE_NAMESAKES: Final = """
    SELECT count(*) FROM "ApiKey" k
    WHERE k."userId" = (SELECT o."userId" FROM "ApiKey" o WHERE o."id" = %(id)s)
      AND k."name" = (SELECT o."name" FROM "ApiKey" o WHERE o."id" = %(id)s)
      AND NOT coalesce(k."expiresAt" <= now() AT TIME ZONE 'UTC', false)
      AND NOT EXISTS (SELECT FROM "RevokedKey" r WHERE r."keyId" = k."id")
"""


def count_live_namesakes(conn: Connection, key_id: str) -> int:
    """Count the live keys of the same owner and name, itself among them."""
    row = conn.execute(SELECT_LIVE_NAMESAKES, {"id": key_id}).fetchone()
    assert row is not None, "an aggregate yields a row"
    return int(row[0])


INSERT_SUCCESSOR: Final = """
    INSERT INTO "ApiKey" ("userId", "tenantId", "name", "keyHash", "prefix", "scopes", "expiresAt")
    SELECT k."userId", k."tenantId", k."name", %(hash)s, %(prefix)s, k."scopes",
           (now() AT TIME ZONE 'UTC') + (k."expiresAt" - k."createdAt")
    FROM "ApiKey" k WHERE k."id" = %(id)s
    RETURNING "id"
"""


def insert_successor(conn: Connection, key_id: str, *, prefix: str, key_hash: str) -> str:
    """Store a key with owner, name, scopes and lifetime of another one. Returns its id."""
    values = {"id": key_id, "hash": key_hash, "prefix": prefix}
    row = conn.execute(INSERT_SUCCESSOR, values).fetchone()
    assert row is not None, "the key was read in this transaction"
    return str(row[0])


UPDATE_EXPIRY: Final = """
    UPDATE "ApiKey" SET "expiresAt" = least("expiresAt",
        (now() AT TIME ZONE 'UTC') + make_interval(secs => %(overlap_s)s::double precision))
    WHERE "id" = %(id)s
"""


def end_after(conn: Connection, key_id: str, overlap_s: float) -> None:
    """Let a key expire in so many seconds, if it does not expire before."""
    conn.execute(UPDATE_EXPIRY, {"id": key_id, "overlap_s": overlap_s})


INSERT_REVOCATION: Final = """
    INSERT INTO "RevokedKey" ("keyId", "tenantId", "revokedBy")
    SELECT k."id", k."tenantId", %(who)s FROM "ApiKey" k WHERE k."id" = %(id)s
    ON CONFLICT ("keyId") DO NOTHING
"""


def insert_revocation(conn: Connection, key_id: str, who: str) -> bool:
    """Revoke a key. Returns whether it was not revoked before."""
    return conn.execute(INSERT_REVOCATION, {"id": key_id, "who": who}).rowcount == 1


INSERT_REVOCATIONS: Final = """
    INSERT INTO "RevokedKey" ("keyId", "tenantId", "revokedBy")
    SELECT k."id", k."tenantId", %(who)s FROM "ApiKey" k WHERE k."tenantId" = %(tenant_id)s
    ON CONFLICT ("keyId") DO NOTHING
"""


def insert_revocations(conn: Connection, tenant_id: TenantId, who: str) -> int:
    """Revoke all keys of a tenant. Returns how many were not revoked before."""
    return conn.execute(INSERT_REVOCATIONS, {"tenant_id": tenant_id, "who": who}).rowcount


UPDATE_LAST_USED: Final = """
    UPDATE "ApiKey" SET "lastUsedAt" = now() AT TIME ZONE 'UTC'
    WHERE "id" = ANY(%(ids)s)
      AND coalesce("lastUsedAt" < (now() AT TIME ZONE 'UTC') - interval '10 seconds', true)
"""


def update_last_used(conn: Connection, key_ids: Sequence[str]) -> None:
    """Note that keys are in use, to about ten seconds."""
    conn.execute(UPDATE_LAST_USED, {"ids": sorted(key_ids)})
