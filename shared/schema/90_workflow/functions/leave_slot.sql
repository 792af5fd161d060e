-- Leave a concurrency key; the next in line goes.
CREATE OR REPLACE FUNCTION ailydian_leave_slot(of_tenant TEXT, slot_key TEXT, held_by TEXT)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    next RECORD;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('slot/' || of_tenant || '/' || slot_key, 0));
    DELETE FROM public."WorkflowSlot" s
    WHERE s."tenantId" = of_tenant AND s."key" = slot_key AND s."holder" = held_by;
    SELECT s."holder", s."runId" INTO next FROM public."WorkflowSlot" s
    WHERE s."tenantId" = of_tenant AND s."key" = slot_key ORDER BY s."seq" LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    ELSIF next."holder" = next."runId" THEN
        UPDATE public."WorkflowRun" r SET "state" = 'running', "status" = 'RUNNING'
        WHERE r."id" = next."runId" AND r."state" = 'queued';
        IF FOUND THEN
            PERFORM public.ailydian_launch_run(next."runId");
        END IF;
    ELSE
        DELETE FROM public."WorkflowWait" w WHERE w."id" = next."holder" AND w."what" = 'slot';
        IF FOUND THEN
            PERFORM public.ailydian_enqueue_steps(ARRAY[next."holder"], next."runId");
        END IF;
    END IF;
END $$;
CALL ailydian_build_rights('ailydian_leave_slot');
