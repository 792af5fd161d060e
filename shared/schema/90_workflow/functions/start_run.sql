-- Start a run. `on_conflict` says what becomes of others with its concurrency key. Returns the run
-- under this key, which may be an older one.
CREATE OR REPLACE FUNCTION ailydian_start_run(
    run_id TEXT, of_version TEXT, given JSONB, run_key TEXT, slot_key TEXT, on_conflict TEXT,
    parent_step TEXT, parent_depth INTEGER, published_by TEXT, trace TEXT
) RETURNS TABLE ("id" TEXT, "state" TEXT, "duplicate" BOOLEAN) LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    tenant CONSTANT TEXT := current_setting('app.tenant_id');
    version RECORD;
    earlier RECORD;
    state_now TEXT := 'running';
BEGIN
    SELECT v."workflowId", v."ends" INTO version FROM public."WorkflowVersion" v
    WHERE v."id" = of_version AND v."tenantId" = tenant;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'version_not_found: no version of a workflow has the id %', of_version
            USING ERRCODE = 'AL005';
    END IF;
    run_id := coalesce(run_id, public.ailydian_new_id());
    INSERT INTO public."WorkflowRun" ("id", "workflowId", "status", "input", "tenantId", "versionId",
        "state", "key", "concurrencyKey", "parentStepId", "depth", "endsOpen", "producer",
        "traceparent")
    VALUES (run_id, version."workflowId", 'RUNNING', given, tenant, of_version, 'running', run_key,
            slot_key, parent_step, parent_depth, version."ends", published_by, trace)
    ON CONFLICT ("workflowId", "key") WHERE "key" IS NOT NULL DO NOTHING;
    IF NOT FOUND THEN
        RETURN QUERY SELECT r."id", r."state", true FROM public."WorkflowRun" r
                     WHERE r."workflowId" = version."workflowId" AND r."key" = run_key;
        RETURN;
    END IF;
    INSERT INTO public."WorkflowStep" ("id", "runId", "stepName", "status", "tenantId", "position",
                                       "itemIndex", "state", "openNeeds")
    SELECT run_id || '/' || n."position", run_id, n."name", 'PENDING', tenant, n."position", -1,
           'pending', n."needs"
    FROM public."WorkflowNode" n
    WHERE n."versionId" = of_version AND n."compensates" IS NULL ORDER BY n."position";
    IF slot_key IS NOT NULL AND NOT public.ailydian_enter_slot(tenant, slot_key, run_id, run_id) THEN
        IF on_conflict = 'reject' THEN
            RAISE EXCEPTION 'run_rejected: another run holds the concurrency key %', slot_key
                USING ERRCODE = 'AL006';
        END IF;
        state_now := 'queued';
        UPDATE public."WorkflowRun" r SET "state" = 'queued', "status" = 'PENDING'
        WHERE r."id" = run_id;
        IF on_conflict = 'cancel_previous' THEN
            FOR earlier IN
                SELECT s."runId" FROM public."WorkflowSlot" s
                WHERE s."tenantId" = tenant AND s."key" = slot_key AND s."runId" <> run_id
                ORDER BY s."seq" DESC
            LOOP
                PERFORM public.ailydian_end_run(earlier."runId", 'cancelled',
                    'a newer run with its concurrency key took its place', NULL, NULL);
            END LOOP;
            state_now := (SELECT r."state" FROM public."WorkflowRun" r WHERE r."id" = run_id);
        END IF;
    ELSE
        PERFORM public.ailydian_launch_run(run_id);
    END IF;
    RETURN QUERY SELECT run_id, state_now, false;
END $$;
