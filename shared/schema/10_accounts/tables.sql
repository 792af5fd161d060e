-- ============================================================================================
-- Accounts: people and tenants
--
-- A person belongs to one tenant or, for the platform's own staff, to none. Rows without a tenant
-- are the platform's: workers never see them, `ailydian verify` counts them and
-- `ailydian tenant adopt` assigns them, by assigning their users, documents and workflows.
-- ============================================================================================

CREATE TABLE IF NOT EXISTS "Tenant" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "name"      TEXT NOT NULL,
    "slug"      TEXT NOT NULL UNIQUE,
    "tier"      "TenantTier" NOT NULL DEFAULT 'FREE',
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "updatedAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);

CREATE TABLE IF NOT EXISTS "User" (
    "id"           TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "email"        TEXT NOT NULL UNIQUE,
    "name"         TEXT,
    "passwordHash" TEXT NOT NULL,
    "role"         "UserRole" NOT NULL DEFAULT 'USER',
    "tenantId"     TEXT REFERENCES "Tenant" ("id") ON DELETE SET NULL ON UPDATE CASCADE,
    "createdAt"    TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "updatedAt"    TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);

CREATE TABLE IF NOT EXISTS "Session" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "userId"    TEXT NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "token"     TEXT NOT NULL UNIQUE,
    "ipAddress" TEXT,
    "userAgent" TEXT,
    "expiresAt" TIMESTAMP(3) NOT NULL,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"  TEXT
);

CREATE TABLE IF NOT EXISTS "ApiKey" (
    "id"         TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "userId"     TEXT NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "tenantId"   TEXT REFERENCES "Tenant" ("id") ON DELETE SET NULL ON UPDATE CASCADE,
    "name"       TEXT NOT NULL,
    "keyHash"    TEXT NOT NULL UNIQUE,
    "prefix"     TEXT NOT NULL,
    "scopes"     TEXT[] DEFAULT '{}',
    "expiresAt"  TIMESTAMP(3),
    "lastUsedAt" TIMESTAMP(3),
    "createdAt"  TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);

-- A key of the platform's is not written by us: that it is revoked stands here.
CREATE TABLE IF NOT EXISTS "RevokedKey" (
    "keyId"     TEXT PRIMARY KEY REFERENCES "ApiKey" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "tenantId"  TEXT,
    "revokedBy" TEXT NOT NULL,
    "revokedAt" TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS "UserPreference" (
    "id"             TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "userId"         TEXT NOT NULL UNIQUE
                     REFERENCES "User" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "preferredModel" TEXT,
    "temperature"    DOUBLE PRECISION,
    "maxTokens"      INTEGER,
    "customSettings" JSONB,
    "updatedAt"      TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"       TEXT
);

CALL ailydian_build_index('User', 'tenantId');
CALL ailydian_build_index('Session', 'userId');
CALL ailydian_build_index('ApiKey', 'userId');
CALL ailydian_build_index('ApiKey', 'tenantId');

COMMENT ON TABLE "Tenant" IS 'A customer. Its tier sets quotas; its id names every row it owns.';
COMMENT ON TABLE "User" IS 'A person; the role decides what an API key of theirs may do.';
COMMENT ON TABLE "Session" IS 'A signed-in browser. Tokens we issue are stored hashed.';
COMMENT ON TABLE "ApiKey" IS 'A key for the HTTP door: hash only, with scopes and an expiry.';
COMMENT ON TABLE "RevokedKey" IS 'API keys that do not work any more, and who revoked them.';
COMMENT ON TABLE "UserPreference" IS 'What a person asks of the models: which, how warm, how long.';

-- Signing in ignores case; the plain unique key stays, the platform upserts by it.
DO $$
BEGIN
    IF to_regclass('public."User_email_lower_idx"') IS NULL THEN
        CREATE INDEX "User_email_lower_idx" ON "User" (lower("email"));
    END IF;
END $$;
