-- Claim the receipt of an attempt: its effects count only if this is in the same transaction. It
-- locks the job, so a sweep that would take the lease back waits or skips it. A lost lease raises
-- AL001 and rolls everything back.
--
-- SECURITY DEFINER for its plan: under the tenant's policy the planner may read all the jobs of the
-- tenant to find these few. The owner's policy leaves it only the primary key, and the tenant is
-- compared afterwards. The plans are by index, and generic as `effects` asks for: made once, right
-- however the ledger grows.
CREATE OR REPLACE FUNCTION ailydian_claim_receipt(p_job_id TEXT, p_fence BIGINT) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET jit = off SET enable_seqscan = off AS $$
DECLARE
    v_done RECORD;
BEGIN
    UPDATE public."Job" SET "state" = 'COMPLETED', "finishedAt" = clock_timestamp(),
        "leaseUntil" = NULL, "error" = NULL
    WHERE "id" = p_job_id AND "fence" = p_fence AND "state" = 'RUNNING'
      AND "tenantId" = current_setting('app.tenant_id')
    RETURNING "tenantId", "job", "queue", "batchId", "dueAt", "startedAt", "finishedAt" INTO v_done;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'lease_lost: this attempt no longer owns the job %', p_job_id USING ERRCODE = 'AL001';
    END IF;
    INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId",
                                   "waitedS", "tookS")
    VALUES (v_done."tenantId", p_job_id, v_done."job", v_done."queue", 'COMPLETED', v_done."batchId",
            extract(epoch FROM v_done."startedAt" - v_done."dueAt"),
            extract(epoch FROM v_done."finishedAt" - v_done."startedAt"));
    DELETE FROM public."JobFlight" WHERE "jobId" = p_job_id;
END $$;
CALL ailydian_build_rights('ailydian_claim_receipt', 'ailydian_app');
