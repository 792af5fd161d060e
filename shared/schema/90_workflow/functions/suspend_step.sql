-- A step waits: for a time, a signal, an approval, a run that was just started. A signal that came
-- before is taken at once.
CREATE OR REPLACE FUNCTION ailydian_suspend_step(
    job_id TEXT, job_fence BIGINT, step_id TEXT, awaited TEXT, wait_name TEXT, wait_s DOUBLE PRECISION,
    wait_until TIMESTAMPTZ, given JSONB, lease_s DOUBLE PRECISION
) RETURNS JSONB LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    run TEXT := split_part(step_id, '/', 1);
    held CONSTANT TEXT := public.ailydian_own_step(job_id, job_fence, step_id);
    earlier RECORD;
BEGIN
    IF held = 'moved' THEN
        RETURN public.ailydian_step_at(job_id);
    ELSIF held = 'stopped' THEN
        RETURN public.ailydian_walk_on(job_id, '{}', NULL, NULL, 0);
    END IF;
    -- Whoever sends a signal has the run locked: it comes before, or finds us waiting. Whoever stops
    -- the run as well: the run that was started for the step ends with it.
    PERFORM FROM public."WorkflowRun" r WHERE r."id" = run FOR UPDATE;
    IF awaited = 'run' AND (SELECT r."state" FROM public."WorkflowRun" r WHERE r."id" = run)
                           NOT IN ('running', 'paused', 'compensating') THEN
        PERFORM public.ailydian_end_run(wait_name, 'cancelled', 'its run had ended', NULL, NULL);
    END IF;
    IF awaited = 'signal' THEN
        UPDATE public."WorkflowSignal" g SET "takenBy" = step_id
        WHERE g."runId" = run AND g."seq" = (
            SELECT min(x."seq") FROM public."WorkflowSignal" x
            WHERE x."runId" = run AND x."name" = wait_name AND x."takenBy" IS NULL)
        RETURNING g."payload" INTO earlier;
        IF FOUND THEN
            RETURN public.ailydian_walk_on(job_id, public.ailydian_answer_step(
                step_id, awaited, earlier."payload", given), run, NULL, lease_s);
        END IF;
    END IF;
    UPDATE public."WorkflowStep" s SET "state" = 'waiting', "jobId" = NULL, "input" = given
    WHERE s."id" = step_id;
    INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "name", "dueAt")
    SELECT step_id, r."tenantId", run, awaited, wait_name,
           coalesce(wait_until, now() + wait_s * interval '1 second')
    FROM public."WorkflowRun" r WHERE r."id" = run;
    RETURN public.ailydian_walk_on(job_id, '{}', NULL, NULL, 0);
END $$;
