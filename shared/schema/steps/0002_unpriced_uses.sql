-- Requests of a model that has no price in the catalogue: counted, and of unknown cost.
ALTER TABLE "ModelUse" ADD COLUMN IF NOT EXISTS "unpriced" BIGINT NOT NULL DEFAULT 0;
ALTER TABLE "ModelUse" ALTER COLUMN "costUsd" DROP NOT NULL;
