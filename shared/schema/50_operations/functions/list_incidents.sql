-- List incidents for operators, and tenants' tables for the detectors: the relay's role cannot read
-- the rows itself. p_before and p_before_id are the last row of the page before.
CREATE OR REPLACE FUNCTION ailydian_list_incidents(
    p_incident_id TEXT, p_tenant_id TEXT, p_system BOOLEAN, p_only_open BOOLEAN, p_limit INTEGER,
    p_before TIMESTAMP DEFAULT NULL, p_before_id TEXT DEFAULT NULL
) RETURNS SETOF "Incident" LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT i.* FROM "Incident" i
    WHERE (p_incident_id IS NULL OR i."id" = p_incident_id)
      AND (p_tenant_id IS NULL OR i."tenantId" = p_tenant_id)
      AND (NOT p_system OR i."tenantId" IS NULL)
      AND (NOT p_only_open OR i."status" IN ('OPEN', 'INVESTIGATING'))
      AND (p_before IS NULL OR (i."detectedAt", i."id") < (p_before, p_before_id))
    ORDER BY i."detectedAt" DESC, i."id" DESC LIMIT p_limit
$$;
CALL ailydian_build_rights('ailydian_list_incidents', 'ailydian_relay');
