-- ============================================================================================
-- Ledger: jobs from publish to their end
--
-- One row of "Job" is one accepted job; an INSERT into it is the whole contract for publishers,
-- in Python or in SQL. The place of a waiting or running job is shown by its other row, of which
-- it has exactly one:
--
--     "JobOutbox"   waiting: to be due, and for its turn          state PENDING
--     "JobFlight"   woken up in Redis, or running under a lease   state PENDING, then RUNNING
--     neither       ended                                         COMPLETED, DEAD, CANCELLED
--
-- "Job" has no index on a column that changes, so that its transitions stay HOT (fillfactor 50
-- leaves them room on the page); the two small tables carry the indexes that find work. `fence`
-- grows with each claim: an attempt may write only while the fence it was given still stands.
-- Times here are Postgres's own: no other clock decides a lease, a delay or a retry.
--
-- In the outbox a lane is what waits in one order: a queue, a tenant, a kind, a limit key and a
-- priority. Fair shares, holds and limits look at lanes, never at the rows behind their heads.
-- "JobEvent" notes every ending in the transaction that ends; batches, figures, followers and
-- retention read it by position, so that none of them needs an index on the ledger. An event gets its
-- place by a row of "EventFold", which names the transactions that had ended: nothing is written at the
-- event. An inbox that is moved from, or a number updated into the event, would write each twice, and
-- leave dead rows at the head of what is read when an open transaction keeps vacuum from them.
-- ============================================================================================

CREATE TABLE IF NOT EXISTS "JobKind" (
    "job"           TEXT PRIMARY KEY,
    "queue"         TEXT NOT NULL,
    "schemaVersion" INTEGER NOT NULL,
    "attemptsMax"   INTEGER NOT NULL,
    "audience"      TEXT NOT NULL DEFAULT 'anyone',
    CONSTRAINT "JobKind_attemptsMax_check" CHECK ("attemptsMax" > 0)
);
COMMENT ON TABLE "JobKind" IS
    'The contracts of shared/contracts.py, written by migrate: SQL publishers need name no queue.';

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

CREATE TABLE IF NOT EXISTS "HttpAnswer" (
    "tenantId"    TEXT NOT NULL,
    "key"         TEXT NOT NULL,
    "fingerprint" BYTEA NOT NULL,
    "status"      INTEGER NOT NULL,
    "headers"     JSONB NOT NULL,
    "body"        BYTEA NOT NULL,
    "createdAt"   TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY ("tenantId", "key")
);
COMMENT ON TABLE "HttpAnswer" IS
    'What a request with an Idempotency-Key was answered: its repetition is answered the same.';

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

CREATE TABLE IF NOT EXISTS "QueueState" (
    "queue"           TEXT PRIMARY KEY,
    "depth"           BIGINT NOT NULL DEFAULT 0,
    "depthMax"        BIGINT NOT NULL DEFAULT 5000000,
    "measuredAt"      TIMESTAMPTZ NOT NULL DEFAULT now(),
    "keepDone"        INTERVAL NOT NULL DEFAULT '30 days',
    "keepDead"        INTERVAL NOT NULL DEFAULT '180 days',
    "keepQuarantined" INTERVAL NOT NULL DEFAULT '30 days'
);
COMMENT ON TABLE "QueueState" IS
    'The depth of a queue as the relay last counted it, and how long what has ended is kept.';

CREATE TABLE IF NOT EXISTS "TenantDepth" (
    "tenantId"   TEXT NOT NULL,
    "queue"      TEXT NOT NULL,
    "depth"      BIGINT NOT NULL,
    "measuredAt" TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY ("tenantId", "queue")
);
COMMENT ON TABLE "TenantDepth" IS
    'Tenants that fill their share of a queue, as the relay last counted: more of theirs is refused.';

CREATE TABLE IF NOT EXISTS "JobHold" (
    "id"       TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "queue"    TEXT,
    "tenantId" TEXT,
    "job"      TEXT,
    "heldBy"   TEXT NOT NULL,
    "heldAt"   TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT "JobHold_scope_check" CHECK (num_nonnulls("queue", "tenantId", "job") > 0)
);
COMMENT ON TABLE "JobHold" IS
    'What is paused: a queue, a tenant, a kind of job, or where the named ones meet.';

CREATE TABLE IF NOT EXISTS "JobLimit" (
    "id"             TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "tenantId"       TEXT,
    "tier"           TEXT,
    "job"            TEXT,
    "perKey"         BOOLEAN NOT NULL DEFAULT false,
    "concurrencyMax" INTEGER,
    "ratePerS"       DOUBLE PRECISION,
    "burst"          DOUBLE PRECISION NOT NULL DEFAULT 1,
    "unit"           TEXT NOT NULL DEFAULT 'jobs',
    "setAt"          TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT "JobLimit_scope_check"
        CHECK (num_nonnulls("tenantId", "tier") < 2 AND num_nonnulls("tenantId", "tier", "job") > 0),
    CONSTRAINT "JobLimit_amount_check"
        CHECK (num_nonnulls("concurrencyMax", "ratePerS") > 0 AND "concurrencyMax" > 0
               AND "ratePerS" > 0 AND "burst" > 0),
    CONSTRAINT "JobLimit_unit_check" CHECK ("unit" IN ('jobs', 'cost'))
);
COMMENT ON TABLE "JobLimit" IS
    'How much may run at once or start a second: of a tenant, of each tenant of a tier, of a kind of '
    'job, or of each limit key among these. A tenant''s own takes the place of its tier''s.';

CREATE TABLE IF NOT EXISTS "JobLimitUse" (
    "limitId"    TEXT NOT NULL REFERENCES "JobLimit" ("id") ON DELETE CASCADE,
    "tenantId"   TEXT NOT NULL,
    "limitKey"   TEXT NOT NULL,
    "spentUntil" TIMESTAMPTZ NOT NULL,
    PRIMARY KEY ("limitId", "tenantId", "limitKey")
) WITH (fillfactor = 50);
COMMENT ON TABLE "JobLimitUse" IS 'Until when a rate is spent: one time per counter.';

DO $$
BEGIN
    IF to_regclass('public."JobHold_scope_key"') IS NULL THEN
        CREATE UNIQUE INDEX "JobHold_scope_key" ON "JobHold"
            (coalesce("tenantId", ''), coalesce("queue", ''), coalesce("job", ''));
        CREATE UNIQUE INDEX "JobLimit_scope_key" ON "JobLimit"
            (coalesce("tenantId", ''), coalesce("tier", ''), coalesce("job", ''), "perKey");
    END IF;
END $$;

-- A domain, so that the payload is checked when it is written, and by no later transition.
DO $$
BEGIN
    IF to_regtype('public."JobPayload"') IS NULL THEN
        CREATE DOMAIN "JobPayload" AS JSONB
            CONSTRAINT "JobPayload_check"
            CHECK (jsonb_typeof(VALUE) = 'object' AND pg_column_size(VALUE) <= 131072);
        CREATE DOMAIN "JobPriority" AS SMALLINT
            CONSTRAINT "JobPriority_check" CHECK (VALUE BETWEEN -9 AND 9);
        CREATE DOMAIN "JobLimitKey" AS TEXT
            CONSTRAINT "JobLimitKey_check" CHECK (length(VALUE) <= 256);
        CREATE DOMAIN "JobCost" AS INTEGER CONSTRAINT "JobCost_check" CHECK (VALUE >= 0);
    END IF;
END $$;

-- What Python could not read, or would read as another number, is refused when it is written. The same
-- limits are in shared/json_values.py. NOT VALID, as the step has it: no table is read through.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_constraint WHERE conname = 'JobPayload_depth_check') THEN
        ALTER DOMAIN "JobPayload" ADD CONSTRAINT "JobPayload_depth_check"
            CHECK (NOT VALUE @? 'strict $.**{100} ? (@.type() == "object" || @.type() == "array")')
            NOT VALID;
        ALTER DOMAIN "JobPayload" ADD CONSTRAINT "JobPayload_number_check"
            CHECK (NOT VALUE @? 'strict $.** ? (@.type() == "number" && (@ > 1e308 || @ < -1e308
                || @ > 0 && @ < 4e-324 || @ < 0 && @ > -4e-324))')
            NOT VALID;
    END IF;
END $$;

CREATE TABLE IF NOT EXISTS "Job" (
    "id"            TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "tenantId"      TEXT NOT NULL DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "job"           TEXT NOT NULL,
    "queue"         TEXT NOT NULL,
    "payload"       "JobPayload" NOT NULL DEFAULT '{}',
    "schemaVersion" INTEGER NOT NULL DEFAULT 1,
    "key"           TEXT,
    "priority"      "JobPriority" NOT NULL DEFAULT 0,
    "limitKey"      "JobLimitKey" NOT NULL DEFAULT '',
    "cost"          "JobCost" NOT NULL DEFAULT 1,
    "parentId"      TEXT,
    "stepId"        TEXT,
    "batchId"       TEXT,
    "producer"      TEXT,
    "traceparent"   TEXT,
    "state"         TEXT NOT NULL DEFAULT 'PENDING',
    "waitingFor"    TEXT,
    "dueAt"         TIMESTAMPTZ NOT NULL DEFAULT now(),
    "attempt"       INTEGER NOT NULL DEFAULT 0,
    "attemptsMax"   INTEGER NOT NULL DEFAULT 8,
    "crashes"       INTEGER NOT NULL DEFAULT 0,
    "timeLimitS"    REAL,
    "backoffS"      REAL,
    "fence"         BIGINT NOT NULL DEFAULT 0,
    "worker"        TEXT,
    "leaseUntil"    TIMESTAMPTZ,
    "createdAt"     TIMESTAMPTZ NOT NULL DEFAULT now(),
    "startedAt"     TIMESTAMPTZ,
    "finishedAt"    TIMESTAMPTZ,
    "error"         TEXT,
    "outcome"       JSONB,
    -- One CHECK, not four: each is set up again for every UPDATE, and a job has two.
    CONSTRAINT "Job_state_check" CHECK (CASE "state"
        WHEN 'PENDING' THEN "leaseUntil" IS NULL AND "finishedAt" IS NULL
        WHEN 'RUNNING' THEN "leaseUntil" IS NOT NULL AND "finishedAt" IS NULL
        WHEN 'COMPLETED' THEN "leaseUntil" IS NULL AND "finishedAt" IS NOT NULL
        WHEN 'DEAD' THEN "leaseUntil" IS NULL AND "finishedAt" IS NOT NULL
        WHEN 'CANCELLED' THEN "leaseUntil" IS NULL AND "finishedAt" IS NOT NULL
        ELSE false END)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
COMMENT ON TABLE "Job" IS 'The ledger: every accepted job, its state and its fence.';
CALL ailydian_build_index('Job', 'tenantId', 'createdAt');

DO $$
BEGIN
    IF to_regclass('public."Job_tenantId_job_key_key"') IS NULL THEN
        CREATE UNIQUE INDEX "Job_tenantId_job_key_key" ON "Job" ("tenantId", "job", "key")
            WHERE "key" IS NOT NULL;
    END IF;
END $$;

CREATE TABLE IF NOT EXISTS "JobOutbox" (
    "queue"    TEXT NOT NULL,
    "tenantId" TEXT NOT NULL,
    "job"      TEXT NOT NULL,
    "limitKey" TEXT NOT NULL DEFAULT '',
    "priority" SMALLINT NOT NULL DEFAULT 0,
    "dueAt"    TIMESTAMPTZ NOT NULL,
    "seq"      BIGINT GENERATED ALWAYS AS IDENTITY,
    "jobId"    TEXT NOT NULL,
    "attempt"  INTEGER NOT NULL,
    "cost"     INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY ("queue", "tenantId", "job", "limitKey", "priority", "dueAt", "seq")
) WITH (autovacuum_vacuum_scale_factor = 0.05);
COMMENT ON TABLE "JobOutbox" IS 'Jobs that wait for the relay: due ones and delayed ones.';

CREATE TABLE IF NOT EXISTS "JobFlight" (
    "jobId"    TEXT PRIMARY KEY,
    "tenantId" TEXT NOT NULL,
    "queue"    TEXT NOT NULL,
    "job"      TEXT NOT NULL DEFAULT '',
    "limitKey" TEXT NOT NULL DEFAULT '',
    "attempt"  INTEGER NOT NULL,
    "sentAt"   TIMESTAMPTZ NOT NULL DEFAULT now()
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
COMMENT ON TABLE "JobFlight" IS
    'Jobs woken up in Redis or running: small, so the sweep that finds lost ones stays cheap.';

CREATE TABLE IF NOT EXISTS "JobAttempt" (
    "tenantId"  TEXT NOT NULL,
    "jobId"     TEXT NOT NULL REFERENCES "Job" ("id") ON DELETE CASCADE,
    "fence"     BIGINT NOT NULL,
    "attempt"   INTEGER NOT NULL,
    "worker"    TEXT,
    "startedAt" TIMESTAMPTZ,
    "endedAt"   TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    "verdict"   TEXT NOT NULL,
    "errorType" TEXT,
    "error"     TEXT,
    "traceback" TEXT,
    "signal"    TEXT,
    "exitCode"  INTEGER,
    "peakBytes" BIGINT,
    "fingerprint" TEXT,
    "stepId"      TEXT,
    PRIMARY KEY ("jobId", "fence"),
    CONSTRAINT "JobAttempt_verdict_check"
        CHECK ("verdict" IN ('failed', 'refused', 'crashed', 'timed_out', 'lapsed'))
);
COMMENT ON TABLE "JobAttempt" IS 'Every attempt that did not end well: when, where and why.';

DO $$
BEGIN
    IF to_regclass('public."JobAttempt_crashed_idx"') IS NULL THEN
        CREATE INDEX "JobAttempt_crashed_idx" ON "JobAttempt" ("endedAt")
            WHERE "verdict" = 'crashed' OR "signal" IS NOT NULL;
    END IF;
END $$;

CREATE TABLE IF NOT EXISTS "DeadLetter" (
    "id"          TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "tenantId"    TEXT NOT NULL,
    "jobId"       TEXT NOT NULL REFERENCES "Job" ("id") ON DELETE CASCADE,
    "job"         TEXT NOT NULL,
    "queue"       TEXT NOT NULL,
    "attempts"    INTEGER NOT NULL,
    "reason"      TEXT NOT NULL,
    "error"       TEXT NOT NULL,
    "fingerprint" TEXT NOT NULL,
    "diedAt"      TIMESTAMPTZ NOT NULL DEFAULT now(),
    "edits"       JSONB NOT NULL DEFAULT '[]',
    CONSTRAINT "DeadLetter_tenantId_jobId_key" UNIQUE ("tenantId", "jobId"),
    CONSTRAINT "DeadLetter_reason_check"
        CHECK ("reason" IN ('permanent', 'exhausted', 'poison'))
);
COMMENT ON TABLE "DeadLetter" IS 'Jobs that wait for an operator.';
CALL ailydian_build_index('DeadLetter', 'tenantId', 'diedAt');
CALL ailydian_build_index('DeadLetter', 'queue', 'fingerprint');
CALL ailydian_build_index('DeadLetter', 'jobId');

CREATE TABLE IF NOT EXISTS "Quarantine" (
    "id"         TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "queue"      TEXT NOT NULL,
    "reason"     TEXT NOT NULL,
    "message"    BYTEA NOT NULL,
    "bytes"      BIGINT NOT NULL,
    "sha256"     TEXT NOT NULL,
    "receivedAt" TIMESTAMPTZ NOT NULL DEFAULT now(),
    "source"     TEXT NOT NULL DEFAULT 'wakeup',
    "seen"       BIGINT NOT NULL DEFAULT 1,
    "seenAt"     TIMESTAMPTZ NOT NULL DEFAULT now(),
    "edits"      JSONB NOT NULL DEFAULT '[]'
);
COMMENT ON TABLE "Quarantine" IS
    'Invalid messages from Redis: the reason, the bytes (the first 64 kB), and how often the same '
    'ones arrived.';
CALL ailydian_build_index('Quarantine', 'receivedAt');

CREATE TABLE IF NOT EXISTS "WorkerProcess" (
    "id"        TEXT PRIMARY KEY,
    "host"      TEXT NOT NULL,
    "pid"       INTEGER NOT NULL,
    "queues"    TEXT[] NOT NULL,
    "threads"   INTEGER NOT NULL,
    "role"      TEXT NOT NULL DEFAULT 'worker',
    "figures"   JSONB NOT NULL DEFAULT '{}',
    "startedAt" TIMESTAMPTZ NOT NULL DEFAULT now(),
    "seenAt"    TIMESTAMPTZ NOT NULL DEFAULT now()
);
COMMENT ON TABLE "WorkerProcess" IS
    'Workers, relays and schedulers: when each was last heard of, and how it is.';

CREATE TABLE IF NOT EXISTS "JobEvent" (
    "xid"      XID8 NOT NULL DEFAULT pg_current_xact_id(),
    "position" BIGINT GENERATED ALWAYS AS IDENTITY,
    "tenantId" TEXT NOT NULL,
    "jobId"    TEXT NOT NULL,
    "job"      TEXT NOT NULL,
    "queue"    TEXT NOT NULL,
    "what"     TEXT NOT NULL,
    "batchId"  TEXT,
    "waitedS"  REAL,
    "tookS"    REAL,
    "at"       TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY ("xid", "position")
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
COMMENT ON TABLE "JobEvent" IS
    'COMPLETED, DEAD, CANCELLED, RETRY, REPLAYED, DISCARDED of a job; RUN_..., STEP_..., BATCH_... and '
    'INCIDENT_... of others, under their own ids, "job" their name: noted as it commits. Read in the order '
    'of "EventFold", and by "position" within a fold.';

CREATE TABLE IF NOT EXISTS "EventFold" (
    "fold"  XID8 PRIMARY KEY,
    "lows"  XID8[],
    "highs" XID8[],
    "upto"  XID8 NOT NULL,
    "open"  XID8[] NOT NULL,
    "foldedAt" TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT "EventFold_ranges_check" CHECK (cardinality("lows") = cardinality("highs"))
);
COMMENT ON TABLE "EventFold" IS
    'Whose events a fold holds: transactions from a low below its high, ended when it was made. Below '
    '"upto" all others but the "open" ones have been folded before. The first has no ranges: events of '
    'transactions below it, each with its transaction as its fold.';

CREATE TABLE IF NOT EXISTS "EventCursor" (
    "reader"   TEXT PRIMARY KEY,
    "xid"      XID8 NOT NULL,
    "position" BIGINT NOT NULL,
    "movedAt"  TIMESTAMPTZ NOT NULL DEFAULT now()
);
COMMENT ON TABLE "EventCursor" IS
    'How far each reader of "JobEvent" has come: "xid" is a fold, and "position" one in it.';

CREATE TABLE IF NOT EXISTS "JobStat" (
    "job"           TEXT PRIMARY KEY,
    "queue"         TEXT NOT NULL,
    "completed"     BIGINT NOT NULL DEFAULT 0,
    "dead"          BIGINT NOT NULL DEFAULT 0,
    "cancelled"     BIGINT NOT NULL DEFAULT 0,
    "retried"       BIGINT NOT NULL DEFAULT 0,
    "tookS"         DOUBLE PRECISION NOT NULL DEFAULT 0,
    "waitedS"       DOUBLE PRECISION NOT NULL DEFAULT 0,
    "tookBuckets"   BIGINT[] NOT NULL,
    "waitedBuckets" BIGINT[] NOT NULL,
    "donePerS"      DOUBLE PRECISION NOT NULL DEFAULT 0,
    "foldedAt"      TIMESTAMPTZ NOT NULL DEFAULT now()
);
COMMENT ON TABLE "JobStat" IS
    'What became of all jobs of a kind, how long they waited and took: counters that only grow.';

CREATE TABLE IF NOT EXISTS "JobBatch" (
    "tenantId"    TEXT NOT NULL DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "id"          TEXT NOT NULL DEFAULT ailydian_new_id(),
    "name"        TEXT NOT NULL,
    "total"       INTEGER NOT NULL DEFAULT 0,
    "completed"   INTEGER NOT NULL DEFAULT 0,
    "dead"        INTEGER NOT NULL DEFAULT 0,
    "cancelled"   INTEGER NOT NULL DEFAULT 0,
    "thenJob"     TEXT,
    "thenPayload" "JobPayload",
    "thenId"      TEXT,
    "createdAt"   TIMESTAMPTZ NOT NULL DEFAULT now(),
    "sealedAt"    TIMESTAMPTZ,
    "finishedAt"  TIMESTAMPTZ,
    PRIMARY KEY ("tenantId", "id"),
    CONSTRAINT "JobBatch_then_check" CHECK (("thenJob" IS NULL) = ("thenPayload" IS NULL)),
    CONSTRAINT "JobBatch_finished_check" CHECK ("finishedAt" IS NULL OR "sealedAt" IS NOT NULL)
) WITH (fillfactor = 50);
COMMENT ON TABLE "JobBatch" IS
    'Jobs published together: how many have ended and how, and what follows when all have.';

CREATE TABLE IF NOT EXISTS "Schedule" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "tenantId"  TEXT DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "name"      TEXT NOT NULL,
    "cron"      TEXT NOT NULL,
    "timeZone"  TEXT NOT NULL DEFAULT 'UTC',
    "jitterS"   INTEGER NOT NULL DEFAULT 0,
    "missed"    TEXT NOT NULL DEFAULT 'once',
    "job"       TEXT,
    "payload"   "JobPayload" NOT NULL DEFAULT '{}',
    "sweep"     TEXT,
    "enabled"   BOOLEAN NOT NULL DEFAULT true,
    "slotAt"    TIMESTAMPTZ NOT NULL,
    "nextAt"    TIMESTAMPTZ NOT NULL,
    "ranSlotAt" TIMESTAMPTZ,
    "ranAt"     TIMESTAMPTZ,
    "lastJobId" TEXT,
    "error"     TEXT,
    "createdAt" TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT "Schedule_missed_check" CHECK ("missed" IN ('once', 'skip', 'all')),
    CONSTRAINT "Schedule_jitterS_check" CHECK ("jitterS" BETWEEN 0 AND 86400),
    CONSTRAINT "Schedule_what_check" CHECK (CASE WHEN "tenantId" IS NULL
        THEN "sweep" IS NOT NULL AND "job" IS NULL
        ELSE "sweep" IS NULL AND "job" IS NOT NULL END)
);
COMMENT ON TABLE "Schedule" IS
    'What is done by the clock: a tenant''s job, or a sweep of the system. "slotAt" is the next slot, '
    '"nextAt" the same with its jitter.';
CALL ailydian_build_index('Schedule', 'nextAt');
CALL ailydian_build_index('HttpAnswer', 'createdAt');

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

CREATE TABLE IF NOT EXISTS "ProbeEntry" (
    "id"       TEXT NOT NULL DEFAULT ailydian_new_id(),
    "tenantId" TEXT NOT NULL DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "jobId"    TEXT NOT NULL,
    "n"        INTEGER NOT NULL,
    "wroteAt"  TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY ("tenantId", "id")
);
COMMENT ON TABLE "ProbeEntry" IS
    'One row an effect of a probe job: exactly one a job, whatever happened on the way.';

DO $$
BEGIN
    IF to_regclass('public."Schedule_tenantId_name_key"') IS NULL THEN
        CREATE UNIQUE INDEX "Schedule_tenantId_name_key" ON "Schedule"
            (coalesce("tenantId", ''), "name");
        CREATE INDEX "JobBatch_unfinished_idx" ON "JobBatch" ("tenantId", "id")
            WHERE "finishedAt" IS NULL;
        CREATE UNIQUE INDEX "Quarantine_queue_sha256_key" ON "Quarantine" ("queue", "sha256");
    END IF;
END $$;
