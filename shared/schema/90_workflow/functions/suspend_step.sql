-- A step waits: for a time, a signal, an approval, a run that was just started. A signal that came
-- before is taken at once.
CREATE OR REPLACE FUNCTION ailydian_suspend_step(
    p_job_id TEXT, p_fence BIGINT, p_step_id TEXT, p_awaited TEXT, p_wait_name TEXT, p_wait_s DOUBLE PRECISION,
    p_wait_until TIMESTAMPTZ, p_input JSONB, p_lease_s DOUBLE PRECISION
) RETURNS JSONB LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_run_id TEXT;
    v_held CONSTANT TEXT := public.ailydian_own_step(p_job_id, p_fence, p_step_id);
    v_earlier RECORD;
BEGIN
    IF v_held = 'moved' THEN
        RETURN public.ailydian_step_at(p_job_id);
    ELSIF v_held = 'stopped' THEN
        RETURN public.ailydian_walk_on(p_job_id, '{}', NULL, NULL, 0);
    END IF;
    IF p_awaited = 'run' AND NOT EXISTS (
        SELECT FROM public."WorkflowRun" r WHERE r."id" = p_wait_name
          AND r."parentStepId" = p_step_id AND r."tenantId" = current_setting('app.tenant_id')) THEN
        RAISE EXCEPTION 'run_not_found: the step % has started no run %', p_step_id,
            public.ailydian_visible(p_wait_name) USING ERRCODE = 'AL007';
    END IF;
    -- A sender of a signal locks the run: the signal comes before, or finds us waiting. Stopping the
    -- run locks it as well: the run that was started for the step ends with it.
    SELECT r."id" INTO STRICT v_run_id
    FROM public."WorkflowStep" s JOIN public."WorkflowRun" r ON r."id" = s."runId"
    WHERE s."id" = p_step_id AND s."tenantId" = current_setting('app.tenant_id') FOR UPDATE OF r;
    IF p_awaited = 'run' AND (SELECT r."state" FROM public."WorkflowRun" r WHERE r."id" = v_run_id)
                           NOT IN ('running', 'paused', 'compensating') THEN
        PERFORM public.ailydian_end_child_run(p_wait_name, p_step_id, 'its run had ended');
    END IF;
    IF p_awaited = 'signal' THEN
        UPDATE public."WorkflowSignal" g SET "takenBy" = p_step_id
        WHERE g."runId" = v_run_id AND g."seq" = (
            SELECT min(x."seq") FROM public."WorkflowSignal" x
            WHERE x."runId" = v_run_id AND x."name" = p_wait_name AND x."takenBy" IS NULL)
        RETURNING g."payload" INTO v_earlier;
        IF FOUND THEN
            RETURN public.ailydian_walk_on(p_job_id, public.ailydian_answer_step(
                p_step_id, p_awaited, v_earlier."payload", p_input), v_run_id, NULL, p_lease_s);
        END IF;
    END IF;
    UPDATE public."WorkflowStep" s SET "state" = 'waiting', "jobId" = NULL, "input" = p_input
    WHERE s."id" = p_step_id;
    INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "name", "dueAt")
    SELECT p_step_id, r."tenantId", v_run_id, p_awaited, p_wait_name,
           coalesce(p_wait_until, now() + p_wait_s * interval '1 second')
    FROM public."WorkflowRun" r WHERE r."id" = v_run_id;
    RETURN public.ailydian_walk_on(p_job_id, '{}', NULL, NULL, 0);
END $$;
CALL ailydian_build_rights('ailydian_suspend_step', 'ailydian_app');
