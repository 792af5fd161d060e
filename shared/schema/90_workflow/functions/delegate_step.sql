-- A step becomes a job of another kind, which finishes it when it ends.
CREATE OR REPLACE FUNCTION ailydian_delegate_step(
    p_job_id TEXT, p_fence BIGINT, p_step_id TEXT, p_input JSONB, p_job TEXT, p_queue TEXT,
    p_schema_version INTEGER, p_attempts_max INTEGER, p_limit_key TEXT, p_cost INTEGER, p_lease_s DOUBLE PRECISION
) RETURNS JSONB LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_new_id CONSTANT TEXT := public.ailydian_new_id();
    v_walker RECORD;
BEGIN
    IF public.ailydian_own_step(p_job_id, p_fence, p_step_id) = 'held' THEN
        SELECT j."tenantId", j."timeLimitS", j."backoffS", j."traceparent" INTO v_walker
        FROM public."Job" j WHERE j."id" = p_job_id;
        UPDATE public."WorkflowStep" s SET "jobId" = v_new_id, "input" = p_input WHERE s."id" = p_step_id;
        INSERT INTO public."Job" ("id", "tenantId", "job", "queue", "payload", "schemaVersion",
            "stepId", "attemptsMax", "limitKey", "cost", "timeLimitS", "backoffS", "parentId",
            "producer", "traceparent")
        VALUES (v_new_id, v_walker."tenantId", p_job, p_queue, p_input, p_schema_version, p_step_id, p_attempts_max,
                p_limit_key, p_cost, v_walker."timeLimitS", v_walker."backoffS", p_job_id, 'workflow',
                v_walker."traceparent");
    END IF;
    RETURN public.ailydian_walk_on(p_job_id, '{}', NULL, NULL, 0);
END $$;
CALL ailydian_build_rights('ailydian_delegate_step', 'ailydian_app');
