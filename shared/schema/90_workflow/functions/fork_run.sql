-- A new run from a step on: what does not depend on that step is taken over from the old run, which
-- stays as it is. It stands in no line of a concurrency key.
CREATE OR REPLACE FUNCTION ailydian_fork_run(p_run_id TEXT, p_step_name TEXT, p_sender TEXT) RETURNS TEXT
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
DECLARE
    v_fork_id CONSTANT TEXT := public.ailydian_new_id();
    v_run RECORD;
    v_begin_at INTEGER;
BEGIN
    PERFORM public.ailydian_lock_run(p_run_id, true, 'completed', 'failed', 'cancelled');
    SELECT * INTO v_run FROM public."WorkflowRun" r WHERE r."id" = p_run_id;
    SELECT n."position" INTO v_begin_at FROM public."WorkflowNode" n
    WHERE n."versionId" = v_run."versionId" AND n."name" = p_step_name AND n."compensates" IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run_refused: the run % has no step %', p_run_id, p_step_name
            USING ERRCODE = 'AL008';
    END IF;
    INSERT INTO public."WorkflowRun" ("id", "workflowId", "status", "input", "tenantId", "versionId",
        "state", "forkOf", "endsOpen", "producer", "traceparent")
    VALUES (v_fork_id, v_run."workflowId", 'RUNNING', v_run."input", v_run."tenantId", v_run."versionId",
            'running', p_run_id, 0, p_sender, v_run."traceparent");
    WITH RECURSIVE after("position") AS (
        VALUES (v_begin_at)
        UNION
        SELECT d."position" FROM after a JOIN public."WorkflowNode" n
          ON n."versionId" = v_run."versionId" AND n."position" = a."position"
        CROSS JOIN unnest(n."dependents") AS d("position")
    ), kept AS MATERIALIZED (
        SELECT s."position" FROM public."WorkflowStep" s JOIN public."WorkflowNode" n
          ON n."versionId" = v_run."versionId" AND n."position" = s."position"
        WHERE s."runId" = p_run_id AND s."itemIndex" = -1
          AND (s."state" IN ('completed', 'skipped')
               OR (s."state" = 'failed' AND n."onError" = 'continue'))
          AND s."position" NOT IN (SELECT a."position" FROM after a)
    )
    INSERT INTO public."WorkflowStep" ("id", "runId", "stepName", "status", "input", "output", "error",
        "startedAt", "completedAt", "tenantId", "position", "itemIndex", "item", "state", "items",
        "openItems", "nextItem", "attempt", "fingerprint", "progress")
    SELECT v_fork_id || substr(s."id", length(p_run_id) + 1), v_fork_id, s."stepName", s."status", s."input",
           s."output", s."error", s."startedAt", s."completedAt", s."tenantId", s."position",
           s."itemIndex", s."item", s."state", s."items", s."openItems", s."nextItem", s."attempt",
           s."fingerprint", s."progress"
    FROM public."WorkflowStep" s
    WHERE s."runId" = p_run_id AND s."position" IN (SELECT k."position" FROM kept k)
    UNION ALL
    SELECT v_fork_id || '/' || n."position", v_fork_id, n."name", 'PENDING', NULL, NULL, NULL,
           now() AT TIME ZONE 'UTC', NULL, v_run."tenantId", n."position", -1, NULL, 'pending', NULL,
           NULL, NULL, 0, NULL, NULL
    FROM public."WorkflowNode" n
    WHERE n."versionId" = v_run."versionId" AND n."compensates" IS NULL
      AND n."position" NOT IN (SELECT k."position" FROM kept k);
    INSERT INTO public."WorkflowOutput" ("stepId", "tenantId", "output")
    SELECT v_fork_id || substr(o."stepId", length(p_run_id) + 1), o."tenantId", o."output"
    FROM public."WorkflowStep" s JOIN public."WorkflowOutput" o ON o."stepId" = s."id"
    WHERE s."runId" = p_run_id AND EXISTS (
        SELECT FROM public."WorkflowStep" f WHERE f."id" = v_fork_id || substr(s."id", length(p_run_id) + 1)
          AND f."state" <> 'pending');
    INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "dueAt")
    SELECT v_fork_id, v_run."tenantId", v_fork_id, 'deadline', now() + v."timeoutS" * interval '1 second'
    FROM public."WorkflowVersion" v WHERE v."id" = v_run."versionId" AND v."timeoutS" > 0;
    PERFORM public.ailydian_recount_run(v_fork_id);
    RETURN v_fork_id;
END $$;
