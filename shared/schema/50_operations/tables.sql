-- ============================================================================================
-- Operations: audit log, incidents, replicated state, changes of the platform
--
-- The audit log is append-only for our roles, by grants: ailydian_app may add rows and read its own,
-- no more. The platform's rights stay whole, and deleting a tenant leaves its audit rows behind with
-- "tenantId" NULL, as the foreign key says.
--
-- "PlatformChange" lists rows that the platform has written and that may need work: triggers fill
-- it for every writer but our own roles, a sweep turns its rows into jobs and deletes them.
-- ============================================================================================

CREATE TABLE IF NOT EXISTS "AuditLog" (
    "id"         TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "tenantId"   TEXT REFERENCES "Tenant" ("id") ON DELETE SET NULL ON UPDATE CASCADE,
    "userId"     TEXT,
    "action"     TEXT NOT NULL,
    "resource"   TEXT NOT NULL,
    "resourceId" TEXT,
    "ipAddress"  TEXT,
    "userAgent"  TEXT,
    "metadata"   JSONB,
    "createdAt"  TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "xid"        XID8 NOT NULL DEFAULT pg_current_xact_id()
);

CALL ailydian_build_index('AuditLog', 'tenantId');
CALL ailydian_build_index('AuditLog', 'userId');
CALL ailydian_build_index('AuditLog', 'createdAt');
CALL ailydian_build_index('AuditLog', 'action');
CALL ailydian_build_index('AuditLog', 'tenantId', 'createdAt');
CALL ailydian_build_index('AuditLog', 'tenantId', 'resourceId', 'createdAt');
CALL ailydian_build_index('AuditLog', 'xid', 'id');

COMMENT ON TABLE "AuditLog" IS 'Who did what to which thing; append-only for our roles.';

-- Seals: each tenant's audit entries are a chain of hashes; '' is the chain of those without a tenant.
-- How they are computed stands in producers/operations/audit_verifier.py.
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

CREATE TABLE IF NOT EXISTS "Incident" (
    "id"          TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "title"       TEXT NOT NULL,
    "description" TEXT NOT NULL,
    "severity"    "IncidentSeverity" NOT NULL,
    "status"      "IncidentStatus" NOT NULL,
    "detectedAt"  TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "resolvedAt"  TIMESTAMP(3),
    -- ours
    "tenantId"    TEXT DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "cause"       TEXT,
    "escalations" INTEGER NOT NULL DEFAULT 0,
    "lastSeenAt"  TIMESTAMPTZ,
    "figure"      DOUBLE PRECISION,
    "escalatedAt" TIMESTAMPTZ,
    "handledBy"   TEXT,
    "reason"      TEXT
);

CREATE TABLE IF NOT EXISTS "CRDTState" (
    "id"           TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "resourceType" TEXT NOT NULL,
    "resourceId"   TEXT NOT NULL,
    "nodeId"       TEXT NOT NULL,
    "hlc"          TEXT NOT NULL,
    "state"        JSONB NOT NULL,
    "updatedAt"    TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"     TEXT DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    UNIQUE ("resourceType", "resourceId", "nodeId")
);

CREATE TABLE IF NOT EXISTS "PlatformChange" (
    "tenantId"  TEXT NOT NULL,
    "id"        TEXT NOT NULL DEFAULT ailydian_new_id(),
    "tableName" TEXT NOT NULL,
    "rowId"     TEXT NOT NULL,
    "operation" TEXT NOT NULL,
    "changedAt" TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY ("tenantId", "id"),
    CONSTRAINT "PlatformChange_operation_check" CHECK ("operation" IN ('INSERT', 'UPDATE'))
);
CALL ailydian_build_index('Incident', 'status');
CALL ailydian_build_index('Incident', 'severity');
CALL ailydian_build_index('Incident', 'detectedAt');
CALL ailydian_build_index('CRDTState', 'resourceType', 'resourceId');
CALL ailydian_build_index('CRDTState', 'hlc');
CALL ailydian_build_index('PlatformChange', 'changedAt');
COMMENT ON TABLE "Incident" IS 'Something is wrong: opened once a cause, closed when it is gone.';
COMMENT ON TABLE "CRDTState" IS 'State that regions merge, one row a node, by hybrid logical clock.';
COMMENT ON TABLE "PlatformChange" IS 'Rows the platform wrote that may need work; a sweep empties it.';

CREATE TABLE IF NOT EXISTS "IncidentNotice" (
    "id"         TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "tenantId"   TEXT,
    "incidentId" TEXT NOT NULL REFERENCES "Incident" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "event"      TEXT NOT NULL,
    "body"       JSONB NOT NULL,
    "attempts"   INTEGER NOT NULL DEFAULT 0,
    "nextAt"     TIMESTAMPTZ NOT NULL DEFAULT now(),
    "sentAt"     TIMESTAMPTZ,
    "error"      TEXT,
    "createdAt"  TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT "IncidentNotice_event_check" CHECK ("event" IN ('opened', 'escalated', 'resolved'))
);
CALL ailydian_build_index('IncidentNotice', 'incidentId');
CALL ailydian_build_index('IncidentNotice', 'nextAt');
CALL ailydian_build_index('Incident', 'cause');
COMMENT ON TABLE "IncidentNotice" IS 'What on-call is told about an incident, until it was heard.';

-- One open incident a cause; those of no tenant are the system's.
DO $$
BEGIN
    IF to_regclass('public."Incident_cause_key"') IS NULL THEN
        CREATE UNIQUE INDEX "Incident_cause_key" ON "Incident" (coalesce("tenantId", ''), "cause")
            WHERE "cause" IS NOT NULL AND "status" IN ('OPEN', 'INVESTIGATING');
    END IF;
END $$;
