-- online: what was done to one thing is found in a long audit log.
DROP INDEX CONCURRENTLY IF EXISTS "AuditLog_tenantId_resourceId_createdAt_idx";
CREATE INDEX CONCURRENTLY IF NOT EXISTS "AuditLog_tenantId_resourceId_createdAt_idx"
    ON "AuditLog" ("tenantId", "resourceId", "createdAt");
