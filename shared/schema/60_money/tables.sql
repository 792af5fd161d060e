-- ============================================================================================
-- Money
--
-- NUMERIC(20,8), never a float: prices per thousand tokens need the eight places. Wallet entries
-- are append-only for our roles, by grants, as the audit log is.
-- ============================================================================================

CREATE TABLE IF NOT EXISTS "Budget" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "tenantId"  TEXT NOT NULL REFERENCES "Tenant" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "name"      TEXT NOT NULL,
    "limitUsd"  NUMERIC(20, 8) NOT NULL,
    "spentUsd"  NUMERIC(20, 8) NOT NULL DEFAULT 0,
    "period"    "BudgetPeriod" NOT NULL,
    "resetAt"   TIMESTAMP(3) NOT NULL,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);

CREATE TABLE IF NOT EXISTS "Wallet" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "userId"    TEXT NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "balance"   NUMERIC(20, 8) NOT NULL DEFAULT 0,
    "currency"  TEXT NOT NULL DEFAULT 'USD',
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "updatedAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"  TEXT
);

CREATE TABLE IF NOT EXISTS "WalletTransaction" (
    "id"          TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "walletId"    TEXT NOT NULL REFERENCES "Wallet" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "amount"      NUMERIC(20, 8) NOT NULL,
    "type"        "TransactionType" NOT NULL,
    "description" TEXT,
    "createdAt"   TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"    TEXT
);

CALL ailydian_build_index('Budget', 'tenantId');
CALL ailydian_build_index('Wallet', 'userId');
CALL ailydian_build_index('WalletTransaction', 'walletId');
CALL ailydian_build_index('WalletTransaction', 'createdAt');

COMMENT ON TABLE "Budget" IS 'What a tenant may spend in a period; every paid call asks it first.';
COMMENT ON TABLE "Wallet" IS 'A person''s balance: always the sum of its entries.';
COMMENT ON TABLE "WalletTransaction" IS 'One entry of a wallet; append-only for our roles.';
