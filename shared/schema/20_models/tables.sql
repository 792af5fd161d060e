-- ============================================================================================
-- Models and routing
--
-- Global by nature: one catalogue serves every tenant, and what is learnt about a model is a
-- figure, nobody's text. Workers read it all and keep its statistics; providers are set by people.
-- ============================================================================================

CREATE TABLE IF NOT EXISTS "AIProvider" (
    "id"      TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "name"    TEXT NOT NULL UNIQUE,
    "slug"    TEXT NOT NULL UNIQUE,
    "baseUrl" TEXT,
    "enabled" BOOLEAN NOT NULL DEFAULT true
);

CREATE TABLE IF NOT EXISTS "AIModel" (
    "id"            TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    -- NO ACTION where the platform says RESTRICT: PostgreSQL 18 gives RESTRICT a code it misreads.
    "providerId"    TEXT NOT NULL
                    REFERENCES "AIProvider" ("id") ON DELETE NO ACTION ON UPDATE CASCADE,
    "name"          TEXT NOT NULL,
    "slug"          TEXT NOT NULL UNIQUE,
    "contextWindow" INTEGER NOT NULL,
    "costPer1kIn"   NUMERIC(20, 8) NOT NULL,
    "costPer1kOut"  NUMERIC(20, 8) NOT NULL,
    "capabilities"  TEXT[] DEFAULT '{}',
    "avgLatencyMs"  INTEGER,
    "successRate"   DOUBLE PRECISION,
    "enabled"       BOOLEAN NOT NULL DEFAULT true,
    -- ours
    "calls"         BIGINT NOT NULL DEFAULT 0,
    "latencyEwmaMs" DOUBLE PRECISION
);

CREATE TABLE IF NOT EXISTS "RoutingScore" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "modelId"   TEXT NOT NULL REFERENCES "AIModel" ("id") ON DELETE NO ACTION ON UPDATE CASCADE,
    "intent"    TEXT NOT NULL,
    "score"     DOUBLE PRECISION NOT NULL,
    "pulls"     INTEGER NOT NULL DEFAULT 0,
    "wins"      INTEGER NOT NULL DEFAULT 0,
    "updatedAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "factors"   JSONB,
    UNIQUE ("modelId", "intent")
);

CREATE TABLE IF NOT EXISTS "BanditArm" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "modelId"   TEXT NOT NULL,
    "intent"    TEXT NOT NULL,
    "pulls"     INTEGER NOT NULL DEFAULT 0,
    "rewards"   DOUBLE PRECISION NOT NULL DEFAULT 0,
    "alpha"     DOUBLE PRECISION NOT NULL DEFAULT 1,
    "beta"      DOUBLE PRECISION NOT NULL DEFAULT 1,
    "updatedAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    UNIQUE ("modelId", "intent")
);

CALL ailydian_build_index('AIProvider', 'enabled');
CALL ailydian_build_index('AIModel', 'providerId');
CALL ailydian_build_index('AIModel', 'enabled');
CALL ailydian_build_index('RoutingScore', 'intent');
CALL ailydian_build_index('BanditArm', 'intent');

COMMENT ON TABLE "AIProvider" IS 'A seller of models; disabled takes all of them out of routing.';
COMMENT ON TABLE "AIModel" IS 'A model: its price, its window and its rolling statistics.';
COMMENT ON TABLE "RoutingScore" IS 'How well a model serves an intent; routing picks by it.';
COMMENT ON TABLE "BanditArm" IS 'The global prior of a model for an intent, as a beta distribution.';

CREATE TABLE IF NOT EXISTS "ModelUse" (
    "model"    TEXT NOT NULL,
    "hour"     TIMESTAMPTZ NOT NULL,
    "requests" BIGINT NOT NULL,
    "tokens"   BIGINT NOT NULL,
    -- Of the requests that had a price in the catalogue; NULL where none had.
    "costUsd"  NUMERIC(20, 8),
    "unpriced" BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY ("model", "hour")
);
COMMENT ON TABLE "ModelUse" IS 'Requests, tokens and dollars of each model by the hour, for figures.';

CREATE TABLE IF NOT EXISTS "TenantArm" (
    "tenantId"  TEXT NOT NULL DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "modelId"   TEXT NOT NULL,
    "intent"    TEXT NOT NULL,
    "alpha"     DOUBLE PRECISION NOT NULL CHECK ("alpha" >= 0),
    "beta"      DOUBLE PRECISION NOT NULL CHECK ("beta" >= 0),
    "pulls"     BIGINT NOT NULL DEFAULT 0,
    "rewards"   DOUBLE PRECISION NOT NULL DEFAULT 0,
    "updatedAt" TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY ("tenantId", "modelId", "intent")
) WITH (fillfactor = 70);

-- One reward a message: a later or repeated word about it moves the arm by the difference.
CREATE TABLE IF NOT EXISTS "ArmReward" (
    "tenantId"  TEXT NOT NULL DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "messageId" TEXT NOT NULL,
    "modelId"   TEXT NOT NULL,
    "intent"    TEXT NOT NULL,
    "reward"    DOUBLE PRECISION NOT NULL,
    "weight"    DOUBLE PRECISION NOT NULL DEFAULT 1,
    "rewardedAt" TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY ("tenantId", "messageId"),
    CONSTRAINT "ArmReward_reward_check" CHECK ("reward" BETWEEN 0 AND 1),
    CONSTRAINT "ArmReward_weight_check" CHECK ("weight" BETWEEN 0 AND 1)
);

CREATE TABLE IF NOT EXISTS "ProviderHealth" (
    "providerId" TEXT PRIMARY KEY REFERENCES "AIProvider" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "state"      TEXT NOT NULL DEFAULT 'closed',
    "failures"   INTEGER NOT NULL DEFAULT 0,
    "openedAt"   TIMESTAMPTZ,
    "openUntil"  TIMESTAMPTZ,
    "updatedAt"  TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT "ProviderHealth_state_check" CHECK ("state" IN ('closed', 'open', 'half_open')),
    CONSTRAINT "ProviderHealth_open_check" CHECK (("state" = 'closed') = ("openUntil" IS NULL))
);
COMMENT ON TABLE "TenantArm" IS 'A tenant''s own arm of a bandit, grown out of the global prior.';
COMMENT ON TABLE "ArmReward" IS 'What an answer earned its model; one row a message, the last counts.';
COMMENT ON TABLE "ProviderHealth" IS 'A provider''s circuit breaker.';
