-- Steps of a run that nothing carries, a job or a wait, are pending again. While the run is paused
-- (`p_paused`), those that are ready without a job wait for it to be resumed.
-- Locks: those steps; the caller holds the run and them.
-- Returns nothing.
CREATE OR REPLACE FUNCTION ailydian_mend_steps(p_run_id TEXT, p_paused BOOLEAN) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE public."WorkflowStep" s SET "state" = 'pending', "status" = 'PENDING', "jobId" = NULL
    WHERE s."runId" = p_run_id AND CASE s."state"
        WHEN 'waiting' THEN NOT EXISTS (SELECT FROM public."WorkflowWait" w WHERE w."id" = s."id")
        WHEN 'ready' THEN NOT p_paused OR s."jobId" IS NOT NULL
        ELSE s."state" = 'running' AND (s."items" IS NULL OR s."itemIndex" >= 0) END
      AND (s."state" = 'waiting' OR NOT EXISTS (
          SELECT FROM public."Job" j WHERE j."id" = s."jobId" AND j."stepId" = s."id"
            AND j."state" IN ('PENDING', 'RUNNING')));
END $$;
CALL ailydian_build_rights('ailydian_mend_steps');
