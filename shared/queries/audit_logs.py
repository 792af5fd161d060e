"""The audit log: who did what to which thing. Our roles can only append."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from psycopg.types.json import Jsonb

from shared.db import Connection
from shared.ids import TenantId


@dataclass(frozen=True, slots=True)
class Act:
    """One act of a person or a program.

    Attributes:
        tenant_id: Whose thing it concerns; None for the system's.
        actor: Who acted, such as `cli:root`.
        action: What was done, as `noun.verb`.
        resource: The kind of thing.
        resource_id: Which one.
        what: Details: counts, before and after; never secrets.
    """

    tenant_id: TenantId | None
    actor: str
    action: str
    resource: str
    resource_id: str | None
    what: Mapping[str, Any]


INSERT_ACTS: Final = """
    INSERT INTO "AuditLog" ("tenantId", "userId", "action", "resource", "resourceId", "metadata")
    SELECT a."tenantId", a."actor", a."action", a."resource", a."resourceId", a."metadata"
    FROM unnest(%(tenants)s::text[], %(actors)s::text[], %(actions)s::text[],
                %(resources)s::text[], %(resource_ids)s::text[], %(metadata)s::jsonb[])
         AS a("tenantId", "actor", "action", "resource", "resourceId", "metadata")
"""


def insert_acts(conn: Connection, acts: Sequence[Act]) -> None:
    """Note acts in the transaction that does them, in the role of the relay or the tenant."""
    values: dict[str, object] = {
        "tenants": [act.tenant_id for act in acts],
        "actors": [act.actor for act in acts],
        "actions": [act.action for act in acts],
        "resources": [act.resource for act in acts],
        "resource_ids": [act.resource_id for act in acts],
        "metadata": [Jsonb(dict(act.what)) for act in acts],
    }
    conn.execute(INSERT_ACTS, values)
