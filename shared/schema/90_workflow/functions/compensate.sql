-- The next step that undoes, in reverse order of completion. Returns its id, or ends the run.
CREATE OR REPLACE FUNCTION ailydian_compensate(p_run_id TEXT) RETURNS TEXT[]
LANGUAGE plpgsql AS $$
DECLARE
    v_undo RECORD;
    v_run RECORD;
BEGIN
    SELECT r."versionId", r."tenantId", r."error", r."fingerprint" INTO STRICT v_run
    FROM public."WorkflowRun" r WHERE r."id" = p_run_id;
    SELECT n."position", n."name" INTO v_undo
    FROM public."WorkflowStep" s
    JOIN public."WorkflowNode" n
      ON n."versionId" = v_run."versionId" AND n."compensates" = s."position"
    WHERE s."runId" = p_run_id AND s."itemIndex" = -1 AND s."state" = 'completed'
      AND NOT EXISTS (SELECT FROM public."WorkflowStep" u
                      WHERE u."id" = p_run_id || '/' || n."position")
    ORDER BY s."completedAt" DESC, s."position" DESC LIMIT 1;
    IF NOT FOUND THEN
        PERFORM public.ailydian_end_run(p_run_id, 'failed', v_run."error", NULL, v_run."fingerprint");
        RETURN '{}';
    END IF;
    INSERT INTO public."WorkflowStep" ("id", "runId", "stepName", "status", "tenantId", "position",
                                       "itemIndex", "state")
    VALUES (p_run_id || '/' || v_undo."position", p_run_id, v_undo."name", 'PENDING', v_run."tenantId",
            v_undo."position", -1, 'pending');
    RETURN ARRAY[p_run_id || '/' || v_undo."position"];
END $$;
CALL ailydian_build_rights('ailydian_compensate');
