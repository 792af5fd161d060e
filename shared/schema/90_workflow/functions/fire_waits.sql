-- End due waits: timers complete their steps, all other waits time out.
CREATE OR REPLACE FUNCTION ailydian_fire_waits(p_limit INTEGER) RETURNS INTEGER
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
DECLARE
    v_due RECORD;
    v_opened TEXT[] := '{}';
    v_fired INTEGER := 0;
BEGIN
    FOR v_due IN
        WITH fired AS (
            DELETE FROM public."WorkflowWait" w USING (
                SELECT x."id" FROM public."WorkflowWait" x WHERE x."dueAt" <= now()
                ORDER BY x."dueAt" LIMIT p_limit FOR UPDATE SKIP LOCKED) x
            WHERE w."id" = x."id" RETURNING w."id", w."runId", w."what", w."name", w."dueAt"
        )
        SELECT f."id", f."runId", f."what", f."name" FROM fired f ORDER BY f."dueAt", f."id"
    LOOP
        v_fired := v_fired + 1;
        IF v_due."what" = 'timer' THEN
            v_opened := v_opened || public.ailydian_settle_step(v_due."id", 'completed', NULL, NULL, NULL, NULL);
        ELSIF v_due."what" = 'deadline' THEN
            PERFORM public.ailydian_end_run(v_due."runId", 'failed',
                'timed out: the run took longer than its timeout', NULL, 'timed_out');
        ELSE
            -- The step first: the end of the run it waited for finds it over.
            v_opened := v_opened || public.ailydian_settle_step(v_due."id", 'failed', NULL, NULL,
                format('timed out: waited too long for the %s %s', v_due."what", v_due."name"),
                'timed_out');
            IF v_due."what" = 'run' THEN
                PERFORM public.ailydian_end_child_run(v_due."name", v_due."id",
                    'the step that waited for it timed out');
            END IF;
        END IF;
    END LOOP;
    PERFORM public.ailydian_enqueue_steps(v_opened, 'timer');
    RETURN v_fired;
END $$;
CALL ailydian_build_rights('ailydian_fire_waits', 'ailydian_relay');
