"""What is asked of requests of a tenant or a key: rates and addresses; in the owner's role."""

from dataclasses import dataclass, field
from typing import Final

from shared.db import Connection
from shared.ids import TenantId


@dataclass(frozen=True, slots=True)
class RequestRule:
    """A rule; None leaves the rate to the tier, no addresses let requests come from anywhere."""

    rate_per_s: float | None = None
    burst: float | None = None
    addresses: list[str] = field(default_factory=list)


SELECT_RULE: Final = """
    SELECT r."ratePerS" AS "rate_per_s", r."burst", coalesce(r."addresses", '{}') AS "addresses"
    FROM "RequestRule" r
    WHERE r."tenantId" IS NOT DISTINCT FROM %(tenant_id)s::text
      AND r."keyId" IS NOT DISTINCT FROM %(key_id)s::text
    LIMIT 1
"""


def select_rule(conn: Connection, tenant_id: TenantId | None, key_id: str | None) -> RequestRule:
    """The rule of a tenant or of a key; one of the two is None."""
    row = conn.execute(SELECT_RULE, {"tenant_id": tenant_id, "key_id": key_id}).fetchone()
    return RequestRule() if row is None else RequestRule(*row)


PUT_RULE: Final = """
    INSERT INTO "RequestRule" ("tenantId", "keyId", "ratePerS", "burst", "addresses", "setBy")
    VALUES (%(tenant_id)s::text, %(key_id)s::text, %(rate_per_s)s::double precision,
            %(burst)s::double precision, nullif(%(addresses)s::text[], '{}'), %(who)s)
    ON CONFLICT ("tenantId", "keyId") DO UPDATE SET "ratePerS" = EXCLUDED."ratePerS",
        "burst" = EXCLUDED."burst", "addresses" = EXCLUDED."addresses", "setBy" = EXCLUDED."setBy",
        "setAt" = now()
"""


def put_rule(
    conn: Connection, tenant_id: TenantId | None, key_id: str | None, rule: RequestRule, who: str
) -> None:
    """Set the rule of a tenant or of a key; one of the two is None."""
    values = {
        "tenant_id": tenant_id,
        "key_id": key_id,
        "rate_per_s": rule.rate_per_s,
        "burst": rule.burst,
        "addresses": rule.addresses,
        "who": who,
    }
    conn.execute(PUT_RULE, values)


LOCK_TENANT: Final = """
    SELECT FROM "Tenant" WHERE "id" = %(tenant_id)s FOR NO KEY UPDATE
"""


def lock_tenant(conn: Connection, tenant_id: TenantId) -> None:
    """Let nobody else change the rule of a tenant until this transaction ends."""
    conn.execute(LOCK_TENANT, {"tenant_id": tenant_id})


COPY_KEY_RULE: Final = """
    INSERT INTO "RequestRule" ("keyId", "ratePerS", "burst", "addresses", "setBy")
    SELECT %(successor)s, r."ratePerS", r."burst", r."addresses", %(who)s
    FROM "RequestRule" r WHERE r."keyId" = %(key_id)s
"""


def copy_key_rule(conn: Connection, key_id: str, successor: str, who: str) -> None:
    """Give a new key the rule of the one that it follows."""
    conn.execute(COPY_KEY_RULE, {"key_id": key_id, "successor": successor, "who": who})


@dataclass(frozen=True, slots=True)
class HeldRules:
    """What a request is held to by its tenant, the tenant's tier and its key."""

    tier: str | None
    tenant_rate_per_s: float | None
    tenant_burst: float | None
    tenant_addresses: list[str]
    key_rate_per_s: float | None
    key_burst: float | None
    key_addresses: list[str]


SELECT_HELD_RULES: Final = """
    SELECT t."tier"::text AS "tier", a."ratePerS" AS "tenant_rate_per_s",
           a."burst" AS "tenant_burst", coalesce(a."addresses", '{}') AS "tenant_addresses",
           k."ratePerS" AS "key_rate_per_s", k."burst" AS "key_burst",
           coalesce(k."addresses", '{}') AS "key_addresses"
    FROM (SELECT) one
    LEFT JOIN "Tenant" t ON t."id" = %(tenant_id)s::text
    LEFT JOIN "RequestRule" a ON a."tenantId" = %(tenant_id)s::text AND a."keyId" IS NULL
    LEFT JOIN "RequestRule" k ON k."keyId" = %(key_id)s::text
    LIMIT 1
"""


def select_held_rules(
    conn: Connection, tenant_id: TenantId | None, key_id: str | None
) -> HeldRules:
    """What a request of a tenant, by a key, is held to."""
    values = {"tenant_id": tenant_id, "key_id": key_id}
    row = conn.execute(SELECT_HELD_RULES, values).fetchone()
    assert row is not None, "outer joins of one row yield one"
    return HeldRules(*row)
