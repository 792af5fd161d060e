"""Publishers at the Redis door, and what each may publish. In the relay's role."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.db import Connection
from shared.ids import TenantId


@dataclass(frozen=True, slots=True)
class PublisherRow:
    """A publisher; None is every tenant, or every job that is open to publishers."""

    name: str
    tenant_ids: list[TenantId] | None
    tenants: list[str] | None
    jobs: list[str] | None
    set_by: str
    set_at: datetime


# The names of tenants in the order of their ids; one that was deleted is left out.
SELECT_PUBLISHERS: Final = """
    SELECT p."name", p."tenantIds" AS "tenant_ids",
           CASE WHEN p."tenantIds" IS NOT NULL THEN ARRAY(
               SELECT t."slug" FROM "Tenant" t WHERE t."id" = ANY(p."tenantIds") ORDER BY t."slug")
               END AS "tenants",
           p."jobs", p."setBy" AS "set_by", p."setAt" AS "set_at"
    FROM "Publisher" p
    WHERE %(name)s::text IS NULL OR p."name" = %(name)s
    ORDER BY p."name" LIMIT %(limit)s
"""


def select_publishers(
    conn: Connection, *, name: str | None = None, limit: int
) -> list[PublisherRow]:
    """Return publishers by name; with `name` that one alone."""
    values = {"name": name, "limit": limit}
    return [PublisherRow(*row) for row in conn.execute(SELECT_PUBLISHERS, values)]


SELECT_NAMES: Final = """
    SELECT p."name" FROM "Publisher" p ORDER BY p."name" LIMIT %(limit)s
"""


def select_names(conn: Connection, *, limit: int) -> list[str]:
    """Return the names of publishers."""
    return [row[0] for row in conn.execute(SELECT_NAMES, {"limit": limit})]


PUT: Final = """
    INSERT INTO "Publisher" ("name", "tenantIds", "jobs", "setBy")
    VALUES (%(name)s, %(tenant_ids)s::text[], %(jobs)s::text[], %(set_by)s)
    ON CONFLICT ("name") DO UPDATE
    SET "tenantIds" = excluded."tenantIds", "jobs" = excluded."jobs", "setBy" = excluded."setBy",
        "setAt" = now()
"""


def put(
    conn: Connection,
    name: str,
    *,
    tenant_ids: list[TenantId] | None,
    jobs: list[str] | None,
    set_by: str,
) -> None:
    """Create a publisher, or replace what it may publish."""
    values = {"name": name, "tenant_ids": tenant_ids, "jobs": jobs, "set_by": set_by}
    conn.execute(PUT, values)


REMOVE: Final = """
    DELETE FROM "Publisher" WHERE "name" = %(name)s
"""


def remove(conn: Connection, name: str) -> bool:
    """Remove a publisher. Returns whether it existed."""
    return conn.execute(REMOVE, {"name": name}).rowcount == 1
