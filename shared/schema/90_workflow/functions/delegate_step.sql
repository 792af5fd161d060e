-- A step becomes a job of another kind, which finishes it when it ends.
CREATE OR REPLACE FUNCTION ailydian_delegate_step(
    job_id TEXT, job_fence BIGINT, step_id TEXT, given JSONB, kind TEXT, kind_queue TEXT,
    version INTEGER, attempts INTEGER, limit_key TEXT, job_cost INTEGER, lease_s DOUBLE PRECISION
) RETURNS JSONB LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    new_id CONSTANT TEXT := public.ailydian_new_id();
    walker RECORD;
BEGIN
    IF public.ailydian_own_step(job_id, job_fence, step_id) = 'held' THEN
        SELECT j."tenantId", j."timeLimitS", j."backoffS", j."traceparent" INTO walker
        FROM public."Job" j WHERE j."id" = job_id;
        UPDATE public."WorkflowStep" s SET "jobId" = new_id, "input" = given WHERE s."id" = step_id;
        INSERT INTO public."Job" ("id", "tenantId", "job", "queue", "payload", "schemaVersion",
            "stepId", "attemptsMax", "limitKey", "cost", "timeLimitS", "backoffS", "parentId",
            "producer", "traceparent")
        VALUES (new_id, walker."tenantId", kind, kind_queue, given, version, step_id, attempts,
                limit_key, job_cost, walker."timeLimitS", walker."backoffS", job_id, 'workflow',
                walker."traceparent");
    END IF;
    RETURN public.ailydian_walk_on(job_id, '{}', NULL, NULL, 0);
END $$;
