-- A new run is not the first of its concurrency key: it is rejected, waits for its turn, or cancels
-- the others and begins, as `p_on_conflict` says.
-- Locks: the run; then, newest first, what ending the others locks. The caller holds the key.
-- Returns the state of the run.
CREATE OR REPLACE FUNCTION ailydian_queue_run(
    p_run_id TEXT, p_tenant_id TEXT, p_slot_key TEXT, p_on_conflict TEXT
) RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
    v_earlier RECORD;
BEGIN
    IF p_on_conflict = 'reject' THEN
        RAISE EXCEPTION 'run_rejected: another run holds the concurrency key %', public.ailydian_visible(p_slot_key)
            USING ERRCODE = 'AL006';
    END IF;
    UPDATE public."WorkflowRun" r SET "state" = 'queued', "status" = 'PENDING'
    WHERE r."id" = p_run_id;
    IF p_on_conflict IS DISTINCT FROM 'cancel_previous' THEN
        RETURN 'queued';
    END IF;
    FOR v_earlier IN
        SELECT s."runId" FROM public."WorkflowSlot" s
        WHERE s."tenantId" = p_tenant_id AND s."key" = p_slot_key AND s."runId" <> p_run_id
        ORDER BY s."seq" DESC
    LOOP
        PERFORM public.ailydian_end_run(v_earlier."runId", 'cancelled',
            'a newer run with its concurrency key took its place', NULL, NULL);
    END LOOP;
    RETURN (SELECT r."state" FROM public."WorkflowRun" r WHERE r."id" = p_run_id);
END $$;
CALL ailydian_build_rights('ailydian_queue_run');
