-- Lock a run for an act on it, and check its state; a run of another tenant counts as not found.
-- What goes on to finish a step waits for others' steps as a walker does, so its lock is one that no
-- walker waits for (`whole` false): only a step that begins to wait for a signal, and other acts, do.

CREATE OR REPLACE FUNCTION ailydian_lock_run(p_run_id TEXT, p_whole BOOLEAN, VARIADIC p_states TEXT[])
RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
    v_state TEXT;
BEGIN
    IF p_whole THEN
        PERFORM FROM public."WorkflowRun" r WHERE r."id" = p_run_id
            AND r."tenantId" = current_setting('app.tenant_id') FOR UPDATE;
    ELSE
        PERFORM FROM public."WorkflowRun" r WHERE r."id" = p_run_id
            AND r."tenantId" = current_setting('app.tenant_id') FOR KEY SHARE;
    END IF;
    SELECT r."state" INTO v_state FROM public."WorkflowRun" r
    WHERE r."id" = p_run_id AND r."tenantId" = current_setting('app.tenant_id')
      AND r."state" IS NOT NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run_not_found: no run with the id %', public.ailydian_visible(p_run_id)
            USING ERRCODE = 'AL007';
    ELSIF v_state <> ALL(p_states) THEN
        RAISE EXCEPTION 'run_refused: the run % is %', p_run_id, v_state USING ERRCODE = 'AL008';
    END IF;
    RETURN v_state;
END $$;
CALL ailydian_build_rights('ailydian_lock_run');
