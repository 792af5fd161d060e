-- Store events and compute the trust of the people concerned at an instant: with no events, that of
-- `p_user_ids`. The factors are rows of workers/domain/judgement/trust.py, in columns; "age" is the one without
-- events. Numbers are summed in one order: the same events give the same score to the last bit. What
-- has faded by 64 halves fades no more, and a value that is all but 0 is none: smaller numbers than
-- the type holds are an error here.
-- Locks: a person's lock comes first, in the order of the ids, so that workers wait for each other
-- and each sees all that was noted before; then the events, then the scores, in the same order.
-- Returns the scores.
CREATE OR REPLACE FUNCTION ailydian_update_trust(
    p_user_ids TEXT[], p_kinds TEXT[], p_source_ids TEXT[], p_values DOUBLE PRECISION[],
    p_occurred_at TIMESTAMPTZ[], p_revisions TIMESTAMPTZ[], p_withdrawn BOOLEAN[],
    p_factors TEXT[], p_weights DOUBLE PRECISION[], p_half_lives_s DOUBLE PRECISION[],
    p_lows DOUBLE PRECISION[], p_highs DOUBLE PRECISION[], p_base DOUBLE PRECISION,
    p_now TIMESTAMPTZ
) RETURNS TABLE ("userId" TEXT, "score" DOUBLE PRECISION) LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_tenant_id CONSTANT TEXT := current_setting('app.tenant_id');
    -- The tenant's own people alone: "userId" is unique over all tenants, and nobody's to occupy.
    v_concerned CONSTANT TEXT[] := ARRAY(
        SELECT u."id" FROM "User" u WHERE u."id" = ANY(p_user_ids) ORDER BY u."id");
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('trust' || chr(1) || v_tenant_id || chr(1) || p, 0))
    FROM unnest(v_concerned) p;
    PERFORM ailydian_note_trust_events(v_concerned, p_user_ids, p_kinds, p_source_ids, p_values,
                                       p_occurred_at, p_revisions, p_withdrawn);
    RETURN QUERY
    WITH factor AS MATERIALIZED (
        SELECT f.* FROM unnest(p_factors, p_weights, p_half_lives_s, p_lows, p_highs) WITH ORDINALITY
             AS f ("kind", "weight", "halfLifeS", "low", "high", "at")
    ), part AS (
        SELECT p AS "userId", f."kind", f."at",
               round(greatest(f."low", least(f."high", CASE f."kind" WHEN 'age'
                   THEN f."weight" * (1 - power(2.0::float8,
                       -least(coalesce(u."ageS", 0) / f."halfLifeS", 64)))
                   ELSE f."weight" * coalesce(s."total", 0) END))::numeric, 12)::float8 AS "part"
        FROM unnest(v_concerned) p CROSS JOIN factor f
        LEFT JOIN LATERAL (
            SELECT greatest(extract(epoch FROM p_now - u."createdAt" AT TIME ZONE 'UTC'), 0)::float8
                   AS "ageS"
            FROM "User" u WHERE u."id" = p
        ) u ON f."kind" = 'age'
        LEFT JOIN LATERAL (
            SELECT sum(e."value" * power(2.0::float8, -least(greatest(
                       extract(epoch FROM p_now - e."occurredAt"), 0)::float8 / f."halfLifeS", 64))
                       ORDER BY e."sourceId" COLLATE "C") AS "total"
            FROM "TrustEvent" e
            WHERE e."tenantId" = v_tenant_id AND e."userId" = p AND e."kind" = f."kind"
              AND NOT e."withdrawn" AND abs(e."value") > 1e-15
        ) s ON f."kind" <> 'age'
    ), whole AS (
        SELECT p."userId", p_base + sum(p."part" ORDER BY p."at") AS "score",
               jsonb_object_agg(p."kind", p."part") || jsonb_build_object('base', p_base) AS "factors"
        FROM part p GROUP BY p."userId"
    )
    INSERT INTO "TrustScore" AS t ("userId", "score", "factors", "tenantId")
    SELECT w."userId", w."score", w."factors", v_tenant_id FROM whole w ORDER BY w."userId"
    ON CONFLICT ("userId") DO UPDATE
    SET "score" = excluded."score", "factors" = excluded."factors"
    RETURNING t."userId", t."score";
END $$;
CALL ailydian_build_rights('ailydian_update_trust', 'ailydian_app');
