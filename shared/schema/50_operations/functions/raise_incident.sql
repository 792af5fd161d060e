-- Report a cause: open its incident, or update the open one. Its severity is escalated after a
-- quarter of an hour, then every hour, unless somebody works on it; and at once when its figure has
-- doubled since the last escalation, or the cause itself is worse. An incident that people have
-- closed stays closed for an hour, unless it gets worse by that measure.
CREATE OR REPLACE FUNCTION ailydian_raise_incident(
    p_tenant_id TEXT, p_cause TEXT, p_title TEXT, p_description TEXT, p_severity "IncidentSeverity",
    p_figure DOUBLE PRECISION
) RETURNS TEXT LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_incident "Incident";
    v_severity "IncidentSeverity";
BEGIN
    SELECT * INTO v_incident FROM "Incident" i
    WHERE i."cause" = p_cause AND coalesce(i."tenantId", '') = coalesce(p_tenant_id, '')
      AND i."status" IN ('OPEN', 'INVESTIGATING') FOR UPDATE;
    IF NOT FOUND THEN
        IF EXISTS (
            SELECT FROM "Incident" i
            WHERE i."cause" = p_cause AND coalesce(i."tenantId", '') = coalesce(p_tenant_id, '')
              AND i."status" = 'CLOSED'
              AND i."resolvedAt" > (now() - interval '1 hour') AT TIME ZONE 'UTC'
              AND i."severity" >= p_severity AND p_figure < 2 * i."figure") THEN
            RETURN NULL;
        END IF;
        INSERT INTO "Incident" ("tenantId", "cause", "title", "description", "severity", "status",
                                "figure")
        VALUES (p_tenant_id, p_cause, p_title, p_description, p_severity, 'OPEN', p_figure)
        ON CONFLICT DO NOTHING;
        RETURN CASE WHEN FOUND THEN 'opened' END;
    END IF;
    v_severity := greatest(v_incident."severity", p_severity);
    IF v_severity = v_incident."severity" AND v_severity < 'CRITICAL' AND (
        (v_incident."figure" > 0 AND p_figure >= 2 * v_incident."figure")
        OR (v_incident."status" = 'OPEN' AND now() >= coalesce(
                v_incident."escalatedAt" + interval '1 hour',
                v_incident."detectedAt" AT TIME ZONE 'UTC' + interval '15 minutes'))) THEN
        v_severity := (enum_range(v_incident."severity", NULL))[2];
    END IF;
    UPDATE "Incident" i SET "lastSeenAt" = now(), "description" = p_description, "severity" = v_severity,
        "figure" = CASE WHEN v_severity > v_incident."severity" THEN p_figure ELSE i."figure" END,
        "escalatedAt" = CASE WHEN v_severity > v_incident."severity" THEN now() ELSE i."escalatedAt" END,
        "escalations" = i."escalations" + (v_severity > v_incident."severity")::int
    WHERE i."id" = v_incident."id";
    RETURN CASE WHEN v_severity > v_incident."severity" THEN 'escalated' END;
END $$;
CALL ailydian_build_rights('ailydian_raise_incident', 'ailydian_relay');
