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

-- What is asked of requests of a tenant (no "keyId") or of one key; what is empty is not asked.
CREATE TABLE IF NOT EXISTS "RequestRule" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "tenantId"  TEXT REFERENCES "Tenant" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "keyId"     TEXT REFERENCES "ApiKey" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "ratePerS"  DOUBLE PRECISION,
    "burst"     DOUBLE PRECISION,
    "addresses" TEXT[],
    "setBy"     TEXT NOT NULL,
    "setAt"     TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT "RequestRule_tenantId_keyId_key" UNIQUE NULLS NOT DISTINCT ("tenantId", "keyId"),
    CONSTRAINT "RequestRule_subject_check" CHECK (num_nonnulls("tenantId", "keyId") = 1),
    CONSTRAINT "RequestRule_rate_check" CHECK ("ratePerS" > 0 AND "burst" >= 1
                                               AND "burst" <= "ratePerS" * 86400),
    CONSTRAINT "RequestRule_burst_check" CHECK (("ratePerS" IS NULL) = ("burst" IS NULL))
);

-- Rewritten several times a second under load: no index but the key, and room beside each row.
CREATE TABLE IF NOT EXISTS "RequestBucket" (
    "subject"  TEXT PRIMARY KEY,
    "tokens"   DOUBLE PRECISION NOT NULL,
    "filledAt" TIMESTAMPTZ NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- What "Session" has no columns for; a session of the platform's is not written by us.
CREATE TABLE IF NOT EXISTS "SessionState" (
    "sessionId" TEXT PRIMARY KEY
                REFERENCES "Session" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "isOurs"    BOOLEAN NOT NULL DEFAULT false,
    "seenAt"    TIMESTAMPTZ NOT NULL DEFAULT now(),
    "address"   TEXT,
    "agent"     TEXT,
    "revokedBy" TEXT,
    "revokedAt" TIMESTAMPTZ,
    CONSTRAINT "SessionState_revoked_check" CHECK (("revokedBy" IS NULL) = ("revokedAt" IS NULL))
);

CREATE TABLE IF NOT EXISTS "LoginLink" (
    "hash"      TEXT PRIMARY KEY,
    "userId"    TEXT NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "madeBy"    TEXT NOT NULL,
    "expiresAt" TIMESTAMPTZ NOT NULL,
    "usedAt"    TIMESTAMPTZ
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
CALL ailydian_build_index('RequestRule', 'keyId');
CALL ailydian_build_index('LoginLink', 'userId');

COMMENT ON TABLE "Tenant" IS 'A customer. Its tier sets quotas; its id names every row it owns.';
COMMENT ON TABLE "User" IS 'A person; the role decides what an API key of theirs may do.';
COMMENT ON TABLE "Session" IS 'A signed-in browser. Tokens we issue are stored hashed.';
COMMENT ON TABLE "ApiKey" IS 'A key for the HTTP door: hash only, with scopes and an expiry.';
COMMENT ON TABLE "RevokedKey" IS 'API keys that do not work any more, and who revoked them.';
COMMENT ON TABLE "RequestRule" IS
    'How many requests a tenant or a key may make, and from which addresses.';
COMMENT ON TABLE "RequestBucket" IS
    'What is left of a rate: requests of a tenant or key, logins of an address.';
COMMENT ON TABLE "SessionState" IS
    'When and from where a session was last used, and who revoked it.';
COMMENT ON TABLE "LoginLink" IS 'Links that sign in once; their secrets are stored hashed.';
COMMENT ON TABLE "UserPreference" IS 'What a person asks of the models: which, how warm, how long.';

-- Signing in ignores case; the plain unique key stays, the platform upserts by it.
DO $$
BEGIN
    IF to_regclass('public."User_email_lower_idx"') IS NULL THEN
        CREATE INDEX "User_email_lower_idx" ON "User" (lower("email"));
    END IF;
END $$;
