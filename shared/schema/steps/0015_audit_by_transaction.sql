-- online: a fold finds its audit entries.
DROP INDEX CONCURRENTLY IF EXISTS "AuditLog_xid_id_idx";
CREATE INDEX CONCURRENTLY IF NOT EXISTS "AuditLog_xid_id_idx" ON "AuditLog" ("xid", "id");
