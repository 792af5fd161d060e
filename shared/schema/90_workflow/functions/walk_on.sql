-- A walker goes on with one of the steps that may begin, or its job is done. The others get jobs.
-- Returns what it needs to know of its next step.
CREATE OR REPLACE FUNCTION ailydian_walk_on(
    p_job_id TEXT, p_opened TEXT[], p_left_run_id TEXT, p_left_position INTEGER, p_lease_s DOUBLE PRECISION
) RETURNS JSONB LANGUAGE plpgsql AS $$
DECLARE
    v_mine TEXT;
    v_job RECORD;
    v_node RECORD;
    v_fence BIGINT;
BEGIN
    IF p_opened <> '{}' AND p_lease_s > 0 AND NOT EXISTS (
        SELECT FROM public."JobHold" h JOIN public."Job" j ON j."id" = p_job_id
        WHERE (h."queue" IS NULL OR h."queue" = 'workflow')
          AND (h."tenantId" IS NULL OR h."tenantId" = j."tenantId")
          AND (h."job" IS NULL OR h."job" = 'run_step')
    ) AND NOT EXISTS (
        SELECT FROM public."JobLimit" l WHERE l."ratePerS" IS NOT NULL
          AND (l."job" IS NULL OR l."job" = 'run_step')
    ) THEN
        v_mine := p_opened[1];
        p_opened := p_opened[2:];
    END IF;
    PERFORM public.ailydian_enqueue_steps(p_opened, p_job_id);
    IF v_mine IS NULL THEN
        UPDATE public."Job" j SET "state" = 'COMPLETED', "finishedAt" = clock_timestamp(),
            "leaseUntil" = NULL, "error" = NULL
        WHERE j."id" = p_job_id
        RETURNING j."tenantId", j."dueAt", j."startedAt", j."finishedAt" INTO v_job;
        DELETE FROM public."JobFlight" f WHERE f."jobId" = p_job_id;
        INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what", "waitedS", "tookS")
        VALUES (v_job."tenantId", p_job_id, 'run_step', 'workflow', 'COMPLETED',
                extract(epoch FROM v_job."startedAt" - v_job."dueAt"),
                extract(epoch FROM v_job."finishedAt" - v_job."startedAt"));
        RETURN NULL;
    END IF;
    SELECT n."attemptsMax", n."backoffS", n."timeoutS" INTO STRICT v_node
    FROM public."WorkflowStep" s JOIN public."WorkflowRun" r ON r."id" = s."runId"
    JOIN public."WorkflowNode" n ON n."versionId" = r."versionId" AND n."position" = s."position"
    WHERE s."id" = v_mine;
    UPDATE public."Job" j SET "stepId" = v_mine, "fence" = j."fence" + 1, "attempt" = 1,
        "attemptsMax" = v_node."attemptsMax", "backoffS" = v_node."backoffS",
        "timeLimitS" = v_node."timeoutS", "crashes" = 0, "error" = NULL,
        "leaseUntil" = now() + p_lease_s * interval '1 second'
    WHERE j."id" = p_job_id RETURNING j."fence" INTO v_fence;
    UPDATE public."WorkflowStep" s SET "state" = 'running', "status" = 'RUNNING', "jobId" = p_job_id,
        "attempt" = 1, "startedAt" = clock_timestamp() AT TIME ZONE 'UTC'
    WHERE s."id" = v_mine;
    RETURN public.ailydian_step_context(v_mine, p_left_run_id, p_left_position)
        || jsonb_build_object('fence', v_fence, 'attempt', 1, 'attemptsMax', v_node."attemptsMax");
END $$;
CALL ailydian_build_rights('ailydian_walk_on');
