CREATE OR REPLACE FUNCTION ailydian_skip_step(run_id TEXT, step_name TEXT) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET enable_seqscan = off AS $$
DECLARE
    step RECORD;
    waited RECORD;
    jobs TEXT[];
BEGIN
    PERFORM public.ailydian_lock_run(run_id, false, 'running', 'paused');
    SELECT s."id", s."state", s."jobId", s."position", s."itemIndex", s."openNeeds" INTO step
    FROM public."WorkflowStep" s WHERE s."runId" = run_id AND s."stepName" = step_name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run_refused: the run % has no step %', run_id, step_name
            USING ERRCODE = 'AL008';
    ELSIF step."openNeeds" > 0 THEN  -- otherwise the run might end while what it needs still runs
        RAISE EXCEPTION 'run_refused: what the step % needs is not over yet: skip that', step_name
            USING ERRCODE = 'AL008';
    END IF;
    PERFORM FROM public."WorkflowStep" s WHERE s."id" = step."id"
        AND s."state" IN ('pending', 'ready', 'running', 'waiting') FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run_refused: the step % is over, or just being finished', step_name
            USING ERRCODE = 'AL008';
    END IF;
    jobs := ARRAY[step."jobId"];
    IF step."itemIndex" < 0 THEN
        WITH items AS (
            UPDATE public."WorkflowStep" s SET "state" = 'cancelled', "status" = 'CANCELLED',
                "completedAt" = clock_timestamp() AT TIME ZONE 'UTC'
            WHERE s."id" IN (
                SELECT i."id" FROM public."WorkflowStep" i
                WHERE i."runId" = run_id AND i."position" = step."position" AND i."itemIndex" >= 0
                  AND i."state" IN ('pending', 'ready', 'running', 'waiting')
                FOR UPDATE SKIP LOCKED) RETURNING s."jobId"
        )
        SELECT jobs || coalesce(array_agg(i."jobId"), '{}') INTO jobs FROM items i;
    END IF;
    PERFORM public.ailydian_step_over(step."id", 'skipped', NULL, NULL, NULL);
    FOR waited IN
        DELETE FROM public."WorkflowWait" w
        WHERE w."runId" = run_id
          AND (w."id" = step."id" OR starts_with(w."id", step."id" || '/'))
        RETURNING w."id", w."what", w."name"
    LOOP
        IF waited."what" = 'run' THEN
            PERFORM public.ailydian_end_run(waited."name", 'cancelled', 'its step was skipped', NULL,
                                            NULL);
        END IF;
    END LOOP;
    PERFORM public.ailydian_leave_slot(g."tenantId", g."key", g."holder")
    FROM public."WorkflowSlot" g
    WHERE g."runId" = run_id AND starts_with(g."holder", step."id" || '/');
    PERFORM public.ailydian_stop_jobs(array_remove(jobs, NULL), 'its step was skipped');
END $$;
