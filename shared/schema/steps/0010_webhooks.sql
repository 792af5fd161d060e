-- Webhooks: where the events of a tenant are posted.
CREATE TABLE IF NOT EXISTS "Webhook" (
    "id"        TEXT NOT NULL DEFAULT ailydian_new_id(),
    "tenantId"  TEXT NOT NULL DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "url"       TEXT NOT NULL,
    "events"    TEXT[] NOT NULL,
    "jobs"      TEXT[] NOT NULL DEFAULT '{}',
    "secret"    INTEGER NOT NULL DEFAULT 1,
    "rotatedAt" TIMESTAMPTZ,
    "enabled"   BOOLEAN NOT NULL DEFAULT true,
    "createdBy" TEXT NOT NULL,
    "createdAt" TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY ("tenantId", "id"),
    CONSTRAINT "Webhook_events_check" CHECK (cardinality("events") BETWEEN 1 AND 50),
    CONSTRAINT "Webhook_jobs_check" CHECK (cardinality("jobs") <= 100)
);
COMMENT ON TABLE "Webhook" IS
    'Where a tenant''s events are posted, and which. "secret" is the number of its secret, which is '
    'derived from the signing key and stored nowhere.';
