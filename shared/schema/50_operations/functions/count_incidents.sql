-- Count open incidents by severity.
CREATE OR REPLACE FUNCTION ailydian_count_incidents()
RETURNS TABLE ("severity" TEXT, "incidents" BIGINT) LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT i."severity"::text, count(*) FROM "Incident" i
    WHERE i."status" IN ('OPEN', 'INVESTIGATING') GROUP BY i."severity"
$$;
CALL ailydian_build_rights('ailydian_count_incidents', 'ailydian_relay');
