CREATE OR REPLACE FUNCTION ailydian_claim_receipts(job_ids TEXT[], fences BIGINT[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    tenant CONSTANT TEXT := current_setting('app.tenant_id');
    claimed INTEGER;
BEGIN
    WITH held AS (
        SELECT j."id" FROM unnest(job_ids, fences) AS m("id", "fence")
        JOIN public."Job" j ON j."id" = m."id"
        WHERE j."fence" = m."fence" AND j."state" = 'RUNNING' AND j."tenantId" = tenant
        ORDER BY j."id" FOR UPDATE OF j
    ), done AS (
        UPDATE public."Job" j SET "state" = 'COMPLETED', "finishedAt" = clock_timestamp(),
            "leaseUntil" = NULL, "error" = NULL
        FROM held WHERE j."id" = held."id" RETURNING j.*
    )
    INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId",
                                   "waitedS", "tookS")
    SELECT "tenantId", "id", "job", "queue", 'COMPLETED', "batchId",
           extract(epoch FROM "startedAt" - "dueAt"),
           extract(epoch FROM "finishedAt" - "startedAt") FROM done;
    GET DIAGNOSTICS claimed = ROW_COUNT;
    IF claimed < cardinality(job_ids) THEN
        RAISE EXCEPTION 'lease_lost: % of % jobs are no longer ours (%)',
            cardinality(job_ids) - claimed, cardinality(job_ids), job_ids[1]
            USING ERRCODE = 'AL001';
    END IF;
    DELETE FROM public."JobFlight" WHERE "jobId" = ANY(job_ids);
END $$;
