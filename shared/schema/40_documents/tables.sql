-- ============================================================================================
-- Documents and vectors
--
-- A document, its chunks, and three things made from each chunk: the platform's vector of the
-- live model, our row for vector search and our row for text search.
--
-- "ChunkVector" is scanned whole for a tenant and model: bits first, by Hamming distance, then the
-- best by cosine. The halfvec is stored out of line (EXTERNAL), so that scan reads 0.4 kB a row.
--
-- "ChunkText" under row level security: `@@` is not leakproof, so a policy keeps the planner from
-- the GIN index and every row of the tenant is tried. Text search therefore goes through SECURITY
-- DEFINER functions owned by ailydian_owner, whose policy is `true`; they name the tenant
-- themselves, by app.tenant_id. Their plan is a bitmap scan of "ChunkText_tsv_idx"
-- (tests/integration/operations/test_schema.py proves both plans).
-- ============================================================================================

CREATE TABLE IF NOT EXISTS "Document" (
    "id"             TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "tenantId"       TEXT,
    "title"          TEXT NOT NULL,
    "content"        TEXT NOT NULL,
    "source"         TEXT,
    "metadata"       JSONB,
    "createdAt"      TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "updatedAt"      TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "ingestKey"      TEXT,         -- 'source:<path>' or 'sha256:<hash>': what makes it this document
    "contentSha256"  TEXT,         -- of "content", UTF-8
    "kind"           TEXT,         -- markdown, html, pdf, ...
    "language"       TEXT,         -- tr, en, ...
    "ingestedAt"     TIMESTAMPTZ,
    "ingestedSha256" TEXT,         -- of the content that the chunks were made from
    "uploadSha256"   TEXT,         -- of the bytes that were submitted
    "submittedAt"    TIMESTAMPTZ,  -- when they were: the later of two submissions stays,
    "submittedJobId" TEXT,         -- and of two in one transaction the one published later
    "ingestVersion"  INTEGER NOT NULL DEFAULT 0,
    CONSTRAINT "Document_tenantId_ingestKey_key" UNIQUE ("tenantId", "ingestKey"),
    CONSTRAINT "Document_sha256_check"
        CHECK (length("contentSha256") = 64 AND length("ingestedSha256") = 64),
    CONSTRAINT "Document_ingested_check" CHECK (("ingestedAt" IS NULL) = ("ingestedSha256" IS NULL))
);

CREATE TABLE IF NOT EXISTS "DocumentChunk" (
    "id"            TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "documentId"    TEXT NOT NULL REFERENCES "Document" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "content"       TEXT NOT NULL,
    "chunkIndex"    INTEGER NOT NULL,
    -- ours
    "tenantId"      TEXT,
    "startOffset"   INTEGER,       -- Unicode code points: content[start:end] of the document
    "endOffset"     INTEGER,
    "tokenCount"    INTEGER,       -- cl100k_base
    "contentSha256" TEXT,
    "headings"      TEXT[],        -- the path of headings above the chunk, outermost first
    CONSTRAINT "DocumentChunk_tenantId_id_key" UNIQUE ("tenantId", "id"),
    CONSTRAINT "DocumentChunk_offsets_check"
        CHECK ("startOffset" >= 0 AND "endOffset" >= "startOffset"),
    CONSTRAINT "DocumentChunk_tokenCount_check" CHECK ("tokenCount" >= 0),
    CONSTRAINT "DocumentChunk_sha256_check" CHECK (length("contentSha256") = 64)
);

CREATE TABLE IF NOT EXISTS "ChunkEmbedding" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "chunkId"   TEXT NOT NULL UNIQUE
                REFERENCES "DocumentChunk" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "embedding" vector(1536) NOT NULL,
    "model"     TEXT NOT NULL,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"  TEXT
);

CREATE TABLE IF NOT EXISTS "ChunkVector" (
    "tenantId"   TEXT NOT NULL,
    "model"      TEXT NOT NULL,
    "chunkId"    TEXT NOT NULL,
    "documentId" TEXT NOT NULL,
    "bits"       bit(1536) NOT NULL,      -- signs after the fixed rotation
    "embedding"  halfvec(1536) NOT NULL,  -- as the model gave it, unit length
    PRIMARY KEY ("tenantId", "model", "chunkId"),
    FOREIGN KEY ("tenantId", "chunkId") REFERENCES "DocumentChunk" ("tenantId", "id")
        ON DELETE CASCADE ON UPDATE CASCADE
);

CREATE TABLE IF NOT EXISTS "ChunkText" (
    "tenantId"   TEXT NOT NULL,
    "chunkId"    TEXT NOT NULL,
    "documentId" TEXT NOT NULL,
    "language"   TEXT NOT NULL,
    "tsv"        tsvector NOT NULL,
    PRIMARY KEY ("tenantId", "chunkId"),
    FOREIGN KEY ("tenantId", "chunkId") REFERENCES "DocumentChunk" ("tenantId", "id")
        ON DELETE CASCADE ON UPDATE CASCADE
);

CALL ailydian_build_index('Document', 'tenantId');
CALL ailydian_build_index('Document', 'createdAt');
CALL ailydian_build_index('DocumentChunk', 'documentId');
CALL ailydian_build_index('DocumentChunk', 'tenantId', 'contentSha256');
CALL ailydian_build_index('ChunkEmbedding', 'model');
-- A deleted chunk must find its vectors, whatever their model.
CALL ailydian_build_index('ChunkVector', 'tenantId', 'chunkId');

COMMENT ON TABLE "Document" IS 'A text of a tenant, as extracted; its chunks quote it by offsets.';
COMMENT ON TABLE "DocumentChunk" IS 'A piece of a document, at most so many tokens long.';
COMMENT ON TABLE "ChunkEmbedding" IS 'The live model''s vector of a chunk, as the platform reads it.';
COMMENT ON TABLE "ChunkVector" IS 'What vector search reads: bits and halfvec, one row a model.';
COMMENT ON TABLE "ChunkText" IS 'What text search reads: the words of a chunk, in its language.';

CREATE TABLE IF NOT EXISTS "LiveModel" (
    "tenantId"  TEXT PRIMARY KEY DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "model"     TEXT NOT NULL,
    "flippedAt" TIMESTAMPTZ NOT NULL DEFAULT now()
);
COMMENT ON TABLE "LiveModel" IS
    'Whose vectors a tenant''s search reads, where that is not the settings'' model: one row.';

CREATE TABLE IF NOT EXISTS "Upload" (
    "id"        TEXT NOT NULL DEFAULT ailydian_new_id(),
    "tenantId"  TEXT NOT NULL DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "ingestKey" TEXT NOT NULL,
    "sha256"    TEXT NOT NULL,
    "content"   BYTEA NOT NULL,
    "createdAt" TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY ("tenantId", "id")
);
CALL ailydian_build_index('Upload', 'tenantId', 'ingestKey');

DO $$
BEGIN
    -- Uploads live for seconds: compressing them is not worth their while.
    IF (SELECT attstorage <> 'e' FROM pg_attribute
        WHERE attrelid = 'public."Upload"'::regclass AND attname = 'content') THEN
        ALTER TABLE "Upload" ALTER COLUMN "content" SET STORAGE EXTERNAL;
    END IF;
END $$;
COMMENT ON TABLE "Upload" IS
    'Bytes on their way to ingest: a job carries the id, the transaction that ingests deletes them.';

DO $$
BEGIN
    IF to_regclass('public."ChunkText_tsv_idx"') IS NULL THEN
        CREATE INDEX "ChunkText_tsv_idx" ON "ChunkText" USING gin ("tsv");
        ALTER TABLE "ChunkVector" ALTER COLUMN "embedding" SET STORAGE EXTERNAL;
    END IF;
END $$;
