-- Whether this attempt still owns its step; every call of a walker begins so. A call that is
-- repeated, because its answer was lost, finds its step moved on by itself.
CREATE OR REPLACE FUNCTION ailydian_own_step(job_id TEXT, job_fence BIGINT, step_id TEXT)
RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
    job RECORD;
BEGIN
    SELECT j."stepId", j."fence", j."state" INTO job FROM public."Job" j
    WHERE j."id" = job_id AND j."tenantId" = current_setting('app.tenant_id') FOR UPDATE;
    IF FOUND AND job."fence" = job_fence AND job."state" = 'RUNNING' AND job."stepId" = step_id THEN
        UPDATE public."WorkflowStep" s SET "fence" = job_fence
        WHERE s."id" = step_id AND s."jobId" = job_id AND s."state" = 'running';
        RETURN CASE WHEN FOUND THEN 'held' ELSE 'stopped' END;
    ELSIF job."fence" = job_fence + 1 AND job."state" = 'RUNNING' AND EXISTS (
        SELECT FROM public."WorkflowStep" s WHERE s."id" = step_id AND s."jobId" = job_id
          AND s."fence" = job_fence AND s."state" <> 'running') THEN
        RETURN 'moved';
    END IF;
    RAISE EXCEPTION 'lease_lost: the job % is no longer ours', job_id USING ERRCODE = 'AL001';
END $$;
CALL ailydian_build_rights('ailydian_own_step');
