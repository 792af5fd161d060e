"""Tenants and users: in the owner's role, except for the look-up by slug."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.db import Connection
from shared.ids import TenantId, UserId


@dataclass(frozen=True, slots=True)
class TenantRow:
    """A customer."""

    id: TenantId
    slug: str
    name: str
    tier: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class UserRow:
    """A person; `tenant` is a slug, None for the platform's own staff."""

    id: UserId
    email: str
    name: str | None
    role: str
    tenant: str | None
    created_at: datetime


# In the relay's role, which knows all tenants by id, slug and tier.
SELECT_TENANT_ID: Final = """
    SELECT "id" FROM "Tenant" WHERE "slug" = %(slug)s
"""


def select_tenant_id(conn: Connection, slug: str) -> TenantId | None:
    """The id of a tenant, in the relay's role."""
    row = conn.execute(SELECT_TENANT_ID, {"slug": slug}).fetchone()
    return None if row is None else TenantId(row[0])


SELECT_SLUG: Final = """
    SELECT "slug" FROM "Tenant" WHERE "id" = %(id)s
"""


SELECT_CURRENT_TENANT: Final = """
    SELECT current_setting('app.tenant_id')
"""


def select_current_tenant(conn: Connection) -> TenantId:
    """The tenant of this transaction."""
    row = conn.execute(SELECT_CURRENT_TENANT).fetchone()
    assert row is not None, "a setting yields a row"
    return TenantId(row[0])


def select_slug(conn: Connection, tenant_id: TenantId) -> str | None:
    """The slug of a tenant, in the relay's role."""
    row = conn.execute(SELECT_SLUG, {"id": tenant_id}).fetchone()
    return None if row is None else str(row[0])


# In the tenant's own role. E-mails match whatever their case, as signing in does.
SELECT_USER_ID: Final = """
    SELECT "id" FROM "User" WHERE lower("email") = lower(%(name)s) OR "id" = %(name)s
    ORDER BY "id" = %(name)s DESC, "email" = %(name)s DESC, "createdAt" LIMIT 1
"""


def select_user_id(conn: Connection, name: str) -> UserId | None:
    """The id of one of the tenant's people, by e-mail or by the id itself."""
    row = conn.execute(SELECT_USER_ID, {"name": name}).fetchone()
    return None if row is None else UserId(row[0])


INSERT_TENANT: Final = """
    INSERT INTO "Tenant" ("slug", "name", "tier")
    VALUES (%(slug)s, coalesce(%(name)s::text, %(slug)s),
            coalesce(%(tier)s::text, 'FREE')::"TenantTier")
    ON CONFLICT ("slug") DO NOTHING
"""

UPDATE_TENANT: Final = """
    UPDATE "Tenant" SET "name" = coalesce(%(name)s::text, "name"),
        "tier" = coalesce(%(tier)s::text, "tier"::text)::"TenantTier"
    WHERE "slug" = %(slug)s
      AND ("name", "tier"::text) <> (coalesce(%(name)s::text, "name"),
                                     coalesce(%(tier)s::text, "tier"::text))
"""

SELECT_TENANTS: Final = """
    SELECT "id", "slug", "name", "tier"::text,
           "createdAt" AT TIME ZONE 'UTC' AS "createdAt" FROM "Tenant"
    WHERE (%(slug)s::text IS NULL OR "slug" = %(slug)s) AND "slug" > %(after)s
    ORDER BY "slug" LIMIT %(limit)s
"""


def put_tenant(
    conn: Connection, slug: str, *, name: str | None, tier: str | None
) -> tuple[TenantRow, bool]:
    """Create a tenant, or set name and tier, where not None, of the one with this slug.

    Returns:
        The tenant, and whether it is new.
    """
    values = {"slug": slug, "name": name, "tier": tier}
    created = conn.execute(INSERT_TENANT, values).rowcount == 1
    if not created:
        conn.execute(UPDATE_TENANT, values)
    return select_tenants(conn, slug)[0], created


def select_tenants(
    conn: Connection, slug: str | None = None, *, after: str = "", limit: int = 1
) -> list[TenantRow]:
    """Tenants by slug, those after one; or the one with this slug."""
    values = {"slug": slug, "after": after, "limit": limit}
    return [TenantRow(*row) for row in conn.execute(SELECT_TENANTS, values)]


# Rows of a person, a document or a workflow follow it by trigger.
ADOPT_USERS: Final = """
    UPDATE "User" SET "tenantId" = %(tenant_id)s WHERE "tenantId" IS NULL
"""

ADOPT_DOCUMENTS: Final = """
    UPDATE "Document" SET "tenantId" = %(tenant_id)s WHERE "tenantId" IS NULL
"""

ADOPT_WORKFLOWS: Final = """
    UPDATE "Workflow" SET "tenantId" = %(tenant_id)s WHERE "tenantId" IS NULL
"""


def adopt(conn: Connection, tenant_id: TenantId) -> dict[str, int]:
    """Assign the platform's rows without a tenant to one.

    Returns:
        How many people, documents and workflows now are the tenant's.
    """
    values = {"tenant_id": tenant_id}
    return {
        "users": conn.execute(ADOPT_USERS, values).rowcount,
        "documents": conn.execute(ADOPT_DOCUMENTS, values).rowcount,
        "workflows": conn.execute(ADOPT_WORKFLOWS, values).rowcount,
    }


COUNT_USERS: Final = """
    SELECT count(*) FROM "User" WHERE "tenantId" = %(tenant_id)s
"""


def count_users(conn: Connection, tenant_id: TenantId) -> int:
    """Count a tenant's users."""
    row = conn.execute(COUNT_USERS, {"tenant_id": tenant_id}).fetchone()
    assert row is not None, "an aggregate yields a row"
    return int(row[0])


# Nobody makes a user or a key of it meanwhile.
LOCK_TENANT: Final = """
    SELECT FROM "Tenant" WHERE "id" = %(tenant_id)s FOR UPDATE
"""


def lock_tenant(conn: Connection, tenant_id: TenantId) -> None:
    """Lock a tenant that is to be deleted."""
    conn.execute(LOCK_TENANT, {"tenant_id": tenant_id})


DELETE_DOCUMENTS: Final = """
    DELETE FROM "Document" WHERE "tenantId" = %(tenant_id)s
"""

DELETE_WORKFLOWS: Final = """
    DELETE FROM "Workflow" WHERE "tenantId" = %(tenant_id)s
"""

# The ledger follows by trigger. People are not deleted on the way: that is a request of theirs.
DELETE_TENANT: Final = """
    DELETE FROM "Tenant" t WHERE t."id" = %(tenant_id)s
      AND NOT EXISTS (SELECT FROM "User" u WHERE u."tenantId" = t."id")
"""


def delete_tenant(conn: Connection, tenant_id: TenantId) -> bool:
    """Delete a tenant that has no people left, with its documents, workflows and jobs.

    Returns:
        Whether it is gone; when not, the caller rolls back.
    """
    values = {"tenant_id": tenant_id}
    conn.execute(DELETE_DOCUMENTS, values)
    conn.execute(DELETE_WORKFLOWS, values)
    return conn.execute(DELETE_TENANT, values).rowcount == 1


# '!' is the hash of no password: who is made here signs in once the platform has set one.
# An address is one person's whatever its case, as at the log-in; the platform's index tells only
# those apart that are written alike.
LOCK_EMAIL: Final = """
    SELECT pg_advisory_xact_lock(hashtextextended('email ' || lower(%(email)s), 0))
"""

INSERT_USER: Final = """
    INSERT INTO "User" ("email", "name", "passwordHash", "role", "tenantId")
    SELECT %(email)s, %(name)s::text, '!', %(role)s::text::"UserRole", %(tenant_id)s::text
    WHERE NOT EXISTS (SELECT FROM "User" u WHERE lower(u."email") = lower(%(email)s))
    ON CONFLICT ("email") DO NOTHING
"""

SELECT_USERS: Final = """
    SELECT u."id", u."email", u."name", u."role"::text, t."slug" AS "tenant",
           u."createdAt" AT TIME ZONE 'UTC' AS "createdAt"
    FROM "User" u LEFT JOIN "Tenant" t ON t."id" = u."tenantId"
    WHERE (%(email)s::text IS NULL OR lower(u."email") = lower(%(email)s))
      AND (%(tenant_id)s::text IS NULL OR u."tenantId" = %(tenant_id)s)
      AND (%(before)s::timestamptz IS NULL
           OR (u."createdAt", u."id") < (%(before)s AT TIME ZONE 'UTC', %(before_id)s::text))
    ORDER BY u."createdAt" DESC, u."id" DESC LIMIT %(limit)s
"""


_BY_EMAIL: Final = {"tenant_id": None, "before": None, "before_id": None, "limit": 1}


def insert_user(
    conn: Connection, email: str, *, name: str | None, role: str, tenant_id: TenantId | None
) -> tuple[UserRow, bool]:
    """Create a user, or find the one with this e-mail, of any tenant.

    Returns:
        The person, and whether they are new.
    """
    values = {"email": email, "name": name, "role": role, "tenant_id": tenant_id}
    conn.execute(LOCK_EMAIL, {"email": email})
    created = conn.execute(INSERT_USER, values).rowcount == 1
    row = conn.execute(SELECT_USERS, _BY_EMAIL | {"email": email}).fetchone()
    assert row is not None, "inserted now or there before"
    return UserRow(*row), created


SELECT_USER: Final = """
    SELECT u."id", u."email", u."name", u."role"::text, t."slug" AS "tenant",
           u."createdAt" AT TIME ZONE 'UTC' AS "createdAt"
    FROM "User" u LEFT JOIN "Tenant" t ON t."id" = u."tenantId" WHERE u."id" = %(id)s
"""


def select_user(conn: Connection, user_id: UserId) -> UserRow:
    """A person who is known to exist."""
    row = conn.execute(SELECT_USER, {"id": user_id}).fetchone()
    assert row is not None, "the caller has looked the person up"
    return UserRow(*row)


def select_users(
    conn: Connection,
    tenant_id: TenantId | None,
    *,
    before: tuple[datetime, str] | None = None,
    limit: int,
) -> list[UserRow]:
    """People, newest first, of one tenant or of all."""
    at, before_id = before or (None, None)
    values: dict[str, object] = {"email": None, "tenant_id": tenant_id, "limit": limit}
    values |= {"before": at, "before_id": before_id}
    return [UserRow(*row) for row in conn.execute(SELECT_USERS, values)]
