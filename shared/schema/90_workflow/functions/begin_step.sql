-- Begin the step of a walker's job; when its run is paused or over, the job is completed.
CREATE OR REPLACE FUNCTION ailydian_begin_step(p_job_id TEXT, p_fence BIGINT) RETURNS JSONB
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
DECLARE
    v_job RECORD;
    v_run RECORD;
BEGIN
    SELECT j."stepId", j."attempt", j."attemptsMax" INTO v_job FROM public."Job" j
    WHERE j."id" = p_job_id AND j."fence" = p_fence AND j."state" = 'RUNNING'
      AND j."tenantId" = current_setting('app.tenant_id') FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'lease_lost: this attempt no longer owns the job %', p_job_id USING ERRCODE = 'AL001';
    END IF;
    SELECT r."state" = 'running' OR (r."state" = 'compensating' AND n."compensates" IS NOT NULL)
           AS "goes", r."state" INTO v_run FROM public."WorkflowStep" s
    JOIN public."WorkflowRun" r ON r."id" = s."runId"
    JOIN public."WorkflowNode" n ON n."versionId" = r."versionId" AND n."position" = s."position"
    WHERE s."id" = v_job."stepId";
    UPDATE public."WorkflowStep" s SET "state" = 'running', "status" = 'RUNNING',
        "attempt" = v_job."attempt", "jobId" = p_job_id,
        "startedAt" = clock_timestamp() AT TIME ZONE 'UTC'
    WHERE s."id" = v_job."stepId" AND s."jobId" = p_job_id AND s."state" IN ('ready', 'running')
      AND v_run."goes";
    IF FOUND THEN
        RETURN public.ailydian_step_context(v_job."stepId", NULL, NULL)
            || jsonb_build_object('fence', p_fence, 'attempt', v_job."attempt",
                                  'attemptsMax', v_job."attemptsMax");
    END IF;
    IF v_run."state" = 'paused' THEN
        UPDATE public."WorkflowStep" s SET "state" = 'ready', "status" = 'PENDING', "jobId" = NULL
        WHERE s."id" = v_job."stepId" AND s."jobId" = p_job_id AND s."state" IN ('ready', 'running');
    ELSE
        WITH stopped AS (
            UPDATE public."WorkflowStep" s SET "state" = 'cancelled', "status" = 'CANCELLED',
                "completedAt" = clock_timestamp() AT TIME ZONE 'UTC'
            WHERE s."id" = v_job."stepId" AND s."jobId" = p_job_id AND s."state" IN ('ready', 'running')
            RETURNING s.*
        )
        INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what")
        SELECT s."tenantId", s."id", s."stepName", 'workflow', 'STEP_CANCELLED' FROM stopped s;
    END IF;
    RETURN public.ailydian_walk_on(p_job_id, '{}', NULL, NULL, 0);
END $$;
CALL ailydian_build_rights('ailydian_begin_step', 'ailydian_app');
