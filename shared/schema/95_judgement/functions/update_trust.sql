-- Note events and compute the trust of those they are about at an instant: with no events, that of
-- `people`. The factors are rows of workers/domain/judgement/trust.py, in columns; "age" is the one without
-- events. A person's lock comes first, in the order of the ids, so that workers wait for each other
-- and each sees all that was noted before. Numbers are summed in one order: the same events give
-- the same score to the last bit. What has faded by 64 halves fades no more, and a value that is all
-- but 0 is none: smaller numbers than the type holds are an error here.
CREATE OR REPLACE FUNCTION ailydian_update_trust(
    people TEXT[], kinds TEXT[], sources TEXT[], "values" DOUBLE PRECISION[],
    occurred TIMESTAMPTZ[], revisions TIMESTAMPTZ[], withdrawals BOOLEAN[],
    factors TEXT[], weights DOUBLE PRECISION[], half_lives_s DOUBLE PRECISION[],
    lows DOUBLE PRECISION[], highs DOUBLE PRECISION[], base DOUBLE PRECISION,
    instant TIMESTAMPTZ
) RETURNS TABLE ("userId" TEXT, "score" DOUBLE PRECISION) LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant TEXT := current_setting('app.tenant_id');
    -- The tenant's own people alone: "userId" is unique over all tenants, and nobody's to occupy.
    concerned TEXT[] := ARRAY(SELECT u."id" FROM "User" u WHERE u."id" = ANY(people) ORDER BY u."id");
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('trust' || chr(1) || tenant || chr(1) || p, 0))
    FROM unnest(concerned) p;
    INSERT INTO "TrustEvent" AS e ("tenantId", "userId", "kind", "sourceId", "value", "occurredAt",
                                   "revision", "withdrawn")
    SELECT DISTINCT ON (n."userId", n."kind", n."sourceId") tenant, n.*
    FROM unnest(people, kinds, sources, "values", occurred, revisions, withdrawals)
         AS n ("userId", "kind", "sourceId", "value", "occurredAt", "revision", "withdrawn")
    WHERE n."kind" IS NOT NULL AND n."userId" = ANY(concerned)
    ORDER BY n."userId", n."kind", n."sourceId", n."revision" DESC, n."withdrawn" DESC,
             n."value" DESC, n."occurredAt" DESC
    ON CONFLICT ("tenantId", "userId", "kind", "sourceId") DO UPDATE
    SET "value" = excluded."value", "occurredAt" = excluded."occurredAt",
        "revision" = excluded."revision", "withdrawn" = excluded."withdrawn"
    WHERE (excluded."revision", excluded."withdrawn", excluded."value", excluded."occurredAt")
        > (e."revision", e."withdrawn", e."value", e."occurredAt");
    RETURN QUERY
    WITH factor AS MATERIALIZED (
        SELECT f.* FROM unnest(factors, weights, half_lives_s, lows, highs) WITH ORDINALITY
             AS f ("kind", "weight", "halfLifeS", "low", "high", "at")
    ), part AS (
        SELECT p AS "userId", f."kind", f."at",
               round(greatest(f."low", least(f."high", CASE f."kind" WHEN 'age'
                   THEN f."weight" * (1 - power(2.0::float8,
                       -least(coalesce(u."ageS", 0) / f."halfLifeS", 64)))
                   ELSE f."weight" * coalesce(s."total", 0) END))::numeric, 12)::float8 AS "part"
        FROM unnest(concerned) p CROSS JOIN factor f
        LEFT JOIN LATERAL (
            SELECT greatest(extract(epoch FROM instant - u."createdAt" AT TIME ZONE 'UTC'), 0)::float8
                   AS "ageS"
            FROM "User" u WHERE u."id" = p
        ) u ON f."kind" = 'age'
        LEFT JOIN LATERAL (
            SELECT sum(e."value" * power(2.0::float8, -least(greatest(
                       extract(epoch FROM instant - e."occurredAt"), 0)::float8 / f."halfLifeS", 64))
                       ORDER BY e."sourceId" COLLATE "C") AS "total"
            FROM "TrustEvent" e
            WHERE e."tenantId" = tenant AND e."userId" = p AND e."kind" = f."kind"
              AND NOT e."withdrawn" AND abs(e."value") > 1e-15
        ) s ON f."kind" <> 'age'
    ), whole AS (
        SELECT p."userId", base + sum(p."part" ORDER BY p."at") AS "score",
               jsonb_object_agg(p."kind", p."part") || jsonb_build_object('base', base) AS "factors"
        FROM part p GROUP BY p."userId"
    )
    INSERT INTO "TrustScore" AS t ("userId", "score", "factors", "tenantId")
    SELECT w."userId", w."score", w."factors", tenant FROM whole w ORDER BY w."userId"
    ON CONFLICT ("userId") DO UPDATE
    SET "score" = excluded."score", "factors" = excluded."factors"
    RETURNING t."userId", t."score";
END $$;
