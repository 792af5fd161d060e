-- What is done to many jobs in the background: replays, discards, cancellations.
CREATE TABLE IF NOT EXISTS "BulkAction" (
    "id"          TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "tenantId"    TEXT,
    "action"      TEXT NOT NULL,
    "choice"      JSONB NOT NULL,
    "words"       JSONB NOT NULL,
    "actor"       TEXT NOT NULL,
    "state"       TEXT NOT NULL DEFAULT 'RUNNING',
    "matched"     BIGINT NOT NULL DEFAULT 0,
    "done"        BIGINT NOT NULL DEFAULT 0,
    "after"       TEXT NOT NULL DEFAULT '',
    "watched"     TEXT[] NOT NULL DEFAULT '{}',
    "canaryUntil" TIMESTAMPTZ,
    "nextAt"      TIMESTAMPTZ NOT NULL DEFAULT now(),
    "error"       TEXT,
    "createdAt"   TIMESTAMPTZ NOT NULL DEFAULT now(),
    "finishedAt"  TIMESTAMPTZ,
    CONSTRAINT "BulkAction_state_check" CHECK ("state" IN ('RUNNING', 'DONE', 'STOPPED', 'FAILED')),
    CONSTRAINT "BulkAction_finishedAt_check" CHECK (("state" = 'RUNNING') = ("finishedAt" IS NULL))
);
COMMENT ON TABLE "BulkAction" IS
    'What an operator does to many jobs: page by page in the background, with its progress.';

DO $$
BEGIN
    IF to_regclass('public."BulkAction_running_idx"') IS NULL THEN
        CREATE INDEX "BulkAction_running_idx" ON "BulkAction" ("nextAt") WHERE "state" = 'RUNNING';
    END IF;
END $$;
CALL ailydian_build_index('BulkAction', 'createdAt');
