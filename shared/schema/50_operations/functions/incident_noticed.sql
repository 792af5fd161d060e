-- An incident was opened, escalated or resolved: on-call gets a notice, and an event of it is noted, in
-- the same transaction. An incident of no tenant is an event of the tenant ''.
CREATE OR REPLACE FUNCTION ailydian_incident_noticed() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_open CONSTANT "IncidentStatus"[] := ARRAY['OPEN', 'INVESTIGATING'];
    v_event TEXT;
BEGIN
    IF TG_OP = 'INSERT' THEN
        v_event := CASE WHEN NEW."status" = ANY(v_open) THEN 'opened' END;
    ELSIF OLD."status" = ANY(v_open) AND NOT NEW."status" = ANY(v_open) THEN
        v_event := 'resolved';
    ELSIF NEW."status" = ANY(v_open) AND NOT OLD."status" = ANY(v_open) THEN
        v_event := 'opened';
    ELSIF NEW."status" = ANY(v_open) AND NEW."severity" > OLD."severity" THEN
        v_event := 'escalated';
    END IF;
    IF v_event IS NOT NULL THEN
        INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what")
        VALUES (coalesce(NEW."tenantId", ''), NEW."id", coalesce(NEW."cause", ''), 'maintenance',
                'INCIDENT_' || upper(v_event));
        INSERT INTO "IncidentNotice" ("tenantId", "incidentId", "event", "body")
        VALUES (NEW."tenantId", NEW."id", v_event, jsonb_build_object(
            'event', 'incident.' || v_event,
            'incident', jsonb_build_object(
                'id', NEW."id", 'title', NEW."title", 'description', NEW."description",
                'severity', NEW."severity", 'status', NEW."status", 'cause', NEW."cause",
                'tenant', (SELECT t."slug" FROM "Tenant" t WHERE t."id" = NEW."tenantId"),
                'escalations', NEW."escalations",
                'detectedAt', to_char(NEW."detectedAt", 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
                'resolvedAt', to_char(NEW."resolvedAt", 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
                'reason', NEW."reason")));
    END IF;
    RETURN NULL;
END $$;
