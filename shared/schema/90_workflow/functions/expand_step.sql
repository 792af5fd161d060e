-- A mapped step becomes its items, all rows in one statement; as many as may begin at once.
CREATE OR REPLACE FUNCTION ailydian_expand_step(
    p_job_id TEXT, p_fence BIGINT, p_step_id TEXT, p_items JSONB, p_parallel INTEGER,
    p_lease_s DOUBLE PRECISION
) RETURNS JSONB LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_count CONSTANT INTEGER := jsonb_array_length(p_items);
    v_step RECORD;
BEGIN
    IF v_count = 0 THEN
        RETURN public.ailydian_finish_step(p_job_id, p_fence, p_step_id, 'completed', '[]', NULL, NULL,
                                           NULL, p_lease_s);
    ELSIF public.ailydian_own_step(p_job_id, p_fence, p_step_id) <> 'held' THEN
        RETURN public.ailydian_walk_on(p_job_id, '{}', NULL, NULL, 0);
    END IF;
    UPDATE public."WorkflowStep" s SET "items" = v_count, "openItems" = v_count,
        "nextItem" = least(p_parallel, v_count), "jobId" = NULL, "progress" = 0
    WHERE s."id" = p_step_id RETURNING s."runId", s."stepName", s."tenantId", s."position" INTO v_step;
    INSERT INTO public."WorkflowStep" ("id", "runId", "stepName", "status", "tenantId", "position",
                                       "itemIndex", "item", "state")
    SELECT p_step_id || '/' || (i."n" - 1), v_step."runId", format('%s[%s]', v_step."stepName", i."n" - 1),
           'PENDING', v_step."tenantId", v_step."position", i."n" - 1, i."value", 'pending'
    FROM jsonb_array_elements(p_items) WITH ORDINALITY AS i("value", "n")
    ON CONFLICT ("id") DO NOTHING;
    RETURN public.ailydian_walk_on(p_job_id, ARRAY(
        SELECT p_step_id || '/' || n FROM generate_series(0, least(p_parallel, v_count) - 1) n),
        v_step."runId", NULL, CASE WHEN 'running' = (
            SELECT r."state" FROM public."WorkflowRun" r WHERE r."id" = v_step."runId")
            THEN p_lease_s ELSE 0 END);
END $$;
CALL ailydian_build_rights('ailydian_expand_step', 'ailydian_app');
