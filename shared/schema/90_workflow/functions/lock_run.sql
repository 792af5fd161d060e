-- Acts on whole runs. Each locks the run before it looks; a run of another tenant is as good as none.
-- What goes on to finish a step waits for others' steps as a walker does, so its lock is one that no
-- walker waits for (`whole` false): only a step that begins to wait for a signal, and other acts, do.

CREATE OR REPLACE FUNCTION ailydian_lock_run(run_id TEXT, whole BOOLEAN, VARIADIC wanted TEXT[])
RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
    found_state TEXT;
BEGIN
    IF whole THEN
        PERFORM FROM public."WorkflowRun" r WHERE r."id" = run_id
            AND r."tenantId" = current_setting('app.tenant_id') FOR UPDATE;
    ELSE
        PERFORM FROM public."WorkflowRun" r WHERE r."id" = run_id
            AND r."tenantId" = current_setting('app.tenant_id') FOR KEY SHARE;
    END IF;
    SELECT r."state" INTO found_state FROM public."WorkflowRun" r
    WHERE r."id" = run_id AND r."tenantId" = current_setting('app.tenant_id')
      AND r."state" IS NOT NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run_not_found: no run has the id %', run_id USING ERRCODE = 'AL007';
    ELSIF found_state <> ALL(wanted) THEN
        RAISE EXCEPTION 'run_refused: the run % is %', run_id, found_state USING ERRCODE = 'AL008';
    END IF;
    RETURN found_state;
END $$;
CALL ailydian_build_rights('ailydian_lock_run');
