-- The receipts of several jobs at once: all count, or none. Locks: the jobs, by id. SECURITY DEFINER
-- for its plan, as `ailydian_claim_receipt`.
CREATE OR REPLACE FUNCTION ailydian_claim_receipts(p_job_ids TEXT[], p_fences BIGINT[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_tenant_id CONSTANT TEXT := current_setting('app.tenant_id');
    v_claimed INTEGER;
BEGIN
    WITH held AS (
        SELECT j."id" FROM unnest(p_job_ids, p_fences) AS m("id", "fence")
        JOIN public."Job" j ON j."id" = m."id"
        WHERE j."fence" = m."fence" AND j."state" = 'RUNNING' AND j."tenantId" = v_tenant_id
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
    GET DIAGNOSTICS v_claimed = ROW_COUNT;
    IF v_claimed < cardinality(p_job_ids) THEN
        RAISE EXCEPTION 'lease_lost: % of % jobs are owned by other attempts (%)',
            cardinality(p_job_ids) - v_claimed, cardinality(p_job_ids), p_job_ids[1]
            USING ERRCODE = 'AL001';
    END IF;
    DELETE FROM public."JobFlight" WHERE "jobId" = ANY(p_job_ids);
END $$;
CALL ailydian_build_rights('ailydian_claim_receipts', 'ailydian_app');
