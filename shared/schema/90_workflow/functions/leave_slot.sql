-- Leave a concurrency key; the next in line goes.
CREATE OR REPLACE FUNCTION ailydian_leave_slot(p_tenant_id TEXT, p_slot_key TEXT, p_holder TEXT)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_next RECORD;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('slot/' || p_tenant_id || '/' || p_slot_key, 0));
    DELETE FROM public."WorkflowSlot" s
    WHERE s."tenantId" = p_tenant_id AND s."key" = p_slot_key AND s."holder" = p_holder;
    SELECT s."holder", s."runId" INTO v_next FROM public."WorkflowSlot" s
    WHERE s."tenantId" = p_tenant_id AND s."key" = p_slot_key ORDER BY s."seq" LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    ELSIF v_next."holder" = v_next."runId" THEN
        UPDATE public."WorkflowRun" r SET "state" = 'running', "status" = 'RUNNING'
        WHERE r."id" = v_next."runId" AND r."state" = 'queued';
        IF FOUND THEN
            PERFORM public.ailydian_launch_run(v_next."runId");
        END IF;
    ELSE
        DELETE FROM public."WorkflowWait" w WHERE w."id" = v_next."holder" AND w."what" = 'slot';
        IF FOUND THEN
            PERFORM public.ailydian_enqueue_steps(ARRAY[v_next."holder"], v_next."runId");
        END IF;
    END IF;
END $$;
CALL ailydian_build_rights('ailydian_leave_slot');
