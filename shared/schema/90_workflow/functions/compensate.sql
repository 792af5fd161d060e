-- The next step that undoes, in reverse order of completion. Returns its id, or ends the run.
CREATE OR REPLACE FUNCTION ailydian_compensate(of_run TEXT) RETURNS TEXT[]
LANGUAGE plpgsql AS $$
DECLARE
    undo RECORD;
    run RECORD;
BEGIN
    SELECT r."versionId", r."tenantId", r."error", r."fingerprint" INTO STRICT run
    FROM public."WorkflowRun" r WHERE r."id" = of_run;
    SELECT n."position", n."name" INTO undo
    FROM public."WorkflowStep" s
    JOIN public."WorkflowNode" n
      ON n."versionId" = run."versionId" AND n."compensates" = s."position"
    WHERE s."runId" = of_run AND s."itemIndex" = -1 AND s."state" = 'completed'
      AND NOT EXISTS (SELECT FROM public."WorkflowStep" u
                      WHERE u."id" = of_run || '/' || n."position")
    ORDER BY s."completedAt" DESC, s."position" DESC LIMIT 1;
    IF NOT FOUND THEN
        PERFORM public.ailydian_end_run(of_run, 'failed', run."error", NULL, run."fingerprint");
        RETURN '{}';
    END IF;
    INSERT INTO public."WorkflowStep" ("id", "runId", "stepName", "status", "tenantId", "position",
                                       "itemIndex", "state")
    VALUES (of_run || '/' || undo."position", of_run, undo."name", 'PENDING', run."tenantId",
            undo."position", -1, 'pending');
    RETURN ARRAY[of_run || '/' || undo."position"];
END $$;
CALL ailydian_build_rights('ailydian_compensate');
