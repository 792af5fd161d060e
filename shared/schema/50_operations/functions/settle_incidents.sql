CREATE OR REPLACE FUNCTION ailydian_settle_incidents(kinds TEXT[], quiet INTERVAL) RETURNS INTEGER
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    settled INTEGER;
BEGIN
    UPDATE "Incident" i SET "status" = 'RESOLVED', "resolvedAt" = now() AT TIME ZONE 'UTC'
    WHERE i."status" IN ('OPEN', 'INVESTIGATING') AND i."lastSeenAt" < now() - quiet
      AND split_part(i."cause", ':', 1) = ANY(kinds);
    GET DIAGNOSTICS settled = ROW_COUNT;
    RETURN settled;
END $$;
CALL ailydian_build_rights('ailydian_settle_incidents', 'ailydian_relay');
