-- Pause a run: steps that run go on, those they let begin wait. Locks: the run.
CREATE OR REPLACE FUNCTION ailydian_pause_run(p_run_id TEXT) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM public.ailydian_lock_run(p_run_id, true, 'running');
    UPDATE public."WorkflowRun" r SET "state" = 'paused' WHERE r."id" = p_run_id;
END $$;
CALL ailydian_build_rights('ailydian_pause_run', 'ailydian_app');
