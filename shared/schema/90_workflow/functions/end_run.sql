-- End a run, once: what is left of it stops, whoever waits for it hears of it.
CREATE OR REPLACE FUNCTION ailydian_end_run(
    of_run TEXT, new_state TEXT, why TEXT, result JSONB, print TEXT
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    run RECORD;
BEGIN
    UPDATE public."WorkflowRun" r SET "state" = new_state,
        "status" = upper(new_state)::public."WorkflowStatus", "error" = why, "output" = result,
        "fingerprint" = print, "completedAt" = clock_timestamp() AT TIME ZONE 'UTC'
    WHERE r."id" = of_run AND r."state" IN ('queued', 'running', 'paused', 'compensating')
    RETURNING r."tenantId", r."concurrencyKey", r."parentStepId" INTO run;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- Whoever asks for the outcome may act on it: this commit waits for the disk.
    PERFORM set_config('synchronous_commit', 'on', true);
    IF new_state <> 'completed' THEN
        PERFORM public.ailydian_stop_steps(of_run, why);
    ELSE
        DELETE FROM public."WorkflowWait" w WHERE w."id" = of_run;
    END IF;
    IF run."concurrencyKey" IS NOT NULL THEN
        PERFORM public.ailydian_leave_slot(run."tenantId", run."concurrencyKey", of_run);
    END IF;
    INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what")
    VALUES (run."tenantId", of_run, 'run_step', 'workflow', 'RUN_' || upper(new_state));
    IF run."parentStepId" IS NOT NULL THEN
        DELETE FROM public."WorkflowWait" w WHERE w."id" = run."parentStepId";
        PERFORM public.ailydian_step_over(run."parentStepId",
            CASE new_state WHEN 'completed' THEN 'completed' ELSE 'failed' END, result,
            'its run ' || of_run || ' ' || CASE new_state WHEN 'cancelled' THEN 'was cancelled'
                ELSE 'failed: ' || coalesce(why, '') END, print);
    END IF;
END $$;
CALL ailydian_build_rights('ailydian_end_run');
