-- ============================================================================================
-- Messages: conversations, what is remembered of them, answers kept for their next question
--
-- "Feedback" names its message without a foreign key: the platform may write a row whose message is
-- gone. The keys are the platform's and global, so "queryHash" must be hashed with the tenant in it:
-- equal questions of two tenants are two rows.
-- ============================================================================================

CREATE TABLE IF NOT EXISTS "Conversation" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "userId"    TEXT NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "title"     TEXT,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "updatedAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"  TEXT,
    "analysis"  INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE IF NOT EXISTS "Message" (
    "id"             TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "conversationId" TEXT NOT NULL
                     REFERENCES "Conversation" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "role"           "MessageRole" NOT NULL,
    "content"        TEXT NOT NULL,
    "modelId"        TEXT REFERENCES "AIModel" ("id") ON DELETE SET NULL ON UPDATE CASCADE,
    "tokensIn"       INTEGER,
    "tokensOut"      INTEGER,
    "latencyMs"      INTEGER,
    "cost"           NUMERIC(20, 8),
    "createdAt"      TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"       TEXT,
    "intent"         TEXT
);

CREATE TABLE IF NOT EXISTS "ConversationMetadata" (
    "id"             TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "conversationId" TEXT NOT NULL UNIQUE
                     REFERENCES "Conversation" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "tags"           TEXT[] DEFAULT '{}',
    "sentiment"      DOUBLE PRECISION,
    "topic"          TEXT,
    -- ours
    "tenantId"       TEXT,
    "messages"       INTEGER,
    "language"       TEXT,
    "analysedAt"     TIMESTAMPTZ
);

CREATE TABLE IF NOT EXISTS "MessageEmbedding" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "messageId" TEXT NOT NULL UNIQUE
                REFERENCES "Message" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "embedding" vector(1536) NOT NULL,
    "model"     TEXT NOT NULL,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"  TEXT,
    "bits"      bit(1536)
);

CREATE TABLE IF NOT EXISTS "Feedback" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "messageId" TEXT NOT NULL,
    "userId"    TEXT NOT NULL,
    "rating"    INTEGER NOT NULL,
    "comment"   TEXT,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"  TEXT
);

CREATE TABLE IF NOT EXISTS "SemanticCache" (
    "id"             TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "queryHash"      TEXT NOT NULL UNIQUE,
    "queryEmbedding" vector(1536) NOT NULL,
    "response"       TEXT NOT NULL,
    "modelId"        TEXT NOT NULL,
    "hitCount"       INTEGER NOT NULL DEFAULT 0,
    "expiresAt"      TIMESTAMP(3) NOT NULL,
    "createdAt"      TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "lastAccessedAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"       TEXT DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "scope"          TEXT,
    "guard"          TEXT,
    "question"       TEXT,
    "citations"      JSONB,
    "costUsd"        NUMERIC(20, 8),
    "bits"           bit(1536),
    "tokensIn"       INTEGER,
    "tokensOut"      INTEGER
);

CALL ailydian_build_index('Conversation', 'userId');
CALL ailydian_build_index('Conversation', 'createdAt');
CALL ailydian_build_index('Message', 'conversationId');
CALL ailydian_build_index('Message', 'createdAt');
CALL ailydian_build_index('Message', 'modelId');
CALL ailydian_build_index('MessageEmbedding', 'model');
CALL ailydian_build_index('Feedback', 'messageId');
CALL ailydian_build_index('Feedback', 'userId');
CALL ailydian_build_index('Feedback', 'createdAt');
CALL ailydian_build_index('SemanticCache', 'expiresAt');
CALL ailydian_build_index('SemanticCache', 'modelId');
CALL ailydian_build_index('SemanticCache', 'tenantId', 'modelId');

COMMENT ON TABLE "Conversation" IS 'A thread of messages; updatedAt moves with the newest one.';
COMMENT ON TABLE "Message" IS 'One turn: what was said, by which model, at what cost.';
COMMENT ON TABLE "ConversationMetadata" IS 'Topic, tags and sentiment of a conversation.';
COMMENT ON TABLE "MessageEmbedding" IS 'The vector of a message, for recall, topics and the cache.';
COMMENT ON TABLE "Feedback" IS 'A person''s rating of a message; the last one counts.';
COMMENT ON TABLE "SemanticCache" IS 'Answers given before, found by hash and then by nearness.';
-- Our columns in the platform's tables; in a new database and in an old one.
CALL ailydian_build_index('MessageEmbedding', 'tenantId', 'model');

CREATE TABLE IF NOT EXISTS "CacheSource" (
    "tenantId"   TEXT NOT NULL DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "entryId"    TEXT NOT NULL REFERENCES "SemanticCache" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "documentId" TEXT NOT NULL,
    PRIMARY KEY ("tenantId", "entryId", "documentId")
);
CALL ailydian_build_index('CacheSource', 'tenantId', 'documentId');
CALL ailydian_build_index('CacheSource', 'entryId');
CALL ailydian_build_index('SemanticCache', 'tenantId', 'scope', 'guard');
COMMENT ON TABLE "CacheSource" IS 'The documents a cached answer rests on; one changes, it goes.';

DO $$
BEGIN
    IF to_regclass('public."SemanticCache_response_idx"') IS NULL THEN
        -- A hit writes its count into the page the entry is in, and touches no index.
        ALTER TABLE "SemanticCache" SET (fillfactor = 80);
        CREATE INDEX "SemanticCache_response_idx" ON "SemanticCache" ("tenantId", md5("response"));
    END IF;
END $$;
