-- Steps of a run that failed or were cancelled may be done again. Their dead letters go, with their
-- jobs, but for the job `p_kept_job_id`: that one does its step itself.
-- Locks: those steps, then their dead letters, then the jobs of these.
-- Returns nothing.
CREATE OR REPLACE FUNCTION ailydian_reopen_steps(p_run_id TEXT, p_kept_job_id TEXT) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    WITH again AS (
        UPDATE public."WorkflowStep" s SET "state" = 'pending', "status" = 'PENDING', "error" = NULL,
            "output" = NULL, "fingerprint" = NULL, "completedAt" = NULL
        FROM public."WorkflowRun" r, public."WorkflowNode" n
        WHERE s."runId" = p_run_id AND r."id" = p_run_id AND n."versionId" = r."versionId"
          AND n."position" = s."position"
          AND (s."state" = 'cancelled' OR (s."state" = 'failed' AND n."onError" <> 'continue'))
        RETURNING s."jobId"
    ), letters AS (
        DELETE FROM public."DeadLetter" d USING again a
        WHERE d."jobId" = a."jobId" AND a."jobId" IS DISTINCT FROM p_kept_job_id
        RETURNING d."jobId"
    ), discarded AS (
        UPDATE public."Job" j SET "state" = 'CANCELLED' FROM letters l
        WHERE j."id" = l."jobId" AND j."state" = 'DEAD'
        RETURNING j."tenantId", j."id", j."job", j."queue", j."batchId"
    )
    INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId")
    SELECT d."tenantId", d."id", d."job", d."queue", 'DISCARDED', d."batchId" FROM discarded d;
    UPDATE public."WorkflowStep" s SET "state" = 'ready'
    WHERE s."runId" = p_run_id AND s."jobId" = p_kept_job_id AND s."state" = 'pending';
END $$;
CALL ailydian_build_rights('ailydian_reopen_steps');
