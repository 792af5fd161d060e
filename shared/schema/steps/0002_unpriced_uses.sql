-- Version 2. Functions were cut by duty, and name their parameters p_ and their variables v_; a step
-- tells a database of this version from one of version 1, whose functions schema.sql by hand could
-- not replace.

-- Requests of a model that has no price in the catalogue: counted, and of unknown cost.
ALTER TABLE "ModelUse" ADD COLUMN IF NOT EXISTS "unpriced" BIGINT NOT NULL DEFAULT 0;
ALTER TABLE "ModelUse" ALTER COLUMN "costUsd" DROP NOT NULL;
COMMENT ON TABLE "Quarantine" IS
    'Invalid messages from Redis: the reason, the bytes (the first 64 kB), and how often the same '
    'ones arrived.';
