-- ============================================================================================
-- Privacy: keys of what is encrypted, and what a person asks about their own data
-- ============================================================================================

CREATE TABLE IF NOT EXISTS "EncryptionKey" (
    "id"           TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "keyId"        TEXT NOT NULL UNIQUE,
    "version"      INTEGER NOT NULL,
    "algorithm"    TEXT NOT NULL,
    "encryptedDek" TEXT NOT NULL,
    "createdAt"    TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "rotatedAt"    TIMESTAMP(3),
    -- ours
    "tenantId"     TEXT DEFAULT nullif(current_setting('app.tenant_id', true), '')
);

CREATE TABLE IF NOT EXISTS "DSARRequest" (
    "id"          TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "userId"      TEXT NOT NULL,
    "type"        "DSARType" NOT NULL,
    "status"      "DSARStatus" NOT NULL,
    "data"        JSONB,
    "requestedAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "completedAt" TIMESTAMP(3),
    -- ours
    "tenantId"    TEXT
);
CALL ailydian_build_index('EncryptionKey', 'tenantId');
CALL ailydian_build_index('DSARRequest', 'userId');
CALL ailydian_build_index('DSARRequest', 'status');
COMMENT ON TABLE "EncryptionKey" IS 'A data key, wrapped by the master key; without it, no secrets.';
COMMENT ON TABLE "DSARRequest" IS 'A person''s request for access, copy, correction or deletion.';
