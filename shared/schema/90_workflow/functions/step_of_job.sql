-- The end of a step's job ends the step, in the same transaction.
CREATE OR REPLACE FUNCTION ailydian_step_of_job() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_job RECORD;
    v_run RECORD;
    v_answer RECORD;
    v_refused TEXT;
BEGIN
    SELECT j."stepId", j."state", j."outcome", j."error" INTO v_job FROM public."Job" j
    WHERE j."id" = NEW."id";
    IF v_job."state" = 'PENDING' AND NEW."state" = 'PENDING' THEN  -- a dead letter was replayed
        SELECT r."id", s."jobId" = NEW."id" AND s."state" = 'failed'
               AND r."state" IN ('failed', 'cancelled') AS "failed" INTO v_run
        FROM public."WorkflowStep" s JOIN public."WorkflowRun" r ON r."id" = s."runId"
        WHERE s."id" = v_job."stepId" FOR UPDATE OF r;
        v_refused := CASE WHEN v_run."failed" THEN public.ailydian_revive_run(v_run."id", NEW."id", NULL)
                        ELSE 'the step it was has gone on without it' END;
        IF v_refused IS NOT NULL THEN
            PERFORM public.ailydian_stop_jobs(ARRAY[NEW."id"], 'not replayed: ' || v_refused);
        END IF;
        RETURN NULL;
    END IF;
    -- Looked at once more: a walker has moved on, a stopped step needs nothing.
    IF v_job."state" IS DISTINCT FROM NEW."state" OR NOT EXISTS (
        SELECT FROM public."WorkflowStep" s WHERE s."id" = v_job."stepId" AND s."jobId" = NEW."id"
          AND s."state" IN ('ready', 'running')) THEN
        RETURN NULL;
    END IF;
    IF v_job."state" = 'COMPLETED' THEN
        PERFORM public.ailydian_step_over(v_job."stepId", 'completed', v_job."outcome", NULL, NULL);
    ELSIF v_job."state" = 'CANCELLED' THEN
        PERFORM public.ailydian_step_over(v_job."stepId", 'failed', NULL, 'its job was cancelled',
                                          'cancelled');
    ELSE
        SELECT d."fingerprint", n."onError" INTO v_answer
        FROM public."WorkflowStep" s JOIN public."WorkflowRun" r ON r."id" = s."runId"
        JOIN public."WorkflowNode" n
          ON n."versionId" = r."versionId" AND n."position" = s."position"
        LEFT JOIN public."DeadLetter" d ON d."jobId" = NEW."id"
        WHERE s."id" = v_job."stepId";
        -- A failure that the definition answers waits for no operator.
        IF v_answer."onError" <> 'fail' THEN
            DELETE FROM public."DeadLetter" d WHERE d."jobId" = NEW."id";
        END IF;
        PERFORM public.ailydian_step_over(v_job."stepId", 'failed', NULL, v_job."error",
                                          v_answer."fingerprint");
    END IF;
    RETURN NULL;
END $$;
