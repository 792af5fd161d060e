"""The audit log: who did what to which thing. Our roles can only append."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from psycopg.types.json import Jsonb

from shared.db import Connection
from shared.ids import TenantId


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One act of a person or a program.

    Attributes:
        tenant_id: The tenant concerned; None for the system.
        actor: Who acted, such as `cli:root`.
        action: What was done, as `noun.verb`.
        resource: The kind of thing.
        resource_id: Which one.
        what: Details: counts, before and after; never secrets.
        ip_address: From where, where that is known; with `user_agent`, by what.
    """

    tenant_id: TenantId | None
    actor: str
    action: str
    resource: str
    resource_id: str | None
    what: Mapping[str, Any]
    ip_address: str | None = None
    user_agent: str | None = None


INSERT_ACTS: Final = """
    INSERT INTO "AuditLog" ("tenantId", "userId", "action", "resource", "resourceId", "metadata",
                            "ipAddress", "userAgent")
    SELECT a."tenantId", a."actor", a."action", a."resource", a."resourceId", a."metadata",
           a."ipAddress", a."userAgent"
    FROM unnest(%(tenants)s::text[], %(actors)s::text[], %(actions)s::text[],
                %(resources)s::text[], %(resource_ids)s::text[], %(metadata)s::jsonb[],
                %(ip_addresses)s::text[], %(user_agents)s::text[])
         AS a("tenantId", "actor", "action", "resource", "resourceId", "metadata", "ipAddress",
              "userAgent")
"""


def insert_acts(conn: Connection, acts: Sequence[AuditEntry]) -> None:
    """Write audit entries in the transaction of the act, as the relay or the tenant."""
    values: dict[str, object] = {
        "tenants": [act.tenant_id for act in acts],
        "actors": [act.actor for act in acts],
        "actions": [act.action for act in acts],
        "resources": [act.resource for act in acts],
        "resource_ids": [act.resource_id for act in acts],
        "metadata": [Jsonb(dict(act.what)) for act in acts],
        "ip_addresses": [act.ip_address for act in acts],
        "user_agents": [act.user_agent for act in acts],
    }
    conn.execute(INSERT_ACTS, values)


@dataclass(frozen=True, slots=True)
class ActRow:
    """One entry of the audit log."""

    id: str
    created_at: datetime
    actor: str | None
    action: str
    resource: str
    resource_id: str | None
    what: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class ActFilters:
    """Filters of entries; None means any. `tenant_id` None is the system."""

    tenant_id: TenantId | None
    actor: str | None = None
    action: str | None = None
    resource: str | None = None
    resource_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


# Ids grow with time, so those of one moment keep their order.
SELECT_LATEST: Final = """
    SELECT a."id", a."createdAt", a."userId" AS "actor", a."action", a."resource", a."resourceId",
           a."metadata" AS "what"
    FROM "AuditLog" a WHERE a."tenantId" = %(tenant_id)s::text
      AND (%(actor)s::text IS NULL OR a."userId" = %(actor)s)
      AND (%(action)s::text IS NULL OR a."action" = %(action)s)
      AND (%(resource)s::text IS NULL OR a."resource" = %(resource)s)
      AND (%(resource_id)s::text IS NULL OR a."resourceId" = %(resource_id)s)
      AND (%(since)s::timestamp IS NULL OR a."createdAt" >= %(since)s)
      AND (%(until)s::timestamp IS NULL OR a."createdAt" < %(until)s)
      AND (%(before)s::timestamp IS NULL
           OR (a."createdAt", a."id") < (%(before)s, %(before_id)s::text))
    ORDER BY a."createdAt" DESC, a."id" DESC LIMIT %(limit)s
"""

SELECT_LATEST_OF_SYSTEM: Final = """
    SELECT a."id", a."createdAt", a."userId" AS "actor", a."action", a."resource", a."resourceId",
           a."metadata" AS "what"
    FROM "AuditLog" a WHERE a."tenantId" IS NULL
      AND (%(actor)s::text IS NULL OR a."userId" = %(actor)s)
      AND (%(action)s::text IS NULL OR a."action" = %(action)s)
      AND (%(resource)s::text IS NULL OR a."resource" = %(resource)s)
      AND (%(resource_id)s::text IS NULL OR a."resourceId" = %(resource_id)s)
      AND (%(since)s::timestamp IS NULL OR a."createdAt" >= %(since)s)
      AND (%(until)s::timestamp IS NULL OR a."createdAt" < %(until)s)
      AND (%(before)s::timestamp IS NULL
           OR (a."createdAt", a."id") < (%(before)s, %(before_id)s::text))
    ORDER BY a."createdAt" DESC, a."id" DESC LIMIT %(limit)s
"""


def select_latest(
    conn: Connection,
    wanted: ActFilters,
    *,
    before: tuple[datetime, str] | None = None,
    limit: int,
) -> list[ActRow]:
    """The latest audit entries of a tenant, or of the system, newest first.

    Args:
        conn: A connection in the audit reader's role.
        wanted: Whose, and filters.
        before: Time and id of the last row of the page before.
        limit: Rows at most.
    """
    at, before_id = before or (None, None)
    values: dict[str, object] = {
        "tenant_id": wanted.tenant_id,
        "actor": wanted.actor,
        "action": wanted.action,
        "resource": wanted.resource,
        "resource_id": wanted.resource_id,
        "since": _stored(wanted.since),
        "until": _stored(wanted.until),
        "before": _stored(at),
        "before_id": before_id,
        "limit": limit,
    }
    # Planned for its values: another index serves each filter.
    if wanted.tenant_id is None:
        rows = conn.execute(SELECT_LATEST_OF_SYSTEM, values, prepare=False).fetchall()
    else:
        rows = conn.execute(SELECT_LATEST, values, prepare=False).fetchall()
    return [ActRow(id_, created_at.replace(tzinfo=UTC), *rest) for id_, created_at, *rest in rows]


def _stored(moment: datetime | None) -> datetime | None:
    """Return a time as the platform's columns have it: UTC, without saying so."""
    return None if moment is None else moment.astimezone(UTC).replace(tzinfo=None)
