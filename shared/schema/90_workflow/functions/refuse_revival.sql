-- Check whether a run that has ended can be resumed: none of its steps has undone another or is being
-- finished by another transaction.
-- Locks: the failed and cancelled steps, where they are not locked by others.
-- Returns the reason against it; NULL if it can be resumed.
CREATE OR REPLACE FUNCTION ailydian_refuse_revival(p_run_id TEXT) RETURNS TEXT
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM public."WorkflowStep" s JOIN public."WorkflowRun" r ON r."id" = s."runId"
               JOIN public."WorkflowNode" n
                 ON n."versionId" = r."versionId" AND n."position" = s."position"
               WHERE s."runId" = p_run_id AND n."compensates" IS NOT NULL) THEN
        RETURN format('what the run %s did was undone; begin again from a step', p_run_id);
    ELSIF EXISTS (SELECT FROM public."WorkflowStep" s WHERE s."runId" = p_run_id
                  AND s."state" IN ('failed', 'cancelled')
                  AND s."id" NOT IN (SELECT x."id" FROM public."WorkflowStep" x
                                     WHERE x."runId" = p_run_id AND x."state" IN ('failed', 'cancelled')
                                     FOR UPDATE SKIP LOCKED)) THEN
        RETURN format('a step of the run %s is just being finished', p_run_id);
    END IF;
    RETURN NULL;
END $$;
CALL ailydian_build_rights('ailydian_refuse_revival');
