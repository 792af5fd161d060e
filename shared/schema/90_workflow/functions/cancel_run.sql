-- Cancel a run that has not ended. Locks: the run, then what ending it locks.
CREATE OR REPLACE FUNCTION ailydian_cancel_run(p_run_id TEXT, p_reason TEXT) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
BEGIN
    PERFORM public.ailydian_lock_run(p_run_id, true, 'queued', 'running', 'paused', 'compensating');
    PERFORM public.ailydian_end_run(p_run_id, 'cancelled', p_reason, NULL, NULL);
END $$;
CALL ailydian_build_rights('ailydian_cancel_run', 'ailydian_app');
