-- The one round trip of a step: finished, and the next begun. `lease_s` 0: the walker stops here.
CREATE OR REPLACE FUNCTION ailydian_finish_step(
    job_id TEXT, job_fence BIGINT, step_id TEXT, verdict TEXT, result JSONB, given JSONB, why TEXT,
    print TEXT, lease_s DOUBLE PRECISION
) RETURNS JSONB LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    held CONSTANT TEXT := public.ailydian_own_step(job_id, job_fence, step_id);
BEGIN
    IF held = 'moved' THEN
        RETURN public.ailydian_step_at(job_id);
    ELSIF held = 'stopped' THEN
        RETURN public.ailydian_walk_on(job_id, '{}', NULL, NULL, 0);
    END IF;
    RETURN public.ailydian_walk_on(job_id,
        public.ailydian_settle_step(step_id, verdict, result, given, why, print),
        split_part(step_id, '/', 1), split_part(step_id, '/', 2)::int, lease_s);
END $$;
