-- Stop jobs that wait or run; the fence of one that runs is raised, so nothing it still does counts.
CREATE OR REPLACE FUNCTION ailydian_stop_jobs(p_job_ids TEXT[], p_reason TEXT) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    WITH held AS (
        SELECT j."id", j."dueAt", j."state" FROM unnest(p_job_ids) AS m("id")
        JOIN public."Job" j ON j."id" = m."id"
        WHERE j."state" IN ('PENDING', 'RUNNING') ORDER BY j."id" FOR UPDATE OF j SKIP LOCKED
    ), landed AS (
        DELETE FROM public."JobFlight" f USING held WHERE f."jobId" = held."id"
    ), stopped AS (
        UPDATE public."Job" j SET "state" = 'CANCELLED', "finishedAt" = clock_timestamp(),
            "leaseUntil" = NULL, "waitingFor" = NULL, "fence" = j."fence" + 1, "error" = p_reason
        FROM held WHERE j."id" = held."id" RETURNING j.*
    ), withdrawn AS (
        DELETE FROM public."JobOutbox" o USING stopped s
        WHERE o."queue" = s."queue" AND o."tenantId" = s."tenantId" AND o."job" = s."job"
          AND o."limitKey" = s."limitKey" AND o."priority" = s."priority"
          AND o."dueAt" = s."dueAt" AND o."jobId" = s."id"
    )
    INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId")
    SELECT "tenantId", "id", "job", "queue", 'CANCELLED', "batchId" FROM stopped;
END $$;
CALL ailydian_build_rights('ailydian_stop_jobs');
