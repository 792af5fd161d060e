-- A walker goes on with one of the steps that may begin, or its job is done. The others get jobs.
-- Returns what it needs to know of its next step.
CREATE OR REPLACE FUNCTION ailydian_walk_on(
    job_id TEXT, opened TEXT[], left_run TEXT, left_position INTEGER, lease_s DOUBLE PRECISION
) RETURNS JSONB LANGUAGE plpgsql AS $$
DECLARE
    mine TEXT;
    job RECORD;
    node RECORD;
BEGIN
    IF opened <> '{}' AND lease_s > 0 AND NOT EXISTS (
        SELECT FROM public."JobHold" h JOIN public."Job" j ON j."id" = job_id
        WHERE (h."queue" IS NULL OR h."queue" = 'workflow')
          AND (h."tenantId" IS NULL OR h."tenantId" = j."tenantId")
          AND (h."job" IS NULL OR h."job" = 'run_step')
    ) AND NOT EXISTS (
        SELECT FROM public."JobLimit" l WHERE l."ratePerS" IS NOT NULL
          AND (l."job" IS NULL OR l."job" = 'run_step')
    ) THEN
        mine := opened[1];
        opened := opened[2:];
    END IF;
    PERFORM public.ailydian_enqueue_steps(opened, job_id);
    IF mine IS NULL THEN
        UPDATE public."Job" j SET "state" = 'COMPLETED', "finishedAt" = clock_timestamp(),
            "leaseUntil" = NULL, "error" = NULL
        WHERE j."id" = job_id
        RETURNING j."tenantId", j."dueAt", j."startedAt", j."finishedAt" INTO job;
        DELETE FROM public."JobFlight" f WHERE f."jobId" = job_id;
        INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what", "waitedS", "tookS")
        VALUES (job."tenantId", job_id, 'run_step', 'workflow', 'COMPLETED',
                extract(epoch FROM job."startedAt" - job."dueAt"),
                extract(epoch FROM job."finishedAt" - job."startedAt"));
        RETURN NULL;
    END IF;
    SELECT n."attemptsMax", n."backoffS", n."timeoutS" INTO STRICT node
    FROM public."WorkflowStep" s JOIN public."WorkflowRun" r ON r."id" = s."runId"
    JOIN public."WorkflowNode" n ON n."versionId" = r."versionId" AND n."position" = s."position"
    WHERE s."id" = mine;
    UPDATE public."Job" j SET "stepId" = mine, "fence" = j."fence" + 1, "attempt" = 1,
        "attemptsMax" = node."attemptsMax", "backoffS" = node."backoffS",
        "timeLimitS" = node."timeoutS", "crashes" = 0, "error" = NULL,
        "leaseUntil" = now() + lease_s * interval '1 second'
    WHERE j."id" = job_id RETURNING j."fence" INTO job;
    UPDATE public."WorkflowStep" s SET "state" = 'running', "status" = 'RUNNING', "jobId" = job_id,
        "attempt" = 1, "startedAt" = clock_timestamp() AT TIME ZONE 'UTC'
    WHERE s."id" = mine;
    RETURN public.ailydian_step_context(mine, left_run, left_position)
        || jsonb_build_object('fence', job."fence", 'attempt', 1, 'attemptsMax', node."attemptsMax");
END $$;
CALL ailydian_build_rights('ailydian_walk_on');
