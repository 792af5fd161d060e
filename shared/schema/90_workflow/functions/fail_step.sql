-- A step has failed and its definition does not go on: the run fails, or begins to undo. A failed
-- item fails its mapped step first.
-- Locks: the mapped step, then the run, then what is left of the run and is not locked by others.
-- Returns the first step that undoes; none where the run has ended, or was over already.
CREATE OR REPLACE FUNCTION ailydian_fail_step(
    p_step_id TEXT, p_run_id TEXT, p_position INTEGER, p_item_index INTEGER, p_on_error TEXT,
    p_error TEXT, p_fingerprint TEXT
) RETURNS TEXT[] LANGUAGE plpgsql AS $$
BEGIN
    IF p_item_index >= 0 THEN
        WITH mapped AS (
            UPDATE public."WorkflowStep" s SET "state" = 'failed', "status" = 'FAILED',
                "error" = format('item %s: %s', p_item_index, p_error), "fingerprint" = p_fingerprint,
                "completedAt" = clock_timestamp() AT TIME ZONE 'UTC'
            WHERE s."id" = p_run_id || '/' || p_position AND s."state" = 'running' RETURNING s.*
        )
        INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what")
        SELECT m."tenantId", m."id", m."stepName", 'workflow', 'STEP_FAILED' FROM mapped m;
    END IF;
    UPDATE public."WorkflowRun" r SET "failedStepId" = p_step_id, "error" = p_error,
        "fingerprint" = p_fingerprint,
        "state" = CASE p_on_error WHEN 'compensate' THEN 'compensating' ELSE r."state" END
    WHERE r."id" = p_run_id AND r."state" IN ('running', 'paused');
    IF NOT FOUND THEN
        RETURN '{}';
    ELSIF p_on_error = 'compensate' THEN
        PERFORM public.ailydian_stop_steps(p_run_id, 'another step failed');
        RETURN public.ailydian_compensate(p_run_id);
    END IF;
    PERFORM public.ailydian_end_run(p_run_id, 'failed', p_error, NULL, p_fingerprint);
    RETURN '{}';
END $$;
CALL ailydian_build_rights('ailydian_fail_step');
