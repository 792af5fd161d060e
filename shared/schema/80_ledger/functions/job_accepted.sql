-- Accept a job: check that the tenant exists, neither the queue nor the tenant's share of it is full and a
-- worker can take it, add its row to the outbox, wake up the relay. SECURITY DEFINER: nobody else adds to
-- the outbox. Follow-ups pass a full queue: refusing them would block the jobs that drain it.
--
-- One statement, since each more costs 15 us: almost every job passes, and only one that may not, or whose
-- tenant has a full share somewhere, is asked again, by ailydian_refuse_job, which says why. A tenant and a
-- kind are scalar look-ups, so that none becomes a hash of a whole table; what is full is few rows, read once a
-- statement. The numbers of a publisher are in the ranges of NUMBERS in shared/contract.py (NaN is in none);
-- a step has those of its definition, which was checked. All this is no condition of a trigger: that is parsed for every INSERT, which cost 45 us.
CREATE OR REPLACE FUNCTION ailydian_job_accepted() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO "JobOutbox" ("queue", "tenantId", "job", "limitKey", "priority", "dueAt", "jobId",
                             "attempt", "cost")
    SELECT a."queue", a."tenantId", a."job", a."limitKey", a."priority", a."dueAt", a."id", a."attempt",
           a."cost"
    FROM accepted a
    WHERE CASE WHEN octet_length(a."id") BETWEEN 1 AND 64
                AND greatest(a."dueAt", a."createdAt") < '9999-01-01Z'
                AND least(a."dueAt", a."createdAt") >= '1970-01-01Z'
                AND greatest(a."fence", a."attempt", a."crashes") <= 1000000
                AND least(a."fence", a."attempt", a."crashes") >= 0
                AND (a."stepId" IS NOT NULL
                  OR coalesce(a."timeLimitS", 1) BETWEEN 0.001 AND 604800
                 AND coalesce(a."backoffS", 0) BETWEEN 0 AND 604800
                 AND a."attemptsMax" BETWEEN 1 AND 1000000 AND a."schemaVersion" >= 1)
                AND (SELECT k."job" FROM "JobKind" k
                     WHERE k."job" = a."job" AND k."queue" = a."queue") IS NOT NULL
                AND (SELECT t."id" FROM "Tenant" t WHERE t."id" = a."tenantId") IS NOT NULL
                AND (a."parentId" IS NOT NULL
                  OR a."queue" <> ALL (ARRAY(SELECT q."queue" FROM "QueueState" q
                                             WHERE q."depth" >= q."depthMax"))
                 AND a."tenantId" <> ALL (ARRAY(SELECT d."tenantId" FROM "TenantDepth" d)))
               THEN a."state" = 'PENDING'
               ELSE public.ailydian_refuse_job(a."id", a."tenantId", a."job", a."queue",
                    a."parentId" IS NULL, a."state" = 'PENDING',
                    ARRAY[a."dueAt", a."createdAt"], ARRAY[a."fence", a."attempt", a."crashes"],
                    CASE WHEN a."stepId" IS NULL
                         THEN ARRAY[a."timeLimitS", a."backoffS", a."attemptsMax", a."schemaVersion"] END) END
    ORDER BY a."id";
    -- In a condition: PERFORM is a query.
    IF FOUND AND pg_notify('ailydian_outbox', '') IS NOT NULL THEN
        NULL;
    END IF;
    RETURN NULL;
END $$;
