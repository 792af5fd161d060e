-- The receipts: the effects of attempts count only where this stands in the same transaction. It
-- locks the jobs, so a sweep that would take a lease back waits or looks elsewhere. One that is no
-- longer ours refuses them all.
--
-- SECURITY DEFINER for its plan: under the tenant's policy the planner may read all the jobs of the
-- tenant to find these few. The owner's policy leaves it only the primary key, and the tenant is
-- compared afterwards. The plans are by index, and generic as `effects` asks for: made once, right
-- however the ledger grows.
CREATE OR REPLACE FUNCTION ailydian_claim_receipt(job_id TEXT, job_fence BIGINT) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET enable_seqscan = off AS $$
DECLARE
    done RECORD;
BEGIN
    UPDATE public."Job" SET "state" = 'COMPLETED', "finishedAt" = clock_timestamp(),
        "leaseUntil" = NULL, "error" = NULL
    WHERE "id" = job_id AND "fence" = job_fence AND "state" = 'RUNNING'
      AND "tenantId" = current_setting('app.tenant_id')
    RETURNING "tenantId", "job", "queue", "batchId", "dueAt", "startedAt", "finishedAt" INTO done;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'lease_lost: the job % is no longer ours', job_id USING ERRCODE = 'AL001';
    END IF;
    INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId",
                                   "waitedS", "tookS")
    VALUES (done."tenantId", job_id, done."job", done."queue", 'COMPLETED', done."batchId",
            extract(epoch FROM done."startedAt" - done."dueAt"),
            extract(epoch FROM done."finishedAt" - done."startedAt"));
    DELETE FROM public."JobFlight" WHERE "jobId" = job_id;
END $$;
