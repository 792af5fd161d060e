-- Take a place behind a concurrency key. Returns whether it is the first.
CREATE OR REPLACE FUNCTION ailydian_enter_slot(
    of_tenant TEXT, slot_key TEXT, wanted_by TEXT, of_run TEXT
) RETURNS BOOLEAN LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('slot/' || of_tenant || '/' || slot_key, 0));
    IF NOT EXISTS (SELECT FROM public."WorkflowSlot" s
                   WHERE s."tenantId" = of_tenant AND s."key" = slot_key
                     AND s."holder" = wanted_by) THEN
        INSERT INTO public."WorkflowSlot" ("tenantId", "key", "holder", "runId")
        VALUES (of_tenant, slot_key, wanted_by, of_run);
    END IF;
    RETURN wanted_by = (
        SELECT s."holder" FROM public."WorkflowSlot" s
        WHERE s."tenantId" = of_tenant AND s."key" = slot_key ORDER BY s."seq" LIMIT 1);
END $$;
CALL ailydian_build_rights('ailydian_enter_slot');
