"""The catalogue: providers and models, their statistics and circuit breakers."""

import decimal
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from shared.db import Connection

MONEY: Final = Decimal("0.00000001")  # the last digit of NUMERIC(20, 8)


@dataclass(frozen=True, slots=True)
class NewProvider:
    """A provider of models."""

    slug: str
    name: str
    base_url: str | None = None
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class NewModel:
    """A model of a provider; dollars a thousand tokens."""

    slug: str
    provider: str
    name: str
    context_window: int
    cost_in: Decimal
    cost_out: Decimal
    capabilities: Sequence[str]
    enabled: bool = True


# In the owner's role: workers read the catalogue and update its statistics, operators write it. The
# seed never overwrites an operator's change.
SEED_PROVIDERS: Final = """
    INSERT INTO "AIProvider" ("slug", "name")
    SELECT n."slug", n."name" FROM unnest(%(slugs)s::text[], %(names)s::text[]) AS n("slug", "name")
    ON CONFLICT DO NOTHING
"""

SEED_MODELS: Final = """
    INSERT INTO "AIModel" ("slug", "providerId", "name", "contextWindow", "costPer1kIn",
                           "costPer1kOut", "capabilities", "enabled")
    SELECT n."slug", p."id", n."name", n."window", n."costIn", n."costOut",
           string_to_array(n."capabilities", ','), n."enabled"
    FROM unnest(%(slugs)s::text[], %(providers)s::text[], %(names)s::text[], %(windows)s::int[],
                %(costs_in)s::numeric[], %(costs_out)s::numeric[], %(capabilities)s::text[],
                %(enabled)s::bool[])
         AS n("slug", "provider", "name", "window", "costIn", "costOut", "capabilities", "enabled")
    JOIN "AIProvider" p ON p."slug" = n."provider"
    ON CONFLICT DO NOTHING
"""


def seed(
    conn: Connection, providers: Sequence[NewProvider], models: Sequence[NewModel]
) -> tuple[int, int]:
    """Add providers and models that are not there. Returns how many of each were added."""
    added = conn.execute(
        SEED_PROVIDERS,
        {"slugs": [one.slug for one in providers], "names": [one.name for one in providers]},
    ).rowcount
    values: dict[str, object] = {
        "slugs": [one.slug for one in models],
        "providers": [one.provider for one in models],
        "names": [one.name for one in models],
        "windows": [one.context_window for one in models],
        "costs_in": [one.cost_in for one in models],
        "costs_out": [one.cost_out for one in models],
        "capabilities": [",".join(one.capabilities) for one in models],
        "enabled": [one.enabled for one in models],
    }
    return added, conn.execute(SEED_MODELS, values).rowcount


PUT_PROVIDER: Final = """
    INSERT INTO "AIProvider" ("slug", "name", "baseUrl", "enabled")
    VALUES (%(slug)s, %(name)s, %(base_url)s::text, %(enabled)s)
    ON CONFLICT ("slug") DO UPDATE
    SET "name" = excluded."name", "baseUrl" = excluded."baseUrl", "enabled" = excluded."enabled"
"""


def put_provider(conn: Connection, new: NewProvider) -> None:
    """Create a provider, or update the one with this slug."""
    values = {
        "slug": new.slug,
        "name": new.name,
        "base_url": new.base_url,
        "enabled": new.enabled,
    }
    conn.execute(PUT_PROVIDER, values)


SELECT_PROVIDER: Final = """
    SELECT "slug", "name", "baseUrl", "enabled" FROM "AIProvider" WHERE "slug" = %(slug)s
"""


def select_provider(conn: Connection, slug: str) -> NewProvider | None:
    """A provider as it is; None where there is none of this slug."""
    row = conn.execute(SELECT_PROVIDER, {"slug": slug}).fetchone()
    return None if row is None else NewProvider(*row)


LOCK_PROVIDER: Final = """
    SELECT FROM "AIProvider" WHERE "slug" = %(slug)s FOR UPDATE
"""


def lock_provider(conn: Connection, slug: str) -> None:
    """Let nobody else change a provider until the transaction ends."""
    conn.execute(LOCK_PROVIDER, {"slug": slug})


SELECT_PROVIDER_NAMED: Final = """
    SELECT FROM "AIProvider" WHERE "name" = %(name)s AND "slug" <> %(beside)s
"""


def has_provider_name(conn: Connection, name: str, *, beside: str) -> bool:
    """Whether a provider has this name, beside the one with a slug."""
    values = {"name": name, "beside": beside}
    return conn.execute(SELECT_PROVIDER_NAMED, values).fetchone() is not None


LOCK_MODEL: Final = """
    SELECT FROM "AIModel" WHERE "slug" = %(slug)s FOR UPDATE
"""


def lock_model(conn: Connection, slug: str) -> None:
    """Let nobody else change a model until the transaction ends."""
    conn.execute(LOCK_MODEL, {"slug": slug})


PUT_MODEL: Final = """
    INSERT INTO "AIModel" ("slug", "providerId", "name", "contextWindow", "costPer1kIn",
                           "costPer1kOut", "capabilities", "enabled")
    SELECT %(slug)s, p."id", %(name)s, %(window)s, %(cost_in)s::numeric, %(cost_out)s::numeric,
           %(capabilities)s::text[], %(enabled)s
    FROM "AIProvider" p WHERE p."slug" = %(provider)s
    ON CONFLICT ("slug") DO UPDATE
    SET "providerId" = excluded."providerId", "name" = excluded."name",
        "contextWindow" = excluded."contextWindow", "costPer1kIn" = excluded."costPer1kIn",
        "costPer1kOut" = excluded."costPer1kOut", "capabilities" = excluded."capabilities",
        "enabled" = excluded."enabled"
"""


def put_model(conn: Connection, new: NewModel) -> bool:
    """Create a model, or update the one with this slug. Returns whether its provider exists."""
    values = {
        "slug": new.slug,
        "provider": new.provider,
        "name": new.name,
        "window": new.context_window,
        "cost_in": new.cost_in,
        "cost_out": new.cost_out,
        "capabilities": list(new.capabilities),
        "enabled": new.enabled,
    }
    return conn.execute(PUT_MODEL, values).rowcount == 1


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A model with its statistics; `health` is its provider's breaker."""

    id: str
    slug: str
    name: str
    provider: str
    context_window: int
    cost_in: Decimal
    cost_out: Decimal
    capabilities: list[str]
    enabled: bool
    provider_enabled: bool
    calls: int
    avg_latency_ms: int | None
    success_rate: float | None
    health: str


SELECT_MODELS: Final = """
    SELECT m."id", m."slug", m."name", p."slug" AS "provider", m."contextWindow",
           m."costPer1kIn" AS "costIn",
           m."costPer1kOut" AS "costOut", coalesce(m."capabilities", '{}') AS "capabilities",
           m."enabled", p."enabled" AS "providerEnabled",
           m."calls", m."avgLatencyMs", m."successRate",
           CASE WHEN h."state" = 'open' AND h."openUntil" <= now() THEN 'half_open'
                ELSE coalesce(h."state", 'closed') END AS "health"
    FROM "AIModel" m JOIN "AIProvider" p ON p."id" = m."providerId"
    LEFT JOIN "ProviderHealth" h ON h."providerId" = p."id"
    WHERE %(slug)s::text IS NULL OR m."slug" = %(slug)s ORDER BY p."slug", m."slug"
"""


def select_models(conn: Connection, slug: str | None = None) -> list[ModelRow]:
    """The catalogue, or the model of this slug."""
    return [ModelRow(*row) for row in conn.execute(SELECT_MODELS, {"slug": slug})]


@dataclass(frozen=True, slots=True)
class Price:
    """The price of a model: dollars per thousand input, and output, tokens."""

    cost_in: Decimal
    cost_out: Decimal

    def of(self, tokens_in: int, tokens_out: int) -> Decimal:
        """The cost of these tokens in dollars, rounded as the tables store money."""
        cost = (self.cost_in * tokens_in + self.cost_out * tokens_out) / 1000
        return cost.quantize(MONEY, decimal.ROUND_HALF_UP)


SELECT_PRICES: Final = """
    SELECT "slug", "costPer1kIn" AS "costIn", "costPer1kOut" AS "costOut" FROM "AIModel"
    WHERE "slug" = ANY(%(slugs)s::text[])
"""


def select_prices(conn: Connection, slugs: Sequence[str]) -> dict[str, Price]:
    """The prices of these models, as the catalogue has them now; unknown models are left out."""
    rows = conn.execute(SELECT_PRICES, {"slugs": list(slugs)})
    return {slug: Price(cost_in, cost_out) for slug, cost_in, cost_out in rows}


@dataclass(frozen=True, slots=True)
class Call:
    """The outcome of one call of a model.

    Attributes:
        latency_ms: The latency of the answer, >= 0.
        answered: Whether there was an answer.
        is_fault: Whether a missing answer is the provider's fault: its breaker counts it.
    """

    model: str
    latency_ms: float
    answered: bool
    is_fault: bool = False


# Exponentially weighted means: s' = s + ALPHA (x - s), in the row itself, so that no update is
# lost; the first call sets them. Latency is that of answers alone.
NOTE_CALL: Final = """
    UPDATE "AIModel" m
    SET "calls" = m."calls" + 1,
        "successRate" = coalesce(m."successRate" + %(alpha)s::float8
            * (%(success)s::float8 - m."successRate"), %(success)s::float8),
        "latencyEwmaMs" = CASE WHEN %(success)s::float8 = 1 THEN coalesce(m."latencyEwmaMs"
            + %(alpha)s::float8 * (%(latency_ms)s::float8 - m."latencyEwmaMs"),
            %(latency_ms)s::float8) ELSE m."latencyEwmaMs" END,
        "avgLatencyMs" = CASE WHEN %(success)s::float8 = 1 THEN round(coalesce(m."latencyEwmaMs"
            + %(alpha)s::float8 * (%(latency_ms)s::float8 - m."latencyEwmaMs"),
            %(latency_ms)s::float8)) ELSE m."avgLatencyMs" END
    WHERE m."slug" = %(model)s
"""

# The breaker. A fault while it is closed counts, the fifth in a row opens it; a fault of the probe
# opens it for twice as long as before, at most ten minutes; an answer closes it. Faults while it is
# open do not count: they are of calls that were under way, or of steps that name the model.
NOTE_FAULT: Final = """
    INSERT INTO "ProviderHealth" AS h ("providerId", "failures")
    SELECT m."providerId", 1 FROM "AIModel" m WHERE m."slug" = %(model)s
    ON CONFLICT ("providerId") DO UPDATE
    SET "failures" = h."failures" + (h."state" <> 'open')::int, "updatedAt" = now(),
        "state" = CASE WHEN h."state" = 'half_open' OR h."failures" + 1 >= %(failures_max)s
                       THEN 'open' ELSE h."state" END,
        "openedAt" = CASE WHEN h."state" = 'closed' AND h."failures" + 1 >= %(failures_max)s
                          THEN now() ELSE h."openedAt" END,
        "openUntil" = CASE
            WHEN h."state" = 'half_open' OR (h."state" = 'closed'
                                             AND h."failures" + 1 >= %(failures_max)s)
            THEN now() + interval '1 second' * least(%(open_s_max)s::float8, %(open_s)s::float8
                * power(2.0, least(greatest(h."failures" + 1 - %(failures_max)s, 0), 10)))
            ELSE h."openUntil" END
"""

NOTE_ANSWER: Final = """
    UPDATE "ProviderHealth" h
    SET "state" = 'closed', "failures" = 0, "openedAt" = NULL, "openUntil" = NULL,
        "updatedAt" = now()
    FROM "AIModel" m
    WHERE m."slug" = %(model)s AND h."providerId" = m."providerId"
      AND (h."state" <> 'closed' OR h."failures" > 0)
"""

# One caller gets the probe of a breaker that has been open long enough, for so long.
TAKE_PROBE: Final = """
    UPDATE "ProviderHealth" h
    SET "state" = 'half_open', "openUntil" = now() + %(probe_s)s::float8 * interval '1 second',
        "updatedAt" = now()
    FROM "AIModel" m
    WHERE m."slug" = %(model)s AND h."providerId" = m."providerId" AND h."state" <> 'closed'
      AND h."openUntil" <= now()
"""


ALPHA: Final = 0.05
FAILURES_MAX: Final = 5
OPEN_S: Final = 30.0
OPEN_S_MAX: Final = 600.0
PROBE_S: Final = 60.0


def note_call(conn: Connection, call: Call) -> None:
    """Count one call of a model in its statistics, and in its provider's breaker."""
    success = float(call.answered)
    values = {"model": call.model, "latency_ms": call.latency_ms, "success": success}
    conn.execute(NOTE_CALL, values | {"alpha": ALPHA})
    if call.answered:
        conn.execute(NOTE_ANSWER, {"model": call.model})
    elif call.is_fault:
        limits = {"failures_max": FAILURES_MAX, "open_s": OPEN_S, "open_s_max": OPEN_S_MAX}
        conn.execute(NOTE_FAULT, {"model": call.model} | limits)


def take_probe(conn: Connection, model: str) -> bool:
    """Claim the probe call of a provider whose breaker was open long enough."""
    values = {"model": model, "probe_s": PROBE_S}
    return conn.execute(TAKE_PROBE, values).rowcount == 1
