-- Steps that may begin wait, without a job, for their paused run to be resumed. The run is locked and
-- checked again: a resume sees the parked steps, or the steps begin at once.
-- Locks: the run (FOR SHARE), then the steps, which nobody else has.
-- Returns the steps that may begin: none while the run is paused.
CREATE OR REPLACE FUNCTION ailydian_park_steps(p_run_id TEXT, p_opened TEXT[]) RETURNS TEXT[]
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM public."WorkflowRun" r WHERE r."id" = p_run_id FOR SHARE;
    IF 'paused' <> (SELECT r."state" FROM public."WorkflowRun" r WHERE r."id" = p_run_id) THEN
        RETURN p_opened;
    END IF;
    UPDATE public."WorkflowStep" s SET "state" = 'ready', "jobId" = NULL WHERE s."id" = ANY(p_opened);
    RETURN '{}';
END $$;
CALL ailydian_build_rights('ailydian_park_steps');
