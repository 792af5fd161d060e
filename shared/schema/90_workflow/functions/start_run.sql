-- Start a run. `p_on_conflict` says what becomes of others with its concurrency key.
-- Locks: the new run, then its concurrency key; what ending another run locks.
-- Returns the run under this key, which may be an older one.
CREATE OR REPLACE FUNCTION ailydian_start_run(
    p_run_id TEXT, p_version_id TEXT, p_input JSONB, p_key TEXT, p_slot_key TEXT, p_on_conflict TEXT,
    p_parent_step_id TEXT, p_depth INTEGER, p_producer TEXT, p_traceparent TEXT
) RETURNS TABLE ("id" TEXT, "state" TEXT, "duplicate" BOOLEAN) LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_tenant_id CONSTANT TEXT := current_setting('app.tenant_id');
    v_run_id CONSTANT TEXT := coalesce(p_run_id, public.ailydian_new_id());
    v_version RECORD;
    v_state TEXT := 'running';
BEGIN
    -- A step's id begins with its run's, up to the "/": one within it would lead to another run's rows.
    IF strpos(v_run_id, '/') > 0 OR octet_length(v_run_id) NOT BETWEEN 1 AND 64 THEN
        RAISE EXCEPTION 'run_refused: the id of a run must be 1 to 64 bytes and hold no "/"'
            USING ERRCODE = 'AL006';
    END IF;
    SELECT v."workflowId", v."ends" INTO v_version FROM public."WorkflowVersion" v
    WHERE v."id" = p_version_id AND v."tenantId" = v_tenant_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'version_not_found: no workflow version with the id %', public.ailydian_visible(p_version_id)
            USING ERRCODE = 'AL005';
    END IF;
    IF p_parent_step_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM public."WorkflowStep" s
        WHERE s."id" = p_parent_step_id AND s."tenantId" = v_tenant_id) THEN
        RAISE EXCEPTION 'run_not_found: no step with the id %', public.ailydian_visible(p_parent_step_id)
            USING ERRCODE = 'AL007';
    END IF;
    INSERT INTO public."WorkflowRun" ("id", "workflowId", "status", "input", "tenantId", "versionId",
        "state", "key", "concurrencyKey", "parentStepId", "depth", "endsOpen", "producer",
        "traceparent")
    VALUES (v_run_id, v_version."workflowId", 'RUNNING', p_input, v_tenant_id, p_version_id, 'running',
            p_key, p_slot_key, p_parent_step_id, p_depth, v_version."ends", p_producer, p_traceparent)
    ON CONFLICT ("workflowId", "key") WHERE "key" IS NOT NULL DO NOTHING;
    IF NOT FOUND THEN
        RETURN QUERY SELECT r."id", r."state", true FROM public."WorkflowRun" r
                     WHERE r."workflowId" = v_version."workflowId" AND r."key" = p_key;
        RETURN;
    END IF;
    INSERT INTO public."WorkflowStep" ("id", "runId", "stepName", "status", "tenantId", "position",
                                       "itemIndex", "state", "openNeeds")
    SELECT v_run_id || '/' || n."position", v_run_id, n."name", 'PENDING', v_tenant_id, n."position",
           -1, 'pending', n."needs"
    FROM public."WorkflowNode" n
    WHERE n."versionId" = p_version_id AND n."compensates" IS NULL ORDER BY n."position";
    IF p_slot_key IS NOT NULL
       AND NOT public.ailydian_enter_slot(v_tenant_id, p_slot_key, v_run_id, v_run_id) THEN
        v_state := public.ailydian_queue_run(v_run_id, v_tenant_id, p_slot_key, p_on_conflict);
    ELSE
        PERFORM public.ailydian_launch_run(v_run_id);
    END IF;
    RETURN QUERY SELECT v_run_id, v_state, false;
END $$;
CALL ailydian_build_rights('ailydian_start_run', 'ailydian_app');
