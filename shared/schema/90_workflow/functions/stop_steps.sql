-- Stop what is left of a run: its steps, their jobs and waits, the runs it waits for.
CREATE OR REPLACE FUNCTION ailydian_stop_steps(of_run TEXT, why TEXT) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    jobs TEXT[];
    child RECORD;
BEGIN
    WITH live AS (
        SELECT s."id" FROM public."WorkflowStep" s
        WHERE s."runId" = of_run AND s."state" IN ('pending', 'ready', 'running', 'waiting')
        ORDER BY s."id" FOR UPDATE SKIP LOCKED
    ), stopped AS (
        UPDATE public."WorkflowStep" s SET "state" = 'cancelled', "status" = 'CANCELLED',
            "completedAt" = clock_timestamp() AT TIME ZONE 'UTC'
        FROM live WHERE s."id" = live."id" RETURNING s."jobId"
    )
    SELECT array_agg(s."jobId") INTO jobs FROM stopped s WHERE s."jobId" IS NOT NULL;
    FOR child IN
        DELETE FROM public."WorkflowWait" w WHERE w."id" IN (
            SELECT x."id" FROM public."WorkflowWait" x WHERE x."runId" = of_run FOR UPDATE SKIP LOCKED)
        RETURNING w."what", w."name"
    LOOP
        IF child."what" = 'run' THEN
            PERFORM public.ailydian_end_run(child."name", 'cancelled', why, NULL, NULL);
        END IF;
    END LOOP;
    PERFORM public.ailydian_leave_slot(g."tenantId", g."key", g."holder")
    FROM public."WorkflowSlot" g WHERE g."runId" = of_run AND g."holder" <> of_run;
    IF jobs IS NOT NULL THEN
        PERFORM public.ailydian_stop_jobs(jobs, why);
    END IF;
END $$;
CALL ailydian_build_rights('ailydian_stop_steps');
