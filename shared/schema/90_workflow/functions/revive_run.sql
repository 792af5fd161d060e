-- A run that failed or was cancelled goes on where it stopped, with a new deadline; the run that
-- waits for it too. `p_kept_job_id` is a dead letter's job that was replayed: it does its step
-- itself. `p_kept_run_id` is a run that goes on: the step that started it waits for it.
-- Locks: the caller holds the run; then the run that waits for it, the concurrency key, the steps.
-- Returns why not, if not; NULL when it goes on.
CREATE OR REPLACE FUNCTION ailydian_revive_run(
    p_run_id TEXT, p_kept_job_id TEXT, p_kept_run_id TEXT
) RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
    v_run RECORD;
    v_parent RECORD;
    v_refused TEXT;
BEGIN
    SELECT r."tenantId", r."concurrencyKey", r."parentStepId", v."timeoutS" INTO STRICT v_run
    FROM public."WorkflowRun" r JOIN public."WorkflowVersion" v ON v."id" = r."versionId"
    WHERE r."id" = p_run_id;
    v_refused := public.ailydian_refuse_revival(p_run_id);
    IF v_refused IS NOT NULL THEN
        RETURN v_refused;
    END IF;
    -- The step that started the run waits for it again, in a run that goes on too.
    IF v_run."parentStepId" IS NOT NULL THEN
        SELECT p."id", s."state" IN ('failed', 'cancelled') AND p."state" IN ('failed', 'cancelled')
            AS "over" INTO v_parent
        FROM public."WorkflowStep" s JOIN public."WorkflowRun" p ON p."id" = s."runId"
        WHERE s."id" = v_run."parentStepId" AND s."tenantId" = v_run."tenantId" FOR UPDATE OF p;
        IF v_parent."over" IS NOT TRUE THEN
            RETURN format('the step %s, which started the run %s, has gone on without it',
                          v_run."parentStepId", p_run_id);
        END IF;
    END IF;
    IF v_run."concurrencyKey" IS NOT NULL AND NOT public.ailydian_enter_slot(
            v_run."tenantId", v_run."concurrencyKey", p_run_id, p_run_id) THEN
        DELETE FROM public."WorkflowSlot" g
        WHERE g."tenantId" = v_run."tenantId" AND g."key" = v_run."concurrencyKey"
          AND g."holder" = p_run_id;
        RETURN format('another run holds the concurrency key of the run %s', p_run_id);
    END IF;
    IF v_run."parentStepId" IS NOT NULL THEN
        v_refused := public.ailydian_revive_run(v_parent."id", NULL, p_run_id);
        IF v_refused IS NOT NULL THEN
            RETURN v_refused;
        END IF;
    END IF;
    UPDATE public."WorkflowRun" r SET "state" = 'running', "status" = 'RUNNING', "error" = NULL,
        "fingerprint" = NULL, "failedStepId" = NULL, "completedAt" = NULL
    WHERE r."id" = p_run_id;
    PERFORM public.ailydian_reopen_steps(p_run_id, p_kept_job_id);
    PERFORM public.ailydian_restore_waits(p_run_id, p_kept_run_id, v_run."tenantId", v_run."timeoutS");
    PERFORM public.ailydian_recount_run(p_run_id);
    RETURN NULL;
END $$;
CALL ailydian_build_rights('ailydian_revive_run');
