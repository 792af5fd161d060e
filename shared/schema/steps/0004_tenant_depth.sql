-- Version 4. Back-pressure is per tenant too, functions that switch plans off switch jit off, and ids are
-- in time order on every Postgres.

CREATE TABLE IF NOT EXISTS "TenantDepth" (
    "tenantId"   TEXT NOT NULL,
    "queue"      TEXT NOT NULL,
    "depth"      BIGINT NOT NULL,
    "measuredAt" TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY ("tenantId", "queue")
);
COMMENT ON TABLE "TenantDepth" IS
    'Tenants that fill their share of a queue, as the relay last counted: more of theirs is refused.';
