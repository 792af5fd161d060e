-- Restore the waits of a resumed run: its new deadline, and the run `p_kept_run_id`, which a step of
-- it has started and which is resumed as well.
-- Locks: that step.
-- Returns nothing.
CREATE OR REPLACE FUNCTION ailydian_restore_waits(
    p_run_id TEXT, p_kept_run_id TEXT, p_tenant_id TEXT, p_timeout_s DOUBLE PRECISION
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF p_kept_run_id IS NOT NULL THEN
        WITH starter AS (
            UPDATE public."WorkflowStep" s SET "state" = 'waiting', "status" = 'RUNNING'
            FROM public."WorkflowRun" c
            WHERE c."id" = p_kept_run_id AND s."id" = c."parentStepId" RETURNING s."id"
        )
        INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "name")
        SELECT s."id", p_tenant_id, p_run_id, 'run', p_kept_run_id FROM starter s;
    END IF;
    IF p_timeout_s > 0 THEN
        INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "dueAt")
        VALUES (p_run_id, p_tenant_id, p_run_id, 'deadline',
                now() + p_timeout_s * interval '1 second') ON CONFLICT DO NOTHING;
    END IF;
END $$;
CALL ailydian_build_rights('ailydian_restore_waits');
