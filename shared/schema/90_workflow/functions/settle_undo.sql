-- A step that undoes another is over; a failure is added to the run's error, the others go on.
-- Locks: the run; after the last, what ending the run locks.
-- Returns the next step that undoes; none when that was the last, and the run has ended.
CREATE OR REPLACE FUNCTION ailydian_settle_undo(p_run_id TEXT, p_verdict TEXT, p_error TEXT)
RETURNS TEXT[] LANGUAGE plpgsql AS $$
BEGIN
    IF p_verdict = 'failed' THEN
        UPDATE public."WorkflowRun" r SET "error" = concat(r."error", '; not undone: ', p_error)
        WHERE r."id" = p_run_id;
    END IF;
    RETURN public.ailydian_compensate(p_run_id);
END $$;
CALL ailydian_build_rights('ailydian_settle_undo');
