-- A mapped step becomes its items, all rows in one statement; as many as may begin at once.
CREATE OR REPLACE FUNCTION ailydian_expand_step(
    job_id TEXT, job_fence BIGINT, step_id TEXT, list JSONB, parallel INTEGER,
    lease_s DOUBLE PRECISION
) RETURNS JSONB LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    count CONSTANT INTEGER := jsonb_array_length(list);
    step RECORD;
BEGIN
    IF count = 0 THEN
        RETURN public.ailydian_finish_step(job_id, job_fence, step_id, 'completed', '[]', NULL, NULL,
                                           NULL, lease_s);
    ELSIF public.ailydian_own_step(job_id, job_fence, step_id) <> 'held' THEN
        RETURN public.ailydian_walk_on(job_id, '{}', NULL, NULL, 0);
    END IF;
    UPDATE public."WorkflowStep" s SET "items" = count, "openItems" = count,
        "nextItem" = least(parallel, count), "jobId" = NULL, "progress" = 0
    WHERE s."id" = step_id RETURNING s."runId", s."stepName", s."tenantId", s."position" INTO step;
    INSERT INTO public."WorkflowStep" ("id", "runId", "stepName", "status", "tenantId", "position",
                                       "itemIndex", "item", "state")
    SELECT step_id || '/' || (i."n" - 1), step."runId", format('%s[%s]', step."stepName", i."n" - 1),
           'PENDING', step."tenantId", step."position", i."n" - 1, i."value", 'pending'
    FROM jsonb_array_elements(list) WITH ORDINALITY AS i("value", "n")
    ON CONFLICT ("id") DO NOTHING;
    RETURN public.ailydian_walk_on(job_id, ARRAY(
        SELECT step_id || '/' || n FROM generate_series(0, least(parallel, count) - 1) n),
        step."runId", NULL, CASE WHEN 'running' = (
            SELECT r."state" FROM public."WorkflowRun" r WHERE r."id" = step."runId")
            THEN lease_s ELSE 0 END);
END $$;
