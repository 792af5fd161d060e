-- A person acknowledges or closes an incident. Returns its former row; nothing if it is not open.
CREATE OR REPLACE FUNCTION ailydian_answer_incident(
    p_incident_id TEXT, p_status "IncidentStatus", p_handled_by TEXT, p_reason TEXT
) RETURNS TABLE ("tenantId" TEXT, "status" TEXT) LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_was "IncidentStatus";
BEGIN
    SELECT i."status" INTO v_was FROM "Incident" i
    WHERE i."id" = p_incident_id AND i."status" IN ('OPEN', 'INVESTIGATING') FOR UPDATE;
    RETURN QUERY
    UPDATE "Incident" i SET "status" = p_status, "handledBy" = p_handled_by,
        "reason" = coalesce(p_reason, i."reason"),
        "resolvedAt" = CASE WHEN p_status = 'CLOSED' THEN now() AT TIME ZONE 'UTC' END
    WHERE i."id" = p_incident_id AND v_was IS NOT NULL RETURNING i."tenantId", v_was::text;
END $$;
CALL ailydian_build_rights('ailydian_answer_incident', 'ailydian_relay');
