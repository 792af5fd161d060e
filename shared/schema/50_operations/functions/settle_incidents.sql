-- Resolve open incidents of these kinds that were not reported for `p_quiet`. Returns how many.
CREATE OR REPLACE FUNCTION ailydian_settle_incidents(p_kinds TEXT[], p_quiet INTERVAL) RETURNS INTEGER
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_settled INTEGER;
BEGIN
    UPDATE "Incident" i SET "status" = 'RESOLVED', "resolvedAt" = now() AT TIME ZONE 'UTC'
    WHERE i."status" IN ('OPEN', 'INVESTIGATING') AND i."lastSeenAt" < now() - p_quiet
      AND split_part(i."cause", ':', 1) = ANY(p_kinds);
    GET DIAGNOSTICS v_settled = ROW_COUNT;
    RETURN v_settled;
END $$;
CALL ailydian_build_rights('ailydian_settle_incidents', 'ailydian_relay');
