-- Take a place behind a concurrency key. Returns whether it is the first.
CREATE OR REPLACE FUNCTION ailydian_enter_slot(
    p_tenant_id TEXT, p_slot_key TEXT, p_holder TEXT, p_run_id TEXT
) RETURNS BOOLEAN LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('slot/' || p_tenant_id || '/' || p_slot_key, 0));
    IF NOT EXISTS (SELECT FROM public."WorkflowSlot" s
                   WHERE s."tenantId" = p_tenant_id AND s."key" = p_slot_key
                     AND s."holder" = p_holder) THEN
        INSERT INTO public."WorkflowSlot" ("tenantId", "key", "holder", "runId")
        VALUES (p_tenant_id, p_slot_key, p_holder, p_run_id);
    END IF;
    RETURN p_holder = (
        SELECT s."holder" FROM public."WorkflowSlot" s
        WHERE s."tenantId" = p_tenant_id AND s."key" = p_slot_key ORDER BY s."seq" LIMIT 1);
END $$;
CALL ailydian_build_rights('ailydian_enter_slot');
