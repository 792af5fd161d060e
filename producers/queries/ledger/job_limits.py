"""Concurrency and rate limits. In the relay's role."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from shared.db import Connection
from shared.ids import TenantId


class Counter(NamedTuple):
    """A limit's counter; '' if the limit does not distinguish tenants or keys."""

    limit_id: str
    tenant_id: str
    limit_key: str


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of a tenant, of each tenant of a tier, or of a kind of job.

    Attributes:
        id: The row's id.
        tenant_id: The limited tenant; its own limit overrides its tier's.
        tier: Limits each tenant of the tier.
        job: Limits one kind of job; None counts all kinds together.
        per_key: Counts each limit key separately; jobs without a key are not limited.
        concurrency_max: Maximum jobs in flight.
        rate_per_s: Starts, or cost of starts, per second.
        burst: Maximum burst after an idle period, in units of the rate.
        unit: What the rate counts: `jobs` or `cost`.
    """

    id: str
    tenant_id: TenantId | None
    tier: str | None
    job: str | None
    per_key: bool
    concurrency_max: int | None
    rate_per_s: float | None
    burst: float
    unit: str


SELECT_LIMITS: Final = """
    SELECT "id", "tenantId", "tier", "job", "perKey", "concurrencyMax", "ratePerS", "burst", "unit"
    FROM "JobLimit" ORDER BY "id"
"""


def select_limits(conn: Connection) -> list[Limit]:
    """Return all limits, oldest first."""
    return [Limit(*row) for row in conn.execute(SELECT_LIMITS)]


PUT: Final = """
    INSERT INTO "JobLimit" ("tenantId", "tier", "job", "perKey", "concurrencyMax", "ratePerS",
                            "burst", "unit")
    VALUES (%(tenant_id)s, %(tier)s, %(job)s, %(per_key)s, %(concurrency_max)s, %(rate_per_s)s,
            %(burst)s, %(unit)s)
    ON CONFLICT (coalesce("tenantId", ''), coalesce("tier", ''), coalesce("job", ''), "perKey")
    DO UPDATE SET "concurrencyMax" = excluded."concurrencyMax", "ratePerS" = excluded."ratePerS",
        "burst" = excluded."burst", "unit" = excluded."unit", "setAt" = now()
    RETURNING "id"
"""


def put(conn: Connection, limit: Limit) -> str:
    """Set a limit, replacing one with the same scope; its `id` is ignored. Returns the id."""
    row = conn.execute(
        PUT,
        {
            "tenant_id": limit.tenant_id,
            "tier": limit.tier,
            "job": limit.job,
            "per_key": limit.per_key,
            "concurrency_max": limit.concurrency_max,
            "rate_per_s": limit.rate_per_s,
            "burst": limit.burst,
            "unit": limit.unit,
        },
    ).fetchone()
    assert row is not None, "an upsert returns its row"
    return str(row[0])


DELETE: Final = """
    DELETE FROM "JobLimit" WHERE "id" = %(id)s
"""


def delete(conn: Connection, limit_id: str) -> bool:
    """Delete a limit. Returns whether it existed."""
    return conn.execute(DELETE, {"id": limit_id}).rowcount == 1


@dataclass(frozen=True, slots=True)
class InFlight:
    """Jobs of one tenant, kind and key in flight; `unclaimed` of them no worker has begun."""

    tenant_id: TenantId
    job: str
    limit_key: str
    in_flight: int
    unclaimed: int


COUNT_IN_FLIGHT: Final = """
    SELECT f."tenantId", f."job", f."limitKey", count(*) AS "inFlight",
           count(*) FILTER (WHERE j."state" = 'PENDING') AS "unclaimed"
    FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId"
    GROUP BY 1, 2, 3
"""


def count_in_flight(conn: Connection) -> list[InFlight]:
    """Count jobs in flight by tenant, kind and key."""
    return [InFlight(*row) for row in conn.execute(COUNT_IN_FLIGHT)]


SELECT_SPENT: Final = """
    SELECT "limitId", "tenantId", "limitKey",
           extract(epoch FROM "spentUntil" - now())::float8 AS "spentS"
    FROM "JobLimitUse" WHERE "limitId" = ANY(%(limit_ids)s::text[]) AND "spentUntil" > now()
"""


def select_spent(conn: Connection, limit_ids: Collection[str]) -> dict[Counter, float]:
    """Return for how many seconds each rate is spent; missing ones are not spent."""
    rows = conn.execute(SELECT_SPENT, {"limit_ids": list(limit_ids)})
    return {
        Counter(limit_id, tenant_id, limit_key): spent_s
        for limit_id, tenant_id, limit_key, spent_s in rows
    }


SPEND: Final = """
    INSERT INTO "JobLimitUse" ("limitId", "tenantId", "limitKey", "spentUntil")
    SELECT u."limitId", u."tenantId", u."limitKey", now() + u."seconds" * interval '1 second'
    FROM unnest(%(limit_ids)s::text[], %(tenants)s::text[], %(keys)s::text[],
                %(seconds)s::float8[]) AS u("limitId", "tenantId", "limitKey", "seconds")
    ON CONFLICT ("limitId", "tenantId", "limitKey") DO UPDATE
    SET "spentUntil" = greatest("JobLimitUse"."spentUntil", now())
                       + (excluded."spentUntil" - now())
"""


def spend(conn: Connection, spent_s: Mapping[Counter, float]) -> None:
    """Move the time until which each rate is spent on by so many seconds."""
    ids, tenants, keys = zip(*spent_s, strict=True)
    values = {"limit_ids": list(ids), "tenants": list(tenants), "keys": list(keys)}
    conn.execute(SPEND, values | {"seconds": list(spent_s.values())})


DELETE_UNSPENT: Final = """
    DELETE FROM "JobLimitUse" WHERE "spentUntil" < now() - interval '1 minute'
"""


def delete_unspent(conn: Connection) -> int:
    """Delete counters that are not spent. Returns how many."""
    return conn.execute(DELETE_UNSPENT).rowcount
