-- Seals of the audit log. An entry knows its transaction: it is sealed once that has ended, whatever
-- other transactions are open. The entries that are there have the transaction of this step.
ALTER TABLE "AuditLog" ADD COLUMN IF NOT EXISTS "xid" XID8 NOT NULL DEFAULT pg_current_xact_id();

CREATE TABLE IF NOT EXISTS "AuditSeal" (
    "chain"   TEXT COLLATE "C" NOT NULL,
    "seq"     BIGINT NOT NULL,
    "auditId" TEXT NOT NULL UNIQUE,
    "hash"    BYTEA NOT NULL,
    PRIMARY KEY ("chain", "seq"),
    CONSTRAINT "AuditSeal_seq_check" CHECK ("seq" > 0)
);

CREATE TABLE IF NOT EXISTS "AuditChain" (
    "chain" TEXT COLLATE "C" PRIMARY KEY,
    "seq"   BIGINT NOT NULL,
    "hash"  BYTEA NOT NULL
);

CREATE TABLE IF NOT EXISTS "AuditCheckpoint" (
    "number"    BIGINT PRIMARY KEY,
    "body"      TEXT NOT NULL,
    "signature" TEXT NOT NULL,
    "at"        TIMESTAMPTZ NOT NULL,
    CONSTRAINT "AuditCheckpoint_number_check" CHECK ("number" > 0)
);

CREATE TABLE IF NOT EXISTS "AuditHead" (
    "checkpoint" BIGINT NOT NULL,
    "chain"      TEXT COLLATE "C" NOT NULL,
    "seq"        BIGINT NOT NULL,
    "hash"       BYTEA NOT NULL,
    PRIMARY KEY ("checkpoint", "chain")
);

CREATE TABLE IF NOT EXISTS "AuditState" (
    "log"        TEXT PRIMARY KEY,
    "begun"      XID8 NOT NULL DEFAULT pg_current_xact_id(),
    "xid"        XID8 NOT NULL DEFAULT '0',
    "auditId"    TEXT NOT NULL DEFAULT '',
    "verifiedAt" TIMESTAMPTZ,
    "broken"     TEXT
);
INSERT INTO "AuditState" ("log") SELECT ailydian_new_id() WHERE NOT EXISTS (SELECT FROM "AuditState");

CREATE TABLE IF NOT EXISTS "AuditSink" (
    "sink"       TEXT PRIMARY KEY,
    "checkpoint" BIGINT NOT NULL DEFAULT 0,
    "error"      TEXT,
    "triedAt"    TIMESTAMPTZ,
    "heardAt"    TIMESTAMPTZ NOT NULL DEFAULT now()
);

CALL ailydian_build_index('AuditHead', 'chain', 'checkpoint');
COMMENT ON TABLE "AuditSeal" IS 'The place of an audit entry in its chain, and the hash up to there.';
COMMENT ON TABLE "AuditChain" IS 'The last place and hash of each chain.';
COMMENT ON TABLE "AuditCheckpoint" IS
    'Signed once a second where something was sealed: the Merkle root of all chains at that moment.';
COMMENT ON TABLE "AuditHead" IS 'The chains that a checkpoint has moved, and where to.';
COMMENT ON TABLE "AuditState" IS
    'One row: the name of this log, how far within a fold it is sealed, and what was last found broken. '
    'Entries of the transaction "begun" are older than the seals.';
COMMENT ON TABLE "AuditSink" IS 'Which checkpoint each place outside the database has.';
