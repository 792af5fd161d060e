-- Of tenants with that many flagged verdicts in the window: those, all in it, and the same of the
-- day before it.
CREATE OR REPLACE FUNCTION ailydian_flagged_shares(p_since INTERVAL, p_flagged_min INTEGER)
RETURNS TABLE ("tenantId" TEXT, "flagged" BIGINT, "judged" BIGINT, "flaggedBefore" BIGINT,
               "judgedBefore" BIGINT) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT n."tenantId", n."flagged", w."judged", w."flaggedBefore", w."judgedBefore"
    FROM (SELECT m."tenantId", count(*) AS "flagged" FROM "ModerationResult" m
          WHERE m."flagged" AND NOT m."superseded" AND m."tenantId" IS NOT NULL
            AND m."createdAt" >= (now() - p_since) AT TIME ZONE 'UTC'
          GROUP BY m."tenantId" HAVING count(*) >= p_flagged_min) n
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE m."createdAt" >= (now() - p_since) AT TIME ZONE 'UTC') AS "judged",
               count(*) FILTER (WHERE m."flagged"
                   AND m."createdAt" < (now() - p_since) AT TIME ZONE 'UTC') AS "flaggedBefore",
               count(*) FILTER (WHERE m."createdAt" < (now() - p_since) AT TIME ZONE 'UTC')
                   AS "judgedBefore"
        FROM "ModerationResult" m
        WHERE m."tenantId" = n."tenantId" AND NOT m."superseded"
          AND m."createdAt" >= (now() - p_since - interval '1 day') AT TIME ZONE 'UTC'
    ) w
$$;
CALL ailydian_build_rights('ailydian_flagged_shares', 'ailydian_relay');
