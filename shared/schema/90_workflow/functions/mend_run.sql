-- Repair a run: add a missing deadline, end waits that are over, give its steps jobs.
-- Locks: the run, then its live steps; a run or a step that is locked by others is being finished,
-- and is looked at again later.
-- Returns whether the run is sound now; NULL where nothing was wrong or it could not be checked.
CREATE OR REPLACE FUNCTION ailydian_mend_run(p_run_id TEXT) RETURNS BOOLEAN
LANGUAGE plpgsql AS $$
DECLARE
    v_run RECORD;
    v_held INTEGER;
BEGIN
    SELECT r."tenantId", r."state", r."concurrencyKey", r."parentStepId", v."timeoutS",
           r."startedAt" AT TIME ZONE 'UTC' + v."timeoutS" * interval '1 second' AS "until" INTO v_run
    FROM public."WorkflowRun" r JOIN public."WorkflowVersion" v ON v."id" = r."versionId"
    WHERE r."id" = p_run_id AND r."status" IN ('PENDING', 'RUNNING')
    FOR NO KEY UPDATE OF r SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT count(*) INTO v_held FROM (
        SELECT FROM public."WorkflowStep" s
        WHERE s."runId" = p_run_id AND s."state" IN ('pending', 'ready', 'running', 'waiting')
        FOR UPDATE SKIP LOCKED) x;
    IF public.ailydian_lost_steps(p_run_id) = 0 OR v_held <> (
        SELECT count(*) FROM public."WorkflowStep" s
        WHERE s."runId" = p_run_id AND s."state" IN ('pending', 'ready', 'running', 'waiting')) THEN
        RETURN NULL;
    ELSIF v_run."parentStepId" IS NOT NULL AND NOT EXISTS (
        SELECT FROM public."WorkflowWait" w
        WHERE w."id" = v_run."parentStepId" AND w."name" = p_run_id) THEN
        PERFORM public.ailydian_end_run(p_run_id, 'cancelled',
            'the step that started it went on without it', NULL, NULL);
        RETURN true;
    ELSIF v_run."state" = 'queued' THEN
        IF public.ailydian_enter_slot(v_run."tenantId", v_run."concurrencyKey", p_run_id, p_run_id) THEN
            UPDATE public."WorkflowRun" r SET "state" = 'running', "status" = 'RUNNING'
            WHERE r."id" = p_run_id;
            PERFORM public.ailydian_launch_run(p_run_id);
        END IF;
        RETURN public.ailydian_lost_steps(p_run_id) = 0;
    ELSIF v_run."timeoutS" > 0 THEN
        INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "dueAt")
        VALUES (p_run_id, v_run."tenantId", p_run_id, 'deadline', v_run."until") ON CONFLICT DO NOTHING;
    END IF;
    PERFORM public.ailydian_mend_waits(p_run_id);
    PERFORM public.ailydian_mend_steps(p_run_id, v_run."state" = 'paused');
    IF v_run."state" <> 'compensating' THEN
        PERFORM public.ailydian_recount_run(p_run_id);
    ELSE
        PERFORM public.ailydian_mend_undoing(p_run_id);
    END IF;
    RETURN public.ailydian_lost_steps(p_run_id) = 0;
END $$;
CALL ailydian_build_rights('ailydian_mend_run');
