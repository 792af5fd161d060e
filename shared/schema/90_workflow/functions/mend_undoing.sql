-- A run that undoes goes on: its pending steps get jobs, and where none is under way the next step
-- that undoes begins, or the run ends.
-- Locks: the caller holds the run and its steps; then what ending the run locks.
-- Returns nothing.
CREATE OR REPLACE FUNCTION ailydian_mend_undoing(p_run_id TEXT) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.ailydian_enqueue_steps(ARRAY(
        SELECT s."id" FROM public."WorkflowStep" s
        WHERE s."runId" = p_run_id AND s."state" = 'pending' AND s."itemIndex" = -1), p_run_id);
    IF NOT EXISTS (SELECT FROM public."WorkflowStep" s
                   WHERE s."runId" = p_run_id AND s."state" IN ('ready', 'running', 'waiting')) THEN
        PERFORM public.ailydian_enqueue_steps(public.ailydian_compensate(p_run_id), p_run_id);
    END IF;
END $$;
CALL ailydian_build_rights('ailydian_mend_undoing');
