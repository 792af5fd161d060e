-- Resume a paused run: what was parked gets jobs. Locks: the run, then those steps.
CREATE OR REPLACE FUNCTION ailydian_resume_run(p_run_id TEXT) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET jit = off SET enable_seqscan = off AS $$
BEGIN
    PERFORM public.ailydian_lock_run(p_run_id, true, 'paused');
    UPDATE public."WorkflowRun" r SET "state" = 'running' WHERE r."id" = p_run_id;
    PERFORM public.ailydian_enqueue_steps(ARRAY(
        SELECT s."id" FROM public."WorkflowStep" s
        WHERE s."runId" = p_run_id AND s."state" = 'ready' AND s."jobId" IS NULL
        ORDER BY s."position", s."itemIndex"), p_run_id);
END $$;
CALL ailydian_build_rights('ailydian_resume_run', 'ailydian_app');
