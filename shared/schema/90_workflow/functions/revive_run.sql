-- A run that failed or was cancelled goes on where it stopped, with a new deadline; the run that
-- waits for it too. `p_kept_job_id` is a dead letter's job that was replayed: it does its step itself.
-- `p_kept_run_id` is a run that goes on: the step that started it waits for it. Returns why not, if not.
CREATE OR REPLACE FUNCTION ailydian_revive_run(p_run_id TEXT, p_kept_job_id TEXT, p_kept_run_id TEXT) RETURNS TEXT
LANGUAGE plpgsql AS $$
DECLARE
    v_run RECORD;
    v_starter RECORD;
    v_refused TEXT;
BEGIN
    SELECT r."tenantId", r."concurrencyKey", r."parentStepId", v."timeoutS" INTO STRICT v_run
    FROM public."WorkflowRun" r JOIN public."WorkflowVersion" v ON v."id" = r."versionId"
    WHERE r."id" = p_run_id;
    IF EXISTS (SELECT FROM public."WorkflowStep" s JOIN public."WorkflowRun" r ON r."id" = s."runId"
               JOIN public."WorkflowNode" n
                 ON n."versionId" = r."versionId" AND n."position" = s."position"
               WHERE s."runId" = p_run_id AND n."compensates" IS NOT NULL) THEN
        RETURN format('what the run %s did was undone; begin again from a step', p_run_id);
    ELSIF EXISTS (SELECT FROM public."WorkflowStep" s WHERE s."runId" = p_run_id
                  AND s."state" IN ('failed', 'cancelled')
                  AND s."id" NOT IN (SELECT x."id" FROM public."WorkflowStep" x
                                     WHERE x."runId" = p_run_id AND x."state" IN ('failed', 'cancelled')
                                     FOR UPDATE SKIP LOCKED)) THEN
        RETURN format('a step of the run %s is just being finished', p_run_id);
    END IF;
    -- The step that started the run waits for it again, in a run that goes on too.
    IF v_run."parentStepId" IS NOT NULL THEN
        SELECT p."id", s."state" IN ('failed', 'cancelled') AND p."state" IN ('failed', 'cancelled')
            AS "over" INTO v_starter
        FROM public."WorkflowStep" s JOIN public."WorkflowRun" p ON p."id" = s."runId"
        WHERE s."id" = v_run."parentStepId" FOR UPDATE OF p;
        IF v_starter."over" IS NOT TRUE THEN
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
        v_refused := public.ailydian_revive_run(v_starter."id", NULL, p_run_id);
        IF v_refused IS NOT NULL THEN
            RETURN v_refused;
        END IF;
    END IF;
    UPDATE public."WorkflowRun" r SET "state" = 'running', "status" = 'RUNNING', "error" = NULL,
        "fingerprint" = NULL, "failedStepId" = NULL, "completedAt" = NULL
    WHERE r."id" = p_run_id;
    WITH again AS (
        UPDATE public."WorkflowStep" s SET "state" = 'pending', "status" = 'PENDING', "error" = NULL,
            "output" = NULL, "fingerprint" = NULL, "completedAt" = NULL
        FROM public."WorkflowRun" r, public."WorkflowNode" n
        WHERE s."runId" = p_run_id AND r."id" = p_run_id AND n."versionId" = r."versionId"
          AND n."position" = s."position"
          AND (s."state" = 'cancelled' OR (s."state" = 'failed' AND n."onError" <> 'continue'))
        RETURNING s."jobId"
    ), letters AS (
        DELETE FROM public."DeadLetter" d USING again a
        WHERE d."jobId" = a."jobId" AND a."jobId" IS DISTINCT FROM p_kept_job_id
        RETURNING d."jobId"
    ), discarded AS (
        UPDATE public."Job" j SET "state" = 'CANCELLED' FROM letters l
        WHERE j."id" = l."jobId" AND j."state" = 'DEAD'
        RETURNING j."tenantId", j."id", j."job", j."queue", j."batchId"
    )
    INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId")
    SELECT d."tenantId", d."id", d."job", d."queue", 'DISCARDED', d."batchId" FROM discarded d;
    UPDATE public."WorkflowStep" s SET "state" = 'ready'
    WHERE s."runId" = p_run_id AND s."jobId" = p_kept_job_id AND s."state" = 'pending';
    IF p_kept_run_id IS NOT NULL THEN
        WITH starter AS (
            UPDATE public."WorkflowStep" s SET "state" = 'waiting', "status" = 'RUNNING'
            FROM public."WorkflowRun" c
            WHERE c."id" = p_kept_run_id AND s."id" = c."parentStepId" RETURNING s."id"
        )
        INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "name")
        SELECT s."id", v_run."tenantId", p_run_id, 'run', p_kept_run_id FROM starter s;
    END IF;
    IF v_run."timeoutS" > 0 THEN
        INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "dueAt")
        VALUES (p_run_id, v_run."tenantId", p_run_id, 'deadline',
                now() + v_run."timeoutS" * interval '1 second') ON CONFLICT DO NOTHING;
    END IF;
    PERFORM public.ailydian_recount_run(p_run_id);
    RETURN NULL;
END $$;
CALL ailydian_build_rights('ailydian_revive_run');
