"""Routing: rewards of models, and their scores for each intent."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from shared.db import Connection
from shared.ids import MessageId

# A reward decays by this factor a day: to half after 34 days.
DISCOUNT: Final = 0.98
# The weight of the global arm for a tenant that has none of its own yet, in pulls at most.
PRIOR_PULLS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Reward:
    """The reward of an answer for its model.

    Attributes:
        value: In [0, 1].
        weight: How sure that is, in [0, 1]: a word with a smaller weight never replaces one with a
            greater; 1 for a rating, less for an estimate.
    """

    message_id: MessageId
    value: float
    weight: float


REWARD: Final = """
    SELECT ailydian_reward(%(messages)s::text[], %(values)s::float8[], %(weights)s::float8[],
                           %(discount)s::float8, %(prior_pulls)s::float8)
"""


def reward(conn: Connection, rewards: Sequence[Reward], *, discount: float = DISCOUNT) -> int:
    """Apply rewards to the arms of the models, the tenant's and the global one: one statement.

    Safe when late, repeated or concurrent. The last thing of its transaction: it locks rows that
    all tenants share. Messages without a model of the catalogue or without an intent move nothing.

    Args:
        conn: A connection of the tenant.
        rewards: One a message.
        discount: The decay of a reward in a day, as a factor.

    Returns:
        How many messages moved an arm.
    """
    values: dict[str, object] = {
        "messages": [one.message_id for one in rewards],
        "values": [one.value for one in rewards],
        "weights": [one.weight for one in rewards],
        "discount": discount,
        "prior_pulls": PRIOR_PULLS,
    }
    row = conn.execute(REWARD, values).fetchone()
    assert row is not None, "a function yields a row"
    return int(row[0])


@dataclass(frozen=True, slots=True)
class ModelCandidate:
    """A model that could answer; its arm is the tenant's, or grown out of the global one.

    Of one with `is_probe` the provider's breaker is open: one caller may try it, by `take_probe`.
    """

    slug: str
    alpha: float
    beta: float
    cost_in: Decimal
    cost_out: Decimal
    context_window: int
    latency_ms: float | None
    success: float | None
    is_probe: bool


# Enabled models of enabled providers that answer: a breaker that has been open long enough counts,
# because the next call is its probe.
SELECT_CANDIDATES: Final = """
    SELECT m."slug",
           1 + coalesce(ailydian_faded(t."alpha" - 1, t."updatedAt", %(discount)s::float8),
                        g."won" * g."share", 0) AS "alpha",
           1 + coalesce(ailydian_faded(t."beta" - 1, t."updatedAt", %(discount)s::float8),
                        g."lost" * g."share", 0) AS "beta",
           m."costPer1kIn" AS "costIn", m."costPer1kOut" AS "costOut", m."contextWindow",
           coalesce(m."latencyEwmaMs", m."avgLatencyMs") AS "latencyMs",
           m."successRate" AS "success", coalesce(h."state" <> 'closed', false) AS "isProbe"
    FROM "AIModel" m JOIN "AIProvider" p ON p."id" = m."providerId" AND p."enabled"
    LEFT JOIN "ProviderHealth" h ON h."providerId" = p."id"
    LEFT JOIN "TenantArm" t ON t."tenantId" = current_setting('app.tenant_id')
        AND t."modelId" = m."id" AND t."intent" = %(intent)s
    LEFT JOIN LATERAL (
        SELECT f.*, least(1, %(prior_pulls)s::float8 / nullif(f."won" + f."lost", 0)) AS "share"
        FROM "BanditArm" b, LATERAL (
            SELECT greatest(ailydian_faded(b."alpha" - 1, b."updatedAt" AT TIME ZONE 'UTC',
                                           %(discount)s::float8), 0) AS "won",
                   greatest(ailydian_faded(b."beta" - 1, b."updatedAt" AT TIME ZONE 'UTC',
                                           %(discount)s::float8), 0) AS "lost"
        ) f
        WHERE b."modelId" = m."id" AND b."intent" = %(intent)s
    ) g ON true
    WHERE m."enabled" AND %(capability)s = ANY(m."capabilities")
      AND (h."state" IS NULL OR h."state" = 'closed' OR h."openUntil" <= now())
    ORDER BY m."slug"
"""


def select_candidates(
    conn: Connection, intent: str, *, capability: str = "completion"
) -> list[ModelCandidate]:
    """The models that are available now, with their arms for an intent."""
    values = {
        "intent": intent,
        "capability": capability,
        "discount": DISCOUNT,
        "prior_pulls": PRIOR_PULLS,
    }
    return [ModelCandidate(*row) for row in conn.execute(SELECT_CANDIDATES, values)]


@dataclass(frozen=True, slots=True)
class GlobalArm:
    """A model for an intent, by the rewards of all tenants; success is in [0, 1]."""

    model_id: str
    intent: str
    alpha: float
    beta: float
    cost_in: Decimal
    cost_out: Decimal
    latency_ms: float | None
    success: float | None


SELECT_GLOBAL: Final = """
    SELECT m."id" AS "modelId", i."intent",
           1 + coalesce(ailydian_faded(b."alpha" - 1, b."updatedAt" AT TIME ZONE 'UTC',
                                       %(discount)s::float8), 0) AS "alpha",
           1 + coalesce(ailydian_faded(b."beta" - 1, b."updatedAt" AT TIME ZONE 'UTC',
                                       %(discount)s::float8), 0) AS "beta",
           m."costPer1kIn" AS "costIn", m."costPer1kOut" AS "costOut",
           coalesce(m."latencyEwmaMs", m."avgLatencyMs") AS "latencyMs",
           m."successRate" AS "success"
    FROM "AIModel" m JOIN "AIProvider" p ON p."id" = m."providerId"
    CROSS JOIN unnest(%(intents)s::text[]) AS i("intent")
    LEFT JOIN "BanditArm" b ON b."modelId" = m."id" AND b."intent" = i."intent"
    WHERE m."enabled" AND p."enabled" AND %(capability)s = ANY(m."capabilities")
    ORDER BY m."id", i."intent"
"""


def select_global(
    conn: Connection, intents: Sequence[str], *, capability: str = "completion"
) -> list[GlobalArm]:
    """Every enabled model for every intent."""
    values = {"intents": list(intents), "capability": capability, "discount": DISCOUNT}
    return [GlobalArm(*row) for row in conn.execute(SELECT_GLOBAL, values)]


@dataclass(frozen=True, slots=True)
class NewScore:
    """A row of "RoutingScore"; `factors` is JSON text."""

    model_id: str
    intent: str
    score: float
    factors: str


# In one order, so that workers wait for each other and never in a circle.
UPSERT_SCORES: Final = """
    INSERT INTO "RoutingScore" ("modelId", "intent", "score", "factors")
    SELECT n."modelId", n."intent", n."score", n."factors"
    FROM unnest(%(models)s::text[], %(intents)s::text[], %(scores)s::float8[],
                %(factors)s::jsonb[]) AS n("modelId", "intent", "score", "factors")
    ORDER BY n."modelId", n."intent"
    ON CONFLICT ("modelId", "intent") DO UPDATE
    SET "score" = excluded."score", "factors" = excluded."factors",
        "updatedAt" = now() AT TIME ZONE 'UTC'
"""


def upsert_scores(conn: Connection, scores: Sequence[NewScore]) -> None:
    """Store routing scores and their parts."""
    values: dict[str, object] = {
        "models": [one.model_id for one in scores],
        "intents": [one.intent for one in scores],
        "scores": [one.score for one in scores],
        "factors": [one.factors for one in scores],
    }
    conn.execute(UPSERT_SCORES, values)


@dataclass(frozen=True, slots=True)
class RouteRow:
    """The global routing score of a model for an intent."""

    model: str
    intent: str
    score: float
    factors: dict[str, Any] | None
    pulls: int
    wins: int


SELECT_ROUTES: Final = """
    SELECT m."slug" AS "model", r."intent", r."score", r."factors", r."pulls", r."wins"
    FROM "RoutingScore" r JOIN "AIModel" m ON m."id" = r."modelId"
    WHERE r."intent" = coalesce(%(intent)s::text, r."intent")
    ORDER BY r."intent", r."score" DESC, m."slug"
"""


def select_routes(conn: Connection, intent: str | None = None) -> list[RouteRow]:
    """The routing scores, by intent, the best model first."""
    return [RouteRow(*row) for row in conn.execute(SELECT_ROUTES, {"intent": intent})]
