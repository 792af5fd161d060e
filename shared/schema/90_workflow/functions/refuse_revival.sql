-- Whether the steps of a run that has ended allow it to go on: none has undone another, none is
-- being finished by somebody else.
-- Locks: the failed and cancelled steps, where they are not locked by others.
-- Returns why not, if not; NULL when it may go on.
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
