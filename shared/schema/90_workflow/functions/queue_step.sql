-- A step waits for its turn behind a concurrency key. Returns whether it may go on now.
CREATE OR REPLACE FUNCTION ailydian_queue_step(
    p_job_id TEXT, p_fence BIGINT, p_step_id TEXT, p_slot_key TEXT
) RETURNS BOOLEAN LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_run_id TEXT;
    v_tenant_id CONSTANT TEXT := current_setting('app.tenant_id');
BEGIN
    IF public.ailydian_own_step(p_job_id, p_fence, p_step_id) = 'held' THEN
        SELECT s."runId" INTO STRICT v_run_id FROM public."WorkflowStep" s
        WHERE s."id" = p_step_id AND s."tenantId" = v_tenant_id;
        IF public.ailydian_enter_slot(v_tenant_id, p_slot_key, p_step_id, v_run_id) THEN
            RETURN true;
        END IF;
        UPDATE public."WorkflowStep" s SET "state" = 'waiting', "jobId" = NULL WHERE s."id" = p_step_id;
        INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "name")
        VALUES (p_step_id, v_tenant_id, v_run_id, 'slot', p_slot_key);
    END IF;
    PERFORM public.ailydian_walk_on(p_job_id, '{}', NULL, NULL, 0);
    RETURN false;
END $$;
CALL ailydian_build_rights('ailydian_queue_step', 'ailydian_app');
