-- Due waits: timers are over, whoever waited for something else has waited too long.
CREATE OR REPLACE FUNCTION ailydian_fire_waits(most INTEGER) RETURNS INTEGER
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
DECLARE
    due RECORD;
    opened TEXT[] := '{}';
    fired INTEGER := 0;
BEGIN
    FOR due IN
        WITH fired AS (
            DELETE FROM public."WorkflowWait" w USING (
                SELECT x."id" FROM public."WorkflowWait" x WHERE x."dueAt" <= now()
                ORDER BY x."dueAt" LIMIT most FOR UPDATE SKIP LOCKED) x
            WHERE w."id" = x."id" RETURNING w."id", w."runId", w."what", w."name", w."dueAt"
        )
        SELECT f."id", f."runId", f."what", f."name" FROM fired f ORDER BY f."dueAt", f."id"
    LOOP
        fired := fired + 1;
        IF due."what" = 'timer' THEN
            opened := opened || public.ailydian_settle_step(due."id", 'completed', NULL, NULL, NULL, NULL);
        ELSIF due."what" = 'deadline' THEN
            PERFORM public.ailydian_end_run(due."runId", 'failed',
                'timed out: the run took longer than its timeout', NULL, 'timed_out');
        ELSE
            -- The step first: the end of the run it waited for finds it over.
            opened := opened || public.ailydian_settle_step(due."id", 'failed', NULL, NULL,
                format('timed out: waited too long for the %s %s', due."what", due."name"),
                'timed_out');
            IF due."what" = 'run' THEN
                PERFORM public.ailydian_end_run(due."name", 'cancelled',
                    'the step that waited for it timed out', NULL, NULL);
            END IF;
        END IF;
    END LOOP;
    PERFORM public.ailydian_enqueue_steps(opened, 'timer');
    RETURN fired;
END $$;
CALL ailydian_build_rights('ailydian_fire_waits', 'ailydian_relay');
