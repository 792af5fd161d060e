CREATE OR REPLACE FUNCTION ailydian_incident_noticed() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    open CONSTANT "IncidentStatus"[] := ARRAY['OPEN', 'INVESTIGATING'];
    happened TEXT;
BEGIN
    IF TG_OP = 'INSERT' THEN
        happened := CASE WHEN NEW."status" = ANY(open) THEN 'opened' END;
    ELSIF OLD."status" = ANY(open) AND NOT NEW."status" = ANY(open) THEN
        happened := 'resolved';
    ELSIF NEW."status" = ANY(open) AND NOT OLD."status" = ANY(open) THEN
        happened := 'opened';
    ELSIF NEW."status" = ANY(open) AND NEW."severity" > OLD."severity" THEN
        happened := 'escalated';
    END IF;
    IF happened IS NOT NULL THEN
        INSERT INTO "IncidentNotice" ("tenantId", "incidentId", "event", "body")
        VALUES (NEW."tenantId", NEW."id", happened, jsonb_build_object(
            'event', 'incident.' || happened,
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
