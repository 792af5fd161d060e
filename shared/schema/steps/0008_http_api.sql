-- The HTTP API: which keys are revoked, and what was answered.
CREATE TABLE IF NOT EXISTS "RevokedKey" (
    "keyId"     TEXT PRIMARY KEY REFERENCES "ApiKey" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "tenantId"  TEXT,
    "revokedBy" TEXT NOT NULL,
    "revokedAt" TIMESTAMPTZ NOT NULL DEFAULT now()
);

COMMENT ON TABLE "RevokedKey" IS 'API keys that do not work any more, and who revoked them.';

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

CALL ailydian_build_index('HttpAnswer', 'createdAt');
