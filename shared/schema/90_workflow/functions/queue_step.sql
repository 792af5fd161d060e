-- A step waits for its turn behind a concurrency key. Returns whether it may go on now.
CREATE OR REPLACE FUNCTION ailydian_queue_step(
    job_id TEXT, job_fence BIGINT, step_id TEXT, slot_key TEXT
) RETURNS BOOLEAN LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    run TEXT := split_part(step_id, '/', 1);
    tenant CONSTANT TEXT := current_setting('app.tenant_id');
BEGIN
    IF public.ailydian_own_step(job_id, job_fence, step_id) = 'held' THEN
        IF public.ailydian_enter_slot(tenant, slot_key, step_id, run) THEN
            RETURN true;
        END IF;
        UPDATE public."WorkflowStep" s SET "state" = 'waiting', "jobId" = NULL WHERE s."id" = step_id;
        INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "name")
        VALUES (step_id, tenant, run, 'slot', slot_key);
    END IF;
    PERFORM public.ailydian_walk_on(job_id, '{}', NULL, NULL, 0);
    RETURN false;
END $$;
