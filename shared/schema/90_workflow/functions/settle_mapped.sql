-- Settle the mapped steps of a run that have no open item left and are not over; what they let begin
-- gets jobs.
-- Locks: what settling each of them locks.
-- Returns nothing.
CREATE OR REPLACE FUNCTION ailydian_settle_mapped(p_run_id TEXT) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_mapped RECORD;
BEGIN
    FOR v_mapped IN
        SELECT s."id", s."position" FROM public."WorkflowStep" s
        WHERE s."runId" = p_run_id AND s."itemIndex" = -1 AND s."state" = 'running'
          AND s."items" IS NOT NULL AND s."openItems" = 0
          AND s."items" = (SELECT count(*) FROM generate_series(0, s."items" - 1) g
                           JOIN public."WorkflowStep" i ON i."id" = s."id" || '/' || g)
    LOOP
        PERFORM public.ailydian_step_over(v_mapped."id", 'completed',
            public.ailydian_item_outputs(p_run_id, v_mapped."position"), NULL, NULL);
    END LOOP;
END $$;
CALL ailydian_build_rights('ailydian_settle_mapped');
