-- Check whether a walker still owns its step, in its own transaction: 'held', 'stopped' or 'moved'.
-- Locks: the job, then the step.
CREATE OR REPLACE FUNCTION ailydian_hold_step(p_job_id TEXT, p_fence BIGINT, p_step_id TEXT)
RETURNS TEXT LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
BEGIN
    RETURN public.ailydian_own_step(p_job_id, p_fence, p_step_id);
END $$;
CALL ailydian_build_rights('ailydian_hold_step', 'ailydian_app');
