-- Whatever ends the job of a step ends the step, as that transaction commits.
CREATE OR REPLACE FUNCTION ailydian_step_of_job() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    job RECORD;
    letter RECORD;
    refused TEXT;
BEGIN
    SELECT j."stepId", j."state", j."outcome", j."error" INTO job FROM public."Job" j
    WHERE j."id" = NEW."id";
    IF job."state" = 'PENDING' AND NEW."state" = 'PENDING' THEN  -- a dead letter was replayed
        SELECT r."id", s."jobId" = NEW."id" AND s."state" = 'failed'
               AND r."state" IN ('failed', 'cancelled') AS "failed" INTO letter
        FROM public."WorkflowStep" s JOIN public."WorkflowRun" r ON r."id" = s."runId"
        WHERE s."id" = job."stepId" FOR UPDATE OF r;
        refused := CASE WHEN letter."failed" THEN public.ailydian_revive_run(letter."id", NEW."id", NULL)
                        ELSE 'the step it was has gone on without it' END;
        IF refused IS NOT NULL THEN
            PERFORM public.ailydian_stop_jobs(ARRAY[NEW."id"], 'not replayed: ' || refused);
        END IF;
        RETURN NULL;
    END IF;
    -- Looked at once more: a walker has moved on, a stopped step needs nothing.
    IF job."state" IS DISTINCT FROM NEW."state" OR NOT EXISTS (
        SELECT FROM public."WorkflowStep" s WHERE s."id" = job."stepId" AND s."jobId" = NEW."id"
          AND s."state" IN ('ready', 'running')) THEN
        RETURN NULL;
    END IF;
    IF job."state" = 'COMPLETED' THEN
        PERFORM public.ailydian_step_over(job."stepId", 'completed', job."outcome", NULL, NULL);
    ELSIF job."state" = 'CANCELLED' THEN
        PERFORM public.ailydian_step_over(job."stepId", 'failed', NULL, 'its job was cancelled',
                                          'cancelled');
    ELSE
        SELECT d."fingerprint", n."onError" INTO letter
        FROM public."WorkflowStep" s JOIN public."WorkflowRun" r ON r."id" = s."runId"
        JOIN public."WorkflowNode" n
          ON n."versionId" = r."versionId" AND n."position" = s."position"
        LEFT JOIN public."DeadLetter" d ON d."jobId" = NEW."id"
        WHERE s."id" = job."stepId";
        -- A failure that the definition answers waits for no operator.
        IF letter."onError" <> 'fail' THEN
            DELETE FROM public."DeadLetter" d WHERE d."jobId" = NEW."id";
        END IF;
        PERFORM public.ailydian_step_over(job."stepId", 'failed', NULL, job."error",
                                          letter."fingerprint");
    END IF;
    RETURN NULL;
END $$;
