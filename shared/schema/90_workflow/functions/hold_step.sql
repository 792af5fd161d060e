CREATE OR REPLACE FUNCTION ailydian_hold_step(job_id TEXT, job_fence BIGINT, step_id TEXT)
RETURNS TEXT LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
BEGIN
    RETURN public.ailydian_own_step(job_id, job_fence, step_id);
END $$;
