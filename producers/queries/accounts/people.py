"""People as they log in, in the owner's role: who they are is known before their tenant is."""

from dataclasses import dataclass, field
from typing import Final

from shared.db import Connection
from shared.ids import TenantId, UserId


@dataclass(frozen=True, slots=True)
class LoginUser:
    """A person who wants to log in; `password_hash` is the platform's."""

    id: UserId
    email: str
    password_hash: str = field(repr=False)
    role: str
    tenant_id: TenantId | None


# Two that differ by their case alone (the platform may have both) are nobody's: a log-in must not
# choose between two people.
SELECT_LOGIN_USER: Final = """
    SELECT u."id", u."email", u."passwordHash" AS "password_hash", u."role"::text AS "role",
           u."tenantId" AS "tenant_id"
    FROM "User" u WHERE lower(u."email") = lower(%(email)s)
    ORDER BY u."id" LIMIT 2
"""


def select_login_user(conn: Connection, email: str) -> LoginUser | None:
    """The one person with this e-mail address, whatever its case; None if there are two."""
    rows = conn.execute(SELECT_LOGIN_USER, {"email": email}).fetchall()
    return LoginUser(*rows[0]) if len(rows) == 1 else None


SELECT_LINKED_USER: Final = """
    SELECT u."id", u."email", u."passwordHash" AS "password_hash", u."role"::text AS "role",
           u."tenantId" AS "tenant_id"
    FROM "User" u WHERE u."id" = %(id)s
"""


def select_linked_user(conn: Connection, user_id: UserId) -> LoginUser:
    """A person who is known to exist."""
    row = conn.execute(SELECT_LINKED_USER, {"id": user_id}).fetchone()
    assert row is not None, "a link goes with its user"
    return LoginUser(*row)


SELECT_ANY_HASH: Final = """
    SELECT u."passwordHash" FROM "User" u WHERE u."passwordHash" LIKE '$%%'
    ORDER BY u."createdAt" DESC LIMIT 1
"""


def select_any_hash(conn: Connection) -> str | None:
    """The newest hash of a password: how much work the platform asks for."""
    row = conn.execute(SELECT_ANY_HASH).fetchone()
    return None if row is None else str(row[0])


SELECT_OPERATOR: Final = """
    SELECT u."id", u."email", u."passwordHash" AS "password_hash", u."role"::text AS "role",
           u."tenantId" AS "tenant_id"
    FROM "User" u WHERE u."role" = 'SUPER_ADMIN' ORDER BY u."createdAt", u."id" LIMIT 1
"""


def select_operator(conn: Connection) -> LoginUser | None:
    """The first of those who may act for all tenants."""
    row = conn.execute(SELECT_OPERATOR).fetchone()
    return None if row is None else LoginUser(*row)
