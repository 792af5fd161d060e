-- A cause was seen: open its incident, or note it in the one that is open. That grows by a degree
-- after a quarter of an hour, then every hour, unless somebody works on it; and at once when its
-- figure has doubled since it last grew, or the cause itself is worse. What people have closed
-- stays closed for an hour, unless it gets worse by that measure.
CREATE OR REPLACE FUNCTION ailydian_raise_incident(
    of_tenant TEXT, of_cause TEXT, says TEXT, tells TEXT, degree "IncidentSeverity",
    measured DOUBLE PRECISION
) RETURNS TEXT LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    held "Incident";
    grown "IncidentSeverity";
BEGIN
    SELECT * INTO held FROM "Incident" i
    WHERE i."cause" = of_cause AND coalesce(i."tenantId", '') = coalesce(of_tenant, '')
      AND i."status" IN ('OPEN', 'INVESTIGATING') FOR UPDATE;
    IF NOT FOUND THEN
        IF EXISTS (
            SELECT FROM "Incident" i
            WHERE i."cause" = of_cause AND coalesce(i."tenantId", '') = coalesce(of_tenant, '')
              AND i."status" = 'CLOSED'
              AND i."resolvedAt" > (now() - interval '1 hour') AT TIME ZONE 'UTC'
              AND i."severity" >= degree AND measured < 2 * i."figure") THEN
            RETURN NULL;
        END IF;
        INSERT INTO "Incident" ("tenantId", "cause", "title", "description", "severity", "status",
                                "figure")
        VALUES (of_tenant, of_cause, says, tells, degree, 'OPEN', measured)
        ON CONFLICT DO NOTHING;
        RETURN CASE WHEN FOUND THEN 'opened' END;
    END IF;
    grown := greatest(held."severity", degree);
    IF grown = held."severity" AND grown < 'CRITICAL' AND (
        (held."figure" > 0 AND measured >= 2 * held."figure")
        OR (held."status" = 'OPEN' AND now() >= coalesce(
                held."escalatedAt" + interval '1 hour',
                held."detectedAt" AT TIME ZONE 'UTC' + interval '15 minutes'))) THEN
        grown := (enum_range(held."severity", NULL))[2];
    END IF;
    UPDATE "Incident" i SET "lastSeenAt" = now(), "description" = tells, "severity" = grown,
        "figure" = CASE WHEN grown > held."severity" THEN measured ELSE i."figure" END,
        "escalatedAt" = CASE WHEN grown > held."severity" THEN now() ELSE i."escalatedAt" END,
        "escalations" = i."escalations" + (grown > held."severity")::int
    WHERE i."id" = held."id";
    RETURN CASE WHEN grown > held."severity" THEN 'escalated' END;
END $$;
CALL ailydian_build_rights('ailydian_raise_incident', 'ailydian_relay');
