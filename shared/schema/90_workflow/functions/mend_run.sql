-- Give a run what it lacks. Whoever finishes a step of it now is left alone: it is looked at again.
-- Returns whether all is well now; NULL where nothing is wrong, or could be told.
CREATE OR REPLACE FUNCTION ailydian_mend_run(of_run TEXT) RETURNS BOOLEAN
LANGUAGE plpgsql AS $$
DECLARE
    run RECORD;
    waited RECORD;
    held INTEGER;
BEGIN
    SELECT r."tenantId", r."state", r."concurrencyKey", r."parentStepId", v."timeoutS",
           r."startedAt" AT TIME ZONE 'UTC' + v."timeoutS" * interval '1 second' AS "until" INTO run
    FROM public."WorkflowRun" r JOIN public."WorkflowVersion" v ON v."id" = r."versionId"
    WHERE r."id" = of_run AND r."status" IN ('PENDING', 'RUNNING')
    FOR NO KEY UPDATE OF r SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT count(*) INTO held FROM (
        SELECT FROM public."WorkflowStep" s
        WHERE s."runId" = of_run AND s."state" IN ('pending', 'ready', 'running', 'waiting')
        FOR UPDATE SKIP LOCKED) x;
    IF public.ailydian_lost_steps(of_run) = 0 OR held <> (
        SELECT count(*) FROM public."WorkflowStep" s
        WHERE s."runId" = of_run AND s."state" IN ('pending', 'ready', 'running', 'waiting')) THEN
        RETURN NULL;
    ELSIF run."parentStepId" IS NOT NULL AND NOT EXISTS (
        SELECT FROM public."WorkflowWait" w
        WHERE w."id" = run."parentStepId" AND w."name" = of_run) THEN
        PERFORM public.ailydian_end_run(of_run, 'cancelled', 'the step that started it went on without it',
                                        NULL, NULL);
        RETURN true;
    ELSIF run."state" = 'queued' THEN
        IF public.ailydian_enter_slot(run."tenantId", run."concurrencyKey", of_run, of_run) THEN
            UPDATE public."WorkflowRun" r SET "state" = 'running', "status" = 'RUNNING'
            WHERE r."id" = of_run;
            PERFORM public.ailydian_launch_run(of_run);
        END IF;
        RETURN public.ailydian_lost_steps(of_run) = 0;
    ELSIF run."timeoutS" > 0 THEN
        INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "dueAt")
        VALUES (of_run, run."tenantId", of_run, 'deadline', run."until") ON CONFLICT DO NOTHING;
    END IF;
    -- Runs that ended unheard, turns that came unnoticed.
    FOR waited IN
        DELETE FROM public."WorkflowWait" w
        WHERE w."runId" = of_run AND w."what" IN ('run', 'slot') AND CASE w."what"
            WHEN 'run' THEN NOT EXISTS (
                SELECT FROM public."WorkflowRun" c WHERE c."id" = w."name"
                  AND c."state" IN ('queued', 'running', 'paused', 'compensating'))
            ELSE w."id" IS NOT DISTINCT FROM coalesce((
                SELECT g."holder" FROM public."WorkflowSlot" g
                WHERE g."tenantId" = w."tenantId" AND g."key" = w."name"
                ORDER BY g."seq" LIMIT 1), w."id") OR NOT EXISTS (
                SELECT FROM public."WorkflowSlot" g
                WHERE g."runId" = of_run AND g."holder" = w."id") END
        RETURNING w."id", w."what", w."name"
    LOOP
        IF waited."what" = 'run' THEN
            PERFORM public.ailydian_step_over(waited."id",
                CASE c."state" WHEN 'completed' THEN 'completed' ELSE 'failed' END, c."output",
                concat('its run ', c."id", ' ', c."state", ': ' || c."error"), c."fingerprint")
            FROM public."WorkflowRun" c WHERE c."id" = waited."name";
        END IF;
    END LOOP;
    UPDATE public."WorkflowStep" s SET "state" = 'pending', "status" = 'PENDING', "jobId" = NULL
    WHERE s."runId" = of_run AND CASE s."state"
        WHEN 'waiting' THEN NOT EXISTS (SELECT FROM public."WorkflowWait" w WHERE w."id" = s."id")
        WHEN 'ready' THEN run."state" <> 'paused' OR s."jobId" IS NOT NULL
        ELSE s."state" = 'running' AND (s."items" IS NULL OR s."itemIndex" >= 0) END
      AND (s."state" = 'waiting' OR NOT EXISTS (
          SELECT FROM public."Job" j WHERE j."id" = s."jobId" AND j."stepId" = s."id"
            AND j."state" IN ('PENDING', 'RUNNING')));
    IF run."state" <> 'compensating' THEN
        PERFORM public.ailydian_recount_run(of_run);
    ELSE
        PERFORM public.ailydian_enqueue_steps(ARRAY(
            SELECT s."id" FROM public."WorkflowStep" s
            WHERE s."runId" = of_run AND s."state" = 'pending' AND s."itemIndex" = -1), of_run);
        IF NOT EXISTS (SELECT FROM public."WorkflowStep" s
                       WHERE s."runId" = of_run AND s."state" IN ('ready', 'running', 'waiting')) THEN
            PERFORM public.ailydian_enqueue_steps(public.ailydian_compensate(of_run), of_run);
        END IF;
    END IF;
    RETURN public.ailydian_lost_steps(of_run) = 0;
END $$;
CALL ailydian_build_rights('ailydian_mend_run');
