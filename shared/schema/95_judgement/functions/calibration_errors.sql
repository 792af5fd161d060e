-- The expected calibration error of the newest rated estimates that each tenant's last calibration
-- has made: ten bins of equal mass, as workers/domain/judgement/calibration.py has computed its own.
CREATE OR REPLACE FUNCTION ailydian_calibration_errors(p_pairs_max INTEGER)
RETURNS TABLE ("tenantId" TEXT, "version" INTEGER, "promised" DOUBLE PRECISION,
               "found" DOUBLE PRECISION, "pairs" BIGINT) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT c."tenantId", c."version", c."error", e."found", e."pairs"
    FROM (SELECT DISTINCT ON (q."tenantId") q.* FROM "QualityCalibration" q
          ORDER BY q."tenantId", q."version" DESC) c
    CROSS JOIN LATERAL (
        SELECT sum(b."n" * abs(b."said" - b."was")) / sum(b."n") AS "found",
               sum(b."n")::bigint AS "pairs"
        FROM (
            SELECT count(*) AS "n", avg(s."estimatedScore") AS "said", avg(s."actualScore") AS "was"
            FROM (
                SELECT r.*, ntile(10) OVER (ORDER BY r."estimatedScore") AS "bin" FROM (
                    SELECT s."estimatedScore", s."actualScore" FROM "QualityScore" s
                    WHERE s."tenantId" = c."tenantId" AND s."actualScore" IS NOT NULL
                      AND s."createdAt" >= c."createdAt" AT TIME ZONE 'UTC'
                    ORDER BY s."createdAt" DESC LIMIT p_pairs_max
                ) r
            ) s GROUP BY s."bin"
        ) b
    ) e WHERE e."pairs" > 0
$$;
CALL ailydian_build_rights('ailydian_calibration_errors', 'ailydian_relay');
