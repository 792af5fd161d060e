-- Check that this attempt still owns its step, first in every call of a walker. A call that is
-- repeated, because its answer was lost, finds its step moved on by itself.
CREATE OR REPLACE FUNCTION ailydian_own_step(p_job_id TEXT, p_fence BIGINT, p_step_id TEXT)
RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
    v_job RECORD;
BEGIN
    SELECT j."stepId", j."fence", j."state" INTO v_job FROM public."Job" j
    WHERE j."id" = p_job_id AND j."tenantId" = current_setting('app.tenant_id') FOR UPDATE;
    IF FOUND AND v_job."fence" = p_fence AND v_job."state" = 'RUNNING' AND v_job."stepId" = p_step_id THEN
        UPDATE public."WorkflowStep" s SET "fence" = p_fence
        WHERE s."id" = p_step_id AND s."jobId" = p_job_id AND s."state" = 'running';
        RETURN CASE WHEN FOUND THEN 'held' ELSE 'stopped' END;
    ELSIF v_job."fence" = p_fence + 1 AND v_job."state" = 'RUNNING' AND EXISTS (
        SELECT FROM public."WorkflowStep" s WHERE s."id" = p_step_id AND s."jobId" = p_job_id
          AND s."fence" = p_fence AND s."state" <> 'running') THEN
        RETURN 'moved';
    END IF;
    RAISE EXCEPTION 'lease_lost: this attempt no longer owns the job %', p_job_id USING ERRCODE = 'AL001';
END $$;
CALL ailydian_build_rights('ailydian_own_step');
