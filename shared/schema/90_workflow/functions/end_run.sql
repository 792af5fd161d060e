-- End a run, once: stop its unfinished steps and settle the step that waits for it.
CREATE OR REPLACE FUNCTION ailydian_end_run(
    p_run_id TEXT, p_state TEXT, p_error TEXT, p_output JSONB, p_fingerprint TEXT
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_run RECORD;
BEGIN
    UPDATE public."WorkflowRun" r SET "state" = p_state,
        "status" = upper(p_state)::public."WorkflowStatus", "error" = p_error, "output" = p_output,
        "fingerprint" = p_fingerprint, "completedAt" = clock_timestamp() AT TIME ZONE 'UTC'
    WHERE r."id" = p_run_id AND r."state" IN ('queued', 'running', 'paused', 'compensating')
    RETURNING r."tenantId", r."concurrencyKey", r."parentStepId" INTO v_run;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- Callers may act on the outcome at once: this commit waits for the disk.
    PERFORM set_config('synchronous_commit', 'on', true);
    IF p_state <> 'completed' THEN
        PERFORM public.ailydian_stop_steps(p_run_id, p_error);
    ELSE
        DELETE FROM public."WorkflowWait" w WHERE w."id" = p_run_id;
    END IF;
    IF v_run."concurrencyKey" IS NOT NULL THEN
        PERFORM public.ailydian_leave_slot(v_run."tenantId", v_run."concurrencyKey", p_run_id);
    END IF;
    INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what")
    VALUES (v_run."tenantId", p_run_id, 'run_step', 'workflow', 'RUN_' || upper(p_state));
    IF v_run."parentStepId" IS NOT NULL AND EXISTS (
        SELECT FROM public."WorkflowStep" s
        WHERE s."id" = v_run."parentStepId" AND s."tenantId" = v_run."tenantId") THEN
        DELETE FROM public."WorkflowWait" w WHERE w."id" = v_run."parentStepId";
        PERFORM public.ailydian_step_over(v_run."parentStepId",
            CASE p_state WHEN 'completed' THEN 'completed' ELSE 'failed' END, p_output,
            'its run ' || p_run_id || ' ' || CASE p_state WHEN 'cancelled' THEN 'was cancelled'
                ELSE 'failed: ' || coalesce(p_error, '') END, p_fingerprint);
    END IF;
END $$;
CALL ailydian_build_rights('ailydian_end_run');
