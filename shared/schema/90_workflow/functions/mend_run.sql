-- Give a run what it lacks. Whoever finishes a step of it now is left alone: it is looked at again.
-- Returns whether all is well now; NULL where nothing is wrong, or could be told.
CREATE OR REPLACE FUNCTION ailydian_mend_run(p_run_id TEXT) RETURNS BOOLEAN
LANGUAGE plpgsql AS $$
DECLARE
    v_run RECORD;
    v_wait RECORD;
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
        PERFORM public.ailydian_end_run(p_run_id, 'cancelled', 'the step that started it went on without it',
                                        NULL, NULL);
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
    -- Runs that ended unheard, turns that came unnoticed.
    FOR v_wait IN
        DELETE FROM public."WorkflowWait" w
        WHERE w."runId" = p_run_id AND w."what" IN ('run', 'slot') AND CASE w."what"
            WHEN 'run' THEN NOT EXISTS (
                SELECT FROM public."WorkflowRun" c WHERE c."id" = w."name"
                  AND c."state" IN ('queued', 'running', 'paused', 'compensating'))
            ELSE w."id" IS NOT DISTINCT FROM coalesce((
                SELECT g."holder" FROM public."WorkflowSlot" g
                WHERE g."tenantId" = w."tenantId" AND g."key" = w."name"
                ORDER BY g."seq" LIMIT 1), w."id") OR NOT EXISTS (
                SELECT FROM public."WorkflowSlot" g
                WHERE g."runId" = p_run_id AND g."holder" = w."id") END
        RETURNING w."id", w."what", w."name"
    LOOP
        IF v_wait."what" = 'run' THEN
            PERFORM public.ailydian_step_over(v_wait."id",
                CASE c."state" WHEN 'completed' THEN 'completed' ELSE 'failed' END, c."output",
                concat('its run ', c."id", ' ', c."state", ': ' || c."error"), c."fingerprint")
            FROM public."WorkflowRun" c WHERE c."id" = v_wait."name";
        END IF;
    END LOOP;
    UPDATE public."WorkflowStep" s SET "state" = 'pending', "status" = 'PENDING', "jobId" = NULL
    WHERE s."runId" = p_run_id AND CASE s."state"
        WHEN 'waiting' THEN NOT EXISTS (SELECT FROM public."WorkflowWait" w WHERE w."id" = s."id")
        WHEN 'ready' THEN v_run."state" <> 'paused' OR s."jobId" IS NOT NULL
        ELSE s."state" = 'running' AND (s."items" IS NULL OR s."itemIndex" >= 0) END
      AND (s."state" = 'waiting' OR NOT EXISTS (
          SELECT FROM public."Job" j WHERE j."id" = s."jobId" AND j."stepId" = s."id"
            AND j."state" IN ('PENDING', 'RUNNING')));
    IF v_run."state" <> 'compensating' THEN
        PERFORM public.ailydian_recount_run(p_run_id);
    ELSE
        PERFORM public.ailydian_enqueue_steps(ARRAY(
            SELECT s."id" FROM public."WorkflowStep" s
            WHERE s."runId" = p_run_id AND s."state" = 'pending' AND s."itemIndex" = -1), p_run_id);
        IF NOT EXISTS (SELECT FROM public."WorkflowStep" s
                       WHERE s."runId" = p_run_id AND s."state" IN ('ready', 'running', 'waiting')) THEN
            PERFORM public.ailydian_enqueue_steps(public.ailydian_compensate(p_run_id), p_run_id);
        END IF;
    END IF;
    RETURN public.ailydian_lost_steps(p_run_id) = 0;
END $$;
CALL ailydian_build_rights('ailydian_mend_run');
