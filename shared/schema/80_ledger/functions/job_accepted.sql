-- Accept a job: check that the tenant exists, neither the queue nor the tenant's share of it is full and a
-- worker can take it, add its row to the outbox, wake up the relay. SECURITY DEFINER: nobody else adds to
-- the outbox. Follow-ups pass a full queue: refusing them would block the jobs that drain it.
CREATE OR REPLACE FUNCTION ailydian_job_accepted() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_refused TEXT;
BEGIN
    SELECT a."tenantId" INTO v_refused FROM (SELECT DISTINCT "tenantId" FROM accepted) a
    WHERE NOT EXISTS (SELECT 1 FROM "Tenant" t WHERE t."id" = a."tenantId") LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'tenant_not_found: no tenant with the id %', public.ailydian_visible(v_refused)
            USING ERRCODE = 'AL003';
    END IF;
    SELECT q."queue" INTO v_refused FROM "QueueState" q
    WHERE q."depth" >= q."depthMax"
      AND q."queue" IN (SELECT DISTINCT a."queue" FROM accepted a WHERE a."parentId" IS NULL) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'queue_full: the queue % has reached its maximum depth', v_refused
            USING ERRCODE = 'AL004';
    END IF;
    SELECT t."queue" INTO v_refused FROM "TenantDepth" t
    WHERE (t."tenantId", t."queue") IN (SELECT a."tenantId", a."queue" FROM accepted a
                                        WHERE a."parentId" IS NULL) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'queue_full: the tenant fills its share of the queue %', v_refused
            USING ERRCODE = 'AL004';
    END IF;
    -- What the claim, a wake-up or a supervisor could not take is refused here, in the query that reads the
    -- rows anyway: a condition of a trigger is parsed for every INSERT, which cost 45 us. A kind that the
    -- ledger knows needs one look-up; only others' names are looked at.
    INSERT INTO "JobOutbox" ("queue", "tenantId", "job", "limitKey", "priority", "dueAt", "jobId",
                             "attempt", "cost")
    SELECT a."queue", a."tenantId", a."job", a."limitKey", a."priority",
           CASE WHEN greatest(a."dueAt", a."createdAt") < '9999-01-01Z'
                 AND least(a."dueAt", a."createdAt") >= '1970-01-01Z'
                 AND greatest(a."fence", a."attempt", a."crashes") <= 1000000
                 AND least(a."fence", a."attempt", a."crashes") >= 0
                THEN CASE WHEN octet_length(a."id") BETWEEN 1 AND 64
                           AND EXISTS (SELECT FROM "JobKind" k
                                       WHERE k."job" = a."job" AND k."queue" = a."queue")
                     THEN a."dueAt"
                     ELSE public.ailydian_refuse_job(a."id", a."job", a."queue", a."dueAt") END
                ELSE public.ailydian_refuse_job(a."id", a."job", a."queue", NULL) END, a."id",
           a."attempt", a."cost" FROM accepted a
    WHERE a."state" = 'PENDING' ORDER BY a."id";
    IF FOUND THEN
        PERFORM pg_notify('ailydian_outbox', '');
    END IF;
    RETURN NULL;
END $$;
