-- Skip a step that has what it needs and is not over; its items, job, waits and places behind keys
-- go. What depends on it goes on without its output.
-- Locks: the run (for those who act on it, not for walkers), the step, its items, then what settling
-- the step locks, and its jobs.
CREATE OR REPLACE FUNCTION ailydian_skip_step(p_run_id TEXT, p_step_name TEXT) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET jit = off SET enable_seqscan = off AS $$
DECLARE
    v_step RECORD;
    v_wait RECORD;
    v_job_ids TEXT[];
BEGIN
    PERFORM public.ailydian_lock_run(p_run_id, false, 'running', 'paused');
    SELECT s."id", s."state", s."jobId", s."position", s."itemIndex", s."openNeeds" INTO v_step
    FROM public."WorkflowStep" s WHERE s."runId" = p_run_id AND s."stepName" = p_step_name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run_refused: the run % has no step %', p_run_id, public.ailydian_visible(p_step_name)
            USING ERRCODE = 'AL008';
    ELSIF v_step."openNeeds" > 0 THEN  -- otherwise the run might end while what it needs still runs
        RAISE EXCEPTION 'run_refused: the steps that % needs are not finished; skip those first', p_step_name
            USING ERRCODE = 'AL008';
    END IF;
    PERFORM FROM public."WorkflowStep" s WHERE s."id" = v_step."id"
        AND s."state" IN ('pending', 'ready', 'running', 'waiting') FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run_refused: the step % is finished or about to finish', p_step_name
            USING ERRCODE = 'AL008';
    END IF;
    v_job_ids := ARRAY[v_step."jobId"];
    IF v_step."itemIndex" < 0 THEN
        WITH items AS (
            UPDATE public."WorkflowStep" s SET "state" = 'cancelled', "status" = 'CANCELLED',
                "completedAt" = clock_timestamp() AT TIME ZONE 'UTC'
            WHERE s."id" IN (
                SELECT i."id" FROM public."WorkflowStep" i
                WHERE i."runId" = p_run_id AND i."position" = v_step."position" AND i."itemIndex" >= 0
                  AND i."state" IN ('pending', 'ready', 'running', 'waiting')
                FOR UPDATE SKIP LOCKED) RETURNING s."jobId", s."id", s."tenantId", s."stepName"
        ), noted AS (
            INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what")
            SELECT i."tenantId", i."id", i."stepName", 'workflow', 'STEP_CANCELLED' FROM items i
        )
        SELECT v_job_ids || coalesce(array_agg(i."jobId"), '{}') INTO v_job_ids FROM items i;
    END IF;
    PERFORM public.ailydian_step_over(v_step."id", 'skipped', NULL, NULL, NULL);
    FOR v_wait IN
        DELETE FROM public."WorkflowWait" w
        WHERE w."runId" = p_run_id
          AND (w."id" = v_step."id" OR starts_with(w."id", v_step."id" || '/'))
        RETURNING w."id", w."what", w."name"
    LOOP
        IF v_wait."what" = 'run' THEN
            PERFORM public.ailydian_end_child_run(v_wait."name", v_wait."id",
                                                  'its step was skipped');
        END IF;
    END LOOP;
    PERFORM public.ailydian_leave_slot(g."tenantId", g."key", g."holder")
    FROM public."WorkflowSlot" g
    WHERE g."runId" = p_run_id AND starts_with(g."holder", v_step."id" || '/');
    PERFORM public.ailydian_stop_jobs(array_remove(v_job_ids, NULL), 'its step was skipped');
END $$;
CALL ailydian_build_rights('ailydian_skip_step', 'ailydian_app');
