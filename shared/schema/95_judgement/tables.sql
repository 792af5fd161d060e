-- ============================================================================================
-- Judgement
--
-- Verdicts and scores of messages, people, models and answers. "ExplainabilityLog" and
-- "ModerationResult" name what they are about without a foreign key: the platform may write a row
-- whose message is gone. Three rules hold for all, and for the arms of "models".
-- A score is computed from rows that are kept, so that it can be computed again: trust from
-- "TrustEvent", a bandit's arms from "ArmReward", a calibration from pairs of scores. What may come
-- twice, late or in another order is keyed by the fact it is about, and the last word about a fact
-- replaces the one before it. And what was withdrawn (an appeal granted, a document changed, a
-- rating taken back) is undone by the same statement that would have done it.
-- ============================================================================================

CREATE TABLE IF NOT EXISTS "QualityScore" (
    "id"             TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "messageId"      TEXT NOT NULL UNIQUE
                     REFERENCES "Message" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "estimatedScore" DOUBLE PRECISION NOT NULL,
    "actualScore"    DOUBLE PRECISION,
    "metrics"        JSONB,
    "createdAt"      TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"       TEXT
);

CREATE TABLE IF NOT EXISTS "Provenance" (
    "id"             TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "messageId"      TEXT NOT NULL UNIQUE
                     REFERENCES "Message" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "modelId"        TEXT NOT NULL,
    "inputHash"      TEXT NOT NULL,
    "outputHash"     TEXT NOT NULL,
    "watermark"      TEXT,
    "citations"      JSONB,
    "createdAt"      TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"       TEXT,
    "questionId"     TEXT,
    "questionSha256" TEXT,
    "inputs"         JSONB,
    "keyId"          TEXT
);

CREATE TABLE IF NOT EXISTS "ExplainabilityLog" (
    "id"         TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "messageId"  TEXT NOT NULL,
    "method"     TEXT NOT NULL,
    "features"   JSONB NOT NULL,
    "importance" JSONB NOT NULL,
    "createdAt"  TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"   TEXT,
    "subject"    TEXT,
    "subjectId"  TEXT
);

CREATE TABLE IF NOT EXISTS "ModerationResult" (
    "id"            TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "contentId"     TEXT NOT NULL,
    "contentType"   TEXT NOT NULL,
    "flagged"       BOOLEAN NOT NULL,
    "categories"    TEXT[] DEFAULT '{}',
    "scores"        JSONB NOT NULL,
    "action"        TEXT,
    "createdAt"     TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"      TEXT,
    "userId"        TEXT,
    "engine"        TEXT,
    "contentSha256" TEXT,
    "policyVersion" INTEGER,
    "superseded"    BOOLEAN NOT NULL DEFAULT false
);

CREATE TABLE IF NOT EXISTS "TrainingExample" (
    "id"          TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "prompt"      TEXT NOT NULL,
    "completion"  TEXT NOT NULL,
    "rating"      DOUBLE PRECISION NOT NULL,
    "source"      TEXT NOT NULL,
    "createdAt"   TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"    TEXT DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "messageId"   TEXT,
    "rejectedId"  TEXT,
    "userId"      TEXT,
    "rejected"    TEXT,
    "digest"      TEXT,
    "withdrawnAt" TIMESTAMPTZ
);
CALL ailydian_build_index('QualityScore', 'estimatedScore');
CALL ailydian_build_index('Provenance', 'inputHash');
CALL ailydian_build_index('Provenance', 'outputHash');
CALL ailydian_build_index('ExplainabilityLog', 'messageId');
CALL ailydian_build_index('ExplainabilityLog', 'method');
CALL ailydian_build_index('ModerationResult', 'contentId');
CALL ailydian_build_index('ModerationResult', 'flagged');
CALL ailydian_build_index('ModerationResult', 'createdAt');
CALL ailydian_build_index('TrainingExample', 'rating');
CALL ailydian_build_index('TrainingExample', 'source');
CALL ailydian_build_index('TrainingExample', 'tenantId');
COMMENT ON TABLE "QualityScore" IS 'How good an answer looked, and how good people found it.';
COMMENT ON TABLE "Provenance" IS 'Where an answer came from: hashes, citations, watermark.';
COMMENT ON TABLE "ExplainabilityLog" IS 'Which features made a score, and by how much.';
COMMENT ON TABLE "ModerationResult" IS 'The verdict on a message, a document or a comment.';
COMMENT ON TABLE "TrainingExample" IS 'Good pairs of prompt and completion, for fine-tuning.';

CREATE TABLE IF NOT EXISTS "TrustScore" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "userId"    TEXT NOT NULL UNIQUE,
    "score"     DOUBLE PRECISION NOT NULL,
    "factors"   JSONB NOT NULL,
    "updatedAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"  TEXT
);
CALL ailydian_build_index('TrustScore', 'score');
COMMENT ON TABLE "TrustScore" IS 'How far a person is trusted, with the factors that add up to it.';

CALL ailydian_build_index('ModerationResult', 'tenantId', 'contentId');
CALL ailydian_build_index('ExplainabilityLog', 'subjectId');
CALL ailydian_build_index('Provenance', 'tenantId', 'questionSha256');
CALL ailydian_build_index('TrainingExample', 'messageId');
CALL ailydian_build_index('TrainingExample', 'rejectedId');

CREATE TABLE IF NOT EXISTS "ModerationPolicy" (
    "tenantId"  TEXT NOT NULL DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "version"   INTEGER NOT NULL CHECK ("version" > 0),
    "policy"    JSONB NOT NULL,
    "createdBy" TEXT NOT NULL,
    "createdAt" TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY ("tenantId", "version")
);

CREATE TABLE IF NOT EXISTS "ModerationAppeal" (
    "tenantId"  TEXT NOT NULL DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "id"        TEXT NOT NULL DEFAULT ailydian_new_id(),
    "resultId"  TEXT NOT NULL,
    "reason"    TEXT NOT NULL,
    "state"     TEXT NOT NULL DEFAULT 'open',
    "openedBy"  TEXT NOT NULL,
    "openedAt"  TIMESTAMPTZ NOT NULL DEFAULT now(),
    "decidedBy" TEXT,
    "decidedAt" TIMESTAMPTZ,
    PRIMARY KEY ("tenantId", "id"),
    UNIQUE ("tenantId", "resultId"),
    CONSTRAINT "ModerationAppeal_state_check" CHECK ("state" IN ('open', 'granted', 'rejected')),
    CONSTRAINT "ModerationAppeal_decided_check"
        CHECK (("state" = 'open') = ("decidedAt" IS NULL AND "decidedBy" IS NULL))
);

CREATE TABLE IF NOT EXISTS "TrustEvent" (
    "tenantId"   TEXT NOT NULL DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "userId"     TEXT NOT NULL,
    "kind"       TEXT NOT NULL,
    "sourceId"   TEXT NOT NULL,
    "value"      DOUBLE PRECISION NOT NULL,
    "occurredAt" TIMESTAMPTZ NOT NULL,
    -- Of two words about one fact the one with the greater revision holds, in whatever order they
    -- come.
    "revision"   TIMESTAMPTZ NOT NULL,
    "withdrawn"  BOOLEAN NOT NULL DEFAULT false,
    PRIMARY KEY ("tenantId", "userId", "kind", "sourceId")
);

CREATE TABLE IF NOT EXISTS "QualityCalibration" (
    "tenantId"  TEXT NOT NULL DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "version"   INTEGER NOT NULL CHECK ("version" > 0),
    "method"    TEXT NOT NULL CHECK ("method" IN ('identity', 'platt', 'isotonic')),
    "curve"     JSONB NOT NULL,
    "pairs"     INTEGER NOT NULL CHECK ("pairs" >= 0),
    "errorRaw"  DOUBLE PRECISION NOT NULL,
    "error"     DOUBLE PRECISION NOT NULL,
    "createdAt" TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY ("tenantId", "version")
);

COMMENT ON TABLE "ModerationPolicy" IS 'What a tenant allows, flags and blocks; the last version holds.';
COMMENT ON TABLE "ModerationAppeal" IS 'An objection to a verdict; granted, its consequences are undone.';
COMMENT ON TABLE "TrustEvent" IS 'What speaks for or against a person; trust is computed from these.';
COMMENT ON TABLE "QualityCalibration" IS 'How estimates become probabilities; the last version holds.';

DO $$
BEGIN
    IF to_regclass('public."TrainingExample_digest_key"') IS NULL THEN
        CREATE UNIQUE INDEX "TrainingExample_digest_key" ON "TrainingExample" ("tenantId", "digest");
    END IF;
END $$;

DO $$
BEGIN
    IF to_regclass('public."QualityScore_rated_idx"') IS NULL THEN
        CREATE INDEX "QualityScore_rated_idx" ON "QualityScore" ("tenantId")
            WHERE "actualScore" IS NOT NULL;
    END IF;
END $$;

DO $$
BEGIN
    IF to_regclass('public."ModerationResult_flagged_newest_idx"') IS NULL THEN
        CREATE INDEX "ModerationResult_flagged_newest_idx" ON "ModerationResult" ("createdAt")
            WHERE "flagged" AND NOT "superseded";
        CREATE INDEX "QualityScore_rated_newest_idx" ON "QualityScore" ("tenantId", "createdAt")
            WHERE "actualScore" IS NOT NULL;
    END IF;
END $$;
