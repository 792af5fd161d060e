-- A person takes an incident, or closes it. Yields what it was; nothing where it is not open.
CREATE OR REPLACE FUNCTION ailydian_answer_incident(
    incident_id TEXT, answer "IncidentStatus", by_whom TEXT, why TEXT
) RETURNS TABLE ("tenantId" TEXT, "status" TEXT) LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    was "IncidentStatus";
BEGIN
    SELECT i."status" INTO was FROM "Incident" i
    WHERE i."id" = incident_id AND i."status" IN ('OPEN', 'INVESTIGATING') FOR UPDATE;
    RETURN QUERY
    UPDATE "Incident" i SET "status" = answer, "handledBy" = by_whom,
        "reason" = coalesce(why, i."reason"),
        "resolvedAt" = CASE WHEN answer = 'CLOSED' THEN now() AT TIME ZONE 'UTC' END
    WHERE i."id" = incident_id AND was IS NOT NULL RETURNING i."tenantId", was::text;
END $$;
CALL ailydian_build_rights('ailydian_answer_incident', 'ailydian_relay');
