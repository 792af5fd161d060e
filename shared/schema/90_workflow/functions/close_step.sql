-- Write the end of a step, once, and keep its output: one too large for the row stands in
-- "WorkflowOutput", and the row says only how large it is.
-- Notes an event of it.
-- Locks: the step.
-- Returns where the step stands in its run; NULLs if it was over before, and then nothing changes.
CREATE OR REPLACE FUNCTION ailydian_close_step(
    p_step_id TEXT, p_verdict TEXT, p_output JSONB, p_input JSONB, p_error TEXT, p_fingerprint TEXT,
    OUT "runId" TEXT, OUT "position" INTEGER, OUT "itemIndex" INTEGER
) LANGUAGE plpgsql AS $$
DECLARE
    v_kept JSONB := p_output;
    v_tenant_id TEXT;
    v_name TEXT;
BEGIN
    IF pg_column_size(p_output) > 65536 THEN
        v_kept := jsonb_build_object('$bytes', pg_column_size(p_output));
    END IF;
    UPDATE public."WorkflowStep" s SET "state" = p_verdict,
        "status" = CASE p_verdict WHEN 'failed' THEN 'FAILED'
                   ELSE 'COMPLETED' END::public."WorkflowStatus",
        "output" = v_kept, "input" = coalesce(p_input, s."input"), "error" = p_error,
        "fingerprint" = p_fingerprint, "completedAt" = clock_timestamp() AT TIME ZONE 'UTC',
        "progress" = CASE p_verdict WHEN 'completed' THEN 1 ELSE s."progress" END
    WHERE s."id" = p_step_id AND s."state" IN ('pending', 'ready', 'running', 'waiting')
    RETURNING s."runId", s."position", s."itemIndex", s."tenantId", s."stepName"
    INTO "runId", "position", "itemIndex", v_tenant_id, v_name;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what")
    VALUES (v_tenant_id, p_step_id, v_name, 'workflow', 'STEP_' || upper(p_verdict));
    IF v_kept IS DISTINCT FROM p_output THEN
        INSERT INTO public."WorkflowOutput" ("stepId", "tenantId", "output")
        VALUES (p_step_id, v_tenant_id, p_output)
        ON CONFLICT ("stepId") DO UPDATE SET "output" = excluded."output";
    END IF;
END $$;
CALL ailydian_build_rights('ailydian_close_step');
