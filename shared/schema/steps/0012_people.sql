-- Who may: rates and addresses of requests, sessions of people, links that sign in once.
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

CREATE TABLE IF NOT EXISTS "RequestBucket" (
    "subject"  TEXT PRIMARY KEY,
    "tokens"   DOUBLE PRECISION NOT NULL,
    "filledAt" TIMESTAMPTZ NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

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

COMMENT ON TABLE "RequestRule" IS
    'How many requests a tenant or a key may make, and from which addresses.';
COMMENT ON TABLE "RequestBucket" IS
    'What is left of a rate: requests of a tenant or key, logins of an address.';
COMMENT ON TABLE "SessionState" IS
    'When and from where a session was last used, and who revoked it.';
COMMENT ON TABLE "LoginLink" IS 'Links that sign in once; their secrets are stored hashed.';

CALL ailydian_build_index('RequestRule', 'keyId');
CALL ailydian_build_index('LoginLink', 'userId');
