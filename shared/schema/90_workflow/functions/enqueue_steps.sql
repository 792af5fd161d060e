-- Give steps that are ready a job each. `p_parent_id` is the job that made them ready, if one did.
CREATE OR REPLACE FUNCTION ailydian_enqueue_steps(p_step_ids TEXT[], p_parent_id TEXT) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(p_step_ids) = 0 THEN
        RETURN;
    END IF;
    WITH marked AS (
        UPDATE public."WorkflowStep" s SET "state" = 'ready', "status" = 'PENDING',
            "jobId" = public.ailydian_new_id(), "completedAt" = NULL
        FROM unnest(p_step_ids) AS m("id")
        WHERE s."id" = m."id" AND s."state" IN ('pending', 'ready', 'running', 'waiting')
        RETURNING s."id", s."jobId", s."runId", s."position", s."tenantId"
    )
    INSERT INTO public."Job" ("id", "tenantId", "job", "queue", "payload", "stepId", "attemptsMax",
                              "backoffS", "timeLimitS", "parentId", "producer", "traceparent")
    SELECT m."jobId", m."tenantId", 'run_step', 'workflow',
           jsonb_build_object('run_id', m."runId"), m."id", n."attemptsMax", n."backoffS",
           n."timeoutS", p_parent_id, 'workflow', r."traceparent"
    FROM marked m JOIN public."WorkflowRun" r ON r."id" = m."runId"
    JOIN public."WorkflowNode" n ON n."versionId" = r."versionId" AND n."position" = m."position";
END $$;
CALL ailydian_build_rights('ailydian_enqueue_steps');
