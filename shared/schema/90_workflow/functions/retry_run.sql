-- Resume a failed or cancelled run, or refuse with the reason. Locks: the run, then
-- what reviving it locks.
CREATE OR REPLACE FUNCTION ailydian_retry_run(p_run_id TEXT) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET jit = off SET enable_seqscan = off AS $$
DECLARE
    v_refused TEXT;
BEGIN
    PERFORM public.ailydian_lock_run(p_run_id, true, 'failed', 'cancelled');
    v_refused := public.ailydian_revive_run(p_run_id, NULL, NULL);
    IF v_refused IS NOT NULL THEN
        RAISE EXCEPTION 'run_refused: %', v_refused USING ERRCODE = 'AL008';
    END IF;
END $$;
CALL ailydian_build_rights('ailydian_retry_run', 'ailydian_app');
