-- What operators see of incidents, and what the detectors see of tenants' tables: the relay's role
-- has no sight of the rows.
CREATE OR REPLACE FUNCTION ailydian_list_incidents(
    incident_id TEXT, of_tenant TEXT, of_system BOOLEAN, only_open BOOLEAN, most INTEGER
) RETURNS SETOF "Incident" LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT i.* FROM "Incident" i
    WHERE (incident_id IS NULL OR i."id" = incident_id)
      AND (of_tenant IS NULL OR i."tenantId" = of_tenant)
      AND (NOT of_system OR i."tenantId" IS NULL)
      AND (NOT only_open OR i."status" IN ('OPEN', 'INVESTIGATING'))
    ORDER BY i."detectedAt" DESC, i."id" DESC LIMIT most
$$;
CALL ailydian_build_rights('ailydian_list_incidents', 'ailydian_relay');
