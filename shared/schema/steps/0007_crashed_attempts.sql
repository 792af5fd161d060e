-- online: version 3. Crash loops are seen by the attempts that ended with their process.
DROP INDEX CONCURRENTLY IF EXISTS "JobAttempt_crashed_idx";
CREATE INDEX CONCURRENTLY IF NOT EXISTS "JobAttempt_crashed_idx" ON "JobAttempt" ("endedAt")
    WHERE "verdict" = 'crashed' OR "signal" IS NOT NULL;
