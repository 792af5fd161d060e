-- A step that nothing depends on is over: one end less is open in its run, which is over with its
-- last end; the output of an only end is the run's.
-- Locks: the run; with the last end, what ending the run locks.
-- Returns no step: none follows an end.
CREATE OR REPLACE FUNCTION ailydian_count_end(p_run_id TEXT, p_output JSONB) RETURNS TEXT[]
LANGUAGE plpgsql AS $$
DECLARE
    v_run RECORD;
BEGIN
    UPDATE public."WorkflowRun" r SET "endsOpen" = r."endsOpen" - 1
    WHERE r."id" = p_run_id RETURNING r."endsOpen", r."versionId" INTO v_run;
    IF v_run."endsOpen" = 0 THEN
        PERFORM public.ailydian_end_run(p_run_id, 'completed', NULL,
            CASE WHEN (SELECT v."ends" FROM public."WorkflowVersion" v
                       WHERE v."id" = v_run."versionId") = 1 THEN p_output END, NULL);
    END IF;
    RETURN '{}';
END $$;
CALL ailydian_build_rights('ailydian_count_end');
