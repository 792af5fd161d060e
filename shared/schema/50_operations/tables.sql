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
    "createdAt"  TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);

CALL ailydian_build_index('AuditLog', 'tenantId');
CALL ailydian_build_index('AuditLog', 'userId');
CALL ailydian_build_index('AuditLog', 'createdAt');
CALL ailydian_build_index('AuditLog', 'action');
CALL ailydian_build_index('AuditLog', 'tenantId', 'createdAt');
CALL ailydian_build_index('AuditLog', 'tenantId', 'resourceId', 'createdAt');

COMMENT ON TABLE "AuditLog" IS 'Who did what to which thing; append-only for our roles.';

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
