-- Begin a run's first steps, and its clock.
CREATE OR REPLACE FUNCTION ailydian_launch_run(p_run_id TEXT) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_run RECORD;
BEGIN
    SELECT r."versionId", r."tenantId", v."timeoutS", r."parentStepId" INTO STRICT v_run
    FROM public."WorkflowRun" r JOIN public."WorkflowVersion" v ON v."id" = r."versionId"
    WHERE r."id" = p_run_id;
    IF v_run."timeoutS" > 0 THEN
        INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "dueAt")
        VALUES (p_run_id, v_run."tenantId", p_run_id, 'deadline',
                now() + v_run."timeoutS" * interval '1 second') ON CONFLICT DO NOTHING;
    END IF;
    PERFORM public.ailydian_enqueue_steps(ARRAY(
        SELECT p_run_id || '/' || n."position" FROM public."WorkflowNode" n
        WHERE n."versionId" = v_run."versionId" AND n."needs" = 0 AND n."compensates" IS NULL
        ORDER BY n."position"), v_run."parentStepId");
END $$;
CALL ailydian_build_rights('ailydian_launch_run');
