-- Begin a run's first steps, and its clock.
CREATE OR REPLACE FUNCTION ailydian_launch_run(of_run TEXT) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    run RECORD;
BEGIN
    SELECT r."versionId", r."tenantId", v."timeoutS", r."parentStepId" INTO STRICT run
    FROM public."WorkflowRun" r JOIN public."WorkflowVersion" v ON v."id" = r."versionId"
    WHERE r."id" = of_run;
    IF run."timeoutS" > 0 THEN
        INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "dueAt")
        VALUES (of_run, run."tenantId", of_run, 'deadline',
                now() + run."timeoutS" * interval '1 second') ON CONFLICT DO NOTHING;
    END IF;
    PERFORM public.ailydian_enqueue_steps(ARRAY(
        SELECT of_run || '/' || n."position" FROM public."WorkflowNode" n
        WHERE n."versionId" = run."versionId" AND n."needs" = 0 AND n."compensates" IS NULL
        ORDER BY n."position"), run."parentStepId");
END $$;
CALL ailydian_build_rights('ailydian_launch_run');
