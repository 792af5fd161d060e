-- A new run from a step on: what does not depend on that step is taken over from the old run, which
-- stays as it is. It stands in no line of a concurrency key.
CREATE OR REPLACE FUNCTION ailydian_fork_run(run_id TEXT, step_name TEXT, sender TEXT) RETURNS TEXT
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
DECLARE
    fork CONSTANT TEXT := public.ailydian_new_id();
    run RECORD;
    begin_at INTEGER;
BEGIN
    PERFORM public.ailydian_lock_run(run_id, true, 'completed', 'failed', 'cancelled');
    SELECT * INTO run FROM public."WorkflowRun" r WHERE r."id" = run_id;
    SELECT n."position" INTO begin_at FROM public."WorkflowNode" n
    WHERE n."versionId" = run."versionId" AND n."name" = step_name AND n."compensates" IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run_refused: the run % has no step %', run_id, step_name
            USING ERRCODE = 'AL008';
    END IF;
    INSERT INTO public."WorkflowRun" ("id", "workflowId", "status", "input", "tenantId", "versionId",
        "state", "forkOf", "endsOpen", "producer", "traceparent")
    VALUES (fork, run."workflowId", 'RUNNING', run."input", run."tenantId", run."versionId",
            'running', run_id, 0, sender, run."traceparent");
    WITH RECURSIVE after("position") AS (
        VALUES (begin_at)
        UNION
        SELECT d."position" FROM after a JOIN public."WorkflowNode" n
          ON n."versionId" = run."versionId" AND n."position" = a."position"
        CROSS JOIN unnest(n."dependents") AS d("position")
    ), kept AS MATERIALIZED (
        SELECT s."position" FROM public."WorkflowStep" s JOIN public."WorkflowNode" n
          ON n."versionId" = run."versionId" AND n."position" = s."position"
        WHERE s."runId" = run_id AND s."itemIndex" = -1
          AND (s."state" IN ('completed', 'skipped')
               OR (s."state" = 'failed' AND n."onError" = 'continue'))
          AND s."position" NOT IN (SELECT a."position" FROM after a)
    )
    INSERT INTO public."WorkflowStep" ("id", "runId", "stepName", "status", "input", "output", "error",
        "startedAt", "completedAt", "tenantId", "position", "itemIndex", "item", "state", "items",
        "openItems", "nextItem", "attempt", "fingerprint", "progress")
    SELECT fork || substr(s."id", length(run_id) + 1), fork, s."stepName", s."status", s."input",
           s."output", s."error", s."startedAt", s."completedAt", s."tenantId", s."position",
           s."itemIndex", s."item", s."state", s."items", s."openItems", s."nextItem", s."attempt",
           s."fingerprint", s."progress"
    FROM public."WorkflowStep" s
    WHERE s."runId" = run_id AND s."position" IN (SELECT k."position" FROM kept k)
    UNION ALL
    SELECT fork || '/' || n."position", fork, n."name", 'PENDING', NULL, NULL, NULL,
           now() AT TIME ZONE 'UTC', NULL, run."tenantId", n."position", -1, NULL, 'pending', NULL,
           NULL, NULL, 0, NULL, NULL
    FROM public."WorkflowNode" n
    WHERE n."versionId" = run."versionId" AND n."compensates" IS NULL
      AND n."position" NOT IN (SELECT k."position" FROM kept k);
    INSERT INTO public."WorkflowOutput" ("stepId", "tenantId", "output")
    SELECT fork || substr(o."stepId", length(run_id) + 1), o."tenantId", o."output"
    FROM public."WorkflowStep" s JOIN public."WorkflowOutput" o ON o."stepId" = s."id"
    WHERE s."runId" = run_id AND EXISTS (
        SELECT FROM public."WorkflowStep" f WHERE f."id" = fork || substr(s."id", length(run_id) + 1)
          AND f."state" <> 'pending');
    INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "dueAt")
    SELECT fork, run."tenantId", fork, 'deadline', now() + v."timeoutS" * interval '1 second'
    FROM public."WorkflowVersion" v WHERE v."id" = run."versionId" AND v."timeoutS" > 0;
    PERFORM public.ailydian_recount_run(fork);
    RETURN fork;
END $$;
