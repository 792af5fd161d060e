-- Publishers by Redis have a name and rights, and each kind of job an audience: who may publish it.
CREATE TABLE IF NOT EXISTS "Publisher" (
    "name"      TEXT PRIMARY KEY,
    "tenantIds" TEXT[],
    "jobs"      TEXT[],
    "setBy"     TEXT NOT NULL,
    "setAt"     TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT "Publisher_name_check" CHECK ("name" ~ '^[a-z][a-z0-9-]{0,30}$')
);
COMMENT ON TABLE "Publisher" IS
    'Who publishes by Redis at a stream of its own, for which tenants and which jobs; NULL is all.';
ALTER TABLE "JobKind" ADD COLUMN IF NOT EXISTS "audience" TEXT NOT NULL DEFAULT 'anyone';
