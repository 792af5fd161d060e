-- ============================================================================================
-- Workflow: the engine
--
-- A run is data: one row a step, each with a counter of the needs that are still open. Finishing a
-- step is one call: it proves its fence, keeps the output, counts down what depends on it, hands
-- the worker one step that became ready and the ledger the others, and ends the run with its last
-- step, all in the caller's transaction. Nothing is replayed and nothing polls, so a step costs the
-- same in a run of ten and of a hundred thousand.
--
-- Ids are made of places: a step is RUN/POSITION, an item of a mapped step is RUN/POSITION/INDEX,
-- so that a step's neighbours are found by primary key.
--
-- A *walker* is a job `run_step`: its row moves along the graph with its worker ("stepId", with a new
-- fence and its own count of attempts at each step). A step that is a job of another kind is that
-- job: whatever ends it, a receipt, a dead letter, a cancellation, finishes the step as that
-- transaction commits (trigger "step").
--
--     pending -> ready -> running -> completed | skipped | failed | cancelled
--                            `-> waiting (for a row of "WorkflowWait") -> ...
--
-- Lock order: "Job", then steps from upstream to downstream (by id where there are several), then the
-- run. Acts on a whole run lock the run first and never wait for a step: a locked step is just being
-- finished, and starting the steps that it opened checks the run again.
-- ============================================================================================

CREATE TABLE IF NOT EXISTS "Workflow" (
    "id"          TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "name"        TEXT NOT NULL,
    "description" TEXT,
    "dag"         JSONB NOT NULL,
    "createdAt"   TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "updatedAt"   TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"    TEXT DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "version"     INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE IF NOT EXISTS "WorkflowRun" (
    "id"          TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "workflowId"  TEXT NOT NULL REFERENCES "Workflow" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "status"      "WorkflowStatus" NOT NULL,
    "input"       JSONB,
    "output"      JSONB,
    "error"       TEXT,
    "startedAt"   TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "completedAt" TIMESTAMP(3),
    -- ours, of the engine
    "tenantId"       TEXT,
    "versionId"      TEXT,
    "state"          TEXT,
    "key"            TEXT,
    "concurrencyKey" TEXT,
    "parentStepId"   TEXT,
    "depth"          SMALLINT NOT NULL DEFAULT 0,
    "forkOf"         TEXT,
    "endsOpen"       INTEGER,
    "failedStepId"   TEXT,
    "fingerprint"    TEXT,
    "producer"       TEXT,
    "traceparent"    TEXT
) WITH (fillfactor = 70);

CREATE TABLE IF NOT EXISTS "WorkflowStep" (
    "id"          TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "runId"       TEXT NOT NULL REFERENCES "WorkflowRun" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "stepName"    TEXT NOT NULL,
    "status"      "WorkflowStatus" NOT NULL,
    "input"       JSONB,
    "output"      JSONB,
    "error"       TEXT,
    "startedAt"   TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "completedAt" TIMESTAMP(3),
    -- ours, of the engine
    "tenantId"    TEXT,
    "position"    INTEGER,
    "itemIndex"   INTEGER,
    "item"        JSONB,
    "state"       TEXT,
    "openNeeds"   INTEGER NOT NULL DEFAULT 0,
    "liveNeeds"   INTEGER NOT NULL DEFAULT 0,
    "items"       INTEGER,
    "openItems"   INTEGER,
    "nextItem"    INTEGER,
    "attempt"     INTEGER NOT NULL DEFAULT 0,
    "jobId"       TEXT,
    "fence"       BIGINT,
    "fingerprint" TEXT,
    "progress"    REAL,
    "note"        TEXT
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);

CALL ailydian_build_index('Workflow', 'name');
CALL ailydian_build_index('Workflow', 'tenantId');
CALL ailydian_build_index('WorkflowRun', 'workflowId');
CALL ailydian_build_index('WorkflowRun', 'status');
CALL ailydian_build_index('WorkflowStep', 'runId');

COMMENT ON TABLE "Workflow" IS 'A definition: a graph of steps, checked before it may run.';
COMMENT ON TABLE "WorkflowRun" IS 'One run of a workflow: its input, its state, its output.';
COMMENT ON TABLE "WorkflowStep" IS 'One step of a run; a mapped step has one row an item.';
CREATE TABLE IF NOT EXISTS "WorkflowVersion" (
    "id"         TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "tenantId"   TEXT NOT NULL,
    "workflowId" TEXT NOT NULL REFERENCES "Workflow" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "version"    INTEGER NOT NULL,
    "definition" JSONB NOT NULL,
    "digest"     TEXT NOT NULL,
    "steps"      INTEGER NOT NULL,
    "ends"       INTEGER NOT NULL,
    "timeoutS"   DOUBLE PRECISION NOT NULL,
    "createdBy"  TEXT,
    "createdAt"  TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT "WorkflowVersion_workflowId_version_key" UNIQUE ("workflowId", "version"),
    CONSTRAINT "WorkflowVersion_steps_check" CHECK ("steps" > 0 AND "ends" > 0)
);
COMMENT ON TABLE "WorkflowVersion" IS
    'A definition as it was put: a run keeps the version it started with.';

CREATE TABLE IF NOT EXISTS "WorkflowNode" (
    "tenantId"    TEXT NOT NULL,
    "versionId"   TEXT NOT NULL REFERENCES "WorkflowVersion" ("id") ON DELETE CASCADE,
    "position"    INTEGER NOT NULL,
    "name"        TEXT NOT NULL,
    "uses"        TEXT NOT NULL,
    "spec"        JSONB NOT NULL,
    "needs"       INTEGER NOT NULL,
    "dependents"  INTEGER[] NOT NULL,
    "reads"       INTEGER[] NOT NULL,
    "listReads"   INTEGER[] NOT NULL,
    "compensates" INTEGER,
    "mapped"      BOOLEAN NOT NULL,
    "onError"     TEXT NOT NULL,
    "attemptsMax" INTEGER NOT NULL,
    "backoffS"    REAL,
    "timeoutS"    REAL,
    PRIMARY KEY ("versionId", "position"),
    CONSTRAINT "WorkflowNode_onError_check" CHECK ("onError" IN ('fail', 'continue', 'compensate'))
);
COMMENT ON TABLE "WorkflowNode" IS
    'A step of a version, compiled: positions in topological order, and who depends on it.';

CREATE TABLE IF NOT EXISTS "WorkflowWait" (
    "id"        TEXT PRIMARY KEY,
    "tenantId"  TEXT NOT NULL,
    "runId"     TEXT NOT NULL REFERENCES "WorkflowRun" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "what"      TEXT NOT NULL,
    "name"      TEXT NOT NULL DEFAULT '',
    "dueAt"     TIMESTAMPTZ,
    "createdAt" TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT "WorkflowWait_what_check"
        CHECK ("what" IN ('timer', 'signal', 'approval', 'run', 'slot', 'deadline')),
    CONSTRAINT "WorkflowWait_timer_check" CHECK ("what" NOT IN ('timer', 'deadline')
                                                 OR "dueAt" IS NOT NULL)
);
COMMENT ON TABLE "WorkflowWait" IS
    'What a waiting step waits for, under the step''s id; under the run''s id, its deadline.';
CALL ailydian_build_index('WorkflowWait', 'runId');

CREATE TABLE IF NOT EXISTS "WorkflowSignal" (
    "tenantId" TEXT NOT NULL,
    "runId"    TEXT NOT NULL REFERENCES "WorkflowRun" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "seq"      BIGINT GENERATED ALWAYS AS IDENTITY,
    "name"     TEXT NOT NULL,
    "payload"  JSONB,
    "sentBy"   TEXT,
    "sentAt"   TIMESTAMPTZ NOT NULL DEFAULT now(),
    "takenBy"  TEXT,
    PRIMARY KEY ("runId", "seq")
);
COMMENT ON TABLE "WorkflowSignal" IS
    'Signals sent to a run, in order; one that came before its step waits here.';

CREATE TABLE IF NOT EXISTS "WorkflowSlot" (
    "tenantId" TEXT NOT NULL,
    "key"      TEXT NOT NULL,
    "seq"      BIGINT GENERATED ALWAYS AS IDENTITY,
    "holder"   TEXT NOT NULL,
    "runId"    TEXT NOT NULL REFERENCES "WorkflowRun" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    PRIMARY KEY ("tenantId", "key", "seq")
);
COMMENT ON TABLE "WorkflowSlot" IS
    'Concurrency keys: the first row of a key goes (holder: a run or a step), the others wait.';
CALL ailydian_build_index('WorkflowSlot', 'runId');

CREATE TABLE IF NOT EXISTS "WorkflowOutput" (
    "stepId"   TEXT PRIMARY KEY REFERENCES "WorkflowStep" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "tenantId" TEXT NOT NULL,
    "output"   JSONB NOT NULL
);
COMMENT ON TABLE "WorkflowOutput" IS
    'Outputs too large for their step''s row, which then says only how large.';

DO $$
BEGIN
    IF to_regclass('public."WorkflowWait_dueAt_idx"') IS NULL THEN
        CREATE INDEX "WorkflowWait_dueAt_idx" ON "WorkflowWait" ("dueAt") WHERE "dueAt" IS NOT NULL;
        CREATE UNIQUE INDEX "WorkflowRun_workflowId_key_key" ON "WorkflowRun" ("workflowId", "key")
            WHERE "key" IS NOT NULL;
        -- Runs as people look for them; none names a column that changes with each step.
        CREATE INDEX "WorkflowRun_workflowId_startedAt_idx"
            ON "WorkflowRun" ("workflowId", "startedAt");
        CREATE INDEX "WorkflowRun_workflowId_state_startedAt_idx"
            ON "WorkflowRun" ("workflowId", "state", "startedAt") WHERE "state" <> 'completed';
        CREATE INDEX "WorkflowRun_workflowId_fingerprint_startedAt_idx"
            ON "WorkflowRun" ("workflowId", "fingerprint", "startedAt")
            WHERE "fingerprint" IS NOT NULL;
        CREATE INDEX "WorkflowRun_parentStepId_idx" ON "WorkflowRun" ("parentStepId")
            WHERE "parentStepId" IS NOT NULL;
        CREATE INDEX "WorkflowRun_failed_idx" ON "WorkflowRun" ("completedAt")
            WHERE "state" = 'failed';
    END IF;
END $$;

-- Runs that have not ended, in the order of their ids: what the sweep walks along.
DO $$
BEGIN
    IF to_regclass('public."WorkflowRun_live_idx"') IS NULL THEN
        CREATE INDEX "WorkflowRun_live_idx" ON "WorkflowRun" ("id")
            WHERE "status" IN ('PENDING', 'RUNNING');
    END IF;
END $$;
