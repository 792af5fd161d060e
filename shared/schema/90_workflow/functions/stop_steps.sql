-- Stop what is left of a run: its steps, their jobs and waits, the runs it waits for.
CREATE OR REPLACE FUNCTION ailydian_stop_steps(p_run_id TEXT, p_reason TEXT) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_job_ids TEXT[];
    v_wait RECORD;
BEGIN
    WITH live AS (
        SELECT s."id" FROM public."WorkflowStep" s
        WHERE s."runId" = p_run_id AND s."state" IN ('pending', 'ready', 'running', 'waiting')
        ORDER BY s."id" FOR UPDATE SKIP LOCKED
    ), stopped AS (
        UPDATE public."WorkflowStep" s SET "state" = 'cancelled', "status" = 'CANCELLED',
            "completedAt" = clock_timestamp() AT TIME ZONE 'UTC'
        FROM live WHERE s."id" = live."id" RETURNING s."jobId", s."id", s."tenantId", s."stepName"
    ), noted AS (
        INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what")
        SELECT s."tenantId", s."id", s."stepName", 'workflow', 'STEP_CANCELLED' FROM stopped s
    )
    SELECT array_agg(s."jobId") INTO v_job_ids FROM stopped s WHERE s."jobId" IS NOT NULL;
    FOR v_wait IN
        DELETE FROM public."WorkflowWait" w WHERE w."id" IN (
            SELECT x."id" FROM public."WorkflowWait" x WHERE x."runId" = p_run_id FOR UPDATE SKIP LOCKED)
        RETURNING w."id", w."what", w."name"
    LOOP
        IF v_wait."what" = 'run' THEN
            PERFORM public.ailydian_end_child_run(v_wait."name", v_wait."id", p_reason);
        END IF;
    END LOOP;
    PERFORM public.ailydian_leave_slot(g."tenantId", g."key", g."holder")
    FROM public."WorkflowSlot" g WHERE g."runId" = p_run_id AND g."holder" <> p_run_id;
    IF v_job_ids IS NOT NULL THEN
        PERFORM public.ailydian_stop_jobs(v_job_ids, p_reason);
    END IF;
END $$;
CALL ailydian_build_rights('ailydian_stop_steps');
