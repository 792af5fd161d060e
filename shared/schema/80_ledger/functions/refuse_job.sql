-- Refuse a job whose tenant is missing, that has no room, or that no worker could take, and say why: the
-- claim of a hundred would fail by it, or its crashes would not be counted. `p_counted`: a full queue refuses
-- it; `p_waits`: it goes to the outbox; `p_numbers`: its time limit, backoff, attempts and version. Called in a condition. Returns `p_waits` where nothing is wrong: a kind, or all kinds, that the ledger was not told of.
CREATE OR REPLACE FUNCTION ailydian_refuse_job(
    p_job_id TEXT, p_tenant_id TEXT, p_job TEXT, p_queue TEXT, p_counted BOOLEAN, p_waits BOOLEAN,
    p_times TIMESTAMPTZ[], p_counters BIGINT[], p_numbers REAL[]
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM public."Tenant" t WHERE t."id" = p_tenant_id) THEN
        RAISE EXCEPTION 'tenant_not_found: no tenant with the id %', public.ailydian_visible(p_tenant_id) USING ERRCODE = 'AL003';
    ELSIF p_counted AND EXISTS (SELECT FROM public."QueueState" q
                                WHERE q."queue" = p_queue AND q."depth" >= q."depthMax") THEN
        RAISE EXCEPTION 'queue_full: the queue % has reached its maximum depth', p_queue
            USING ERRCODE = 'AL004';
    ELSIF p_counted AND EXISTS (SELECT FROM public."TenantDepth" d
                                WHERE d."tenantId" = p_tenant_id AND d."queue" = p_queue) THEN
        RAISE EXCEPTION 'queue_full: the tenant fills its share of the queue %', p_queue
            USING ERRCODE = 'AL004';
    ELSIF NOT p_waits THEN
        RETURN false;
    ELSIF NOT ('9999-01-01Z' > ALL (p_times) AND '1970-01-01Z' <= ALL (p_times)
               AND 1000000 >= ALL (p_counters) AND 0 <= ALL (p_counters)) THEN
        RAISE EXCEPTION 'payload_refused: "dueAt" and "createdAt" must be times of 1970 to 9998, and counters at least 0 and at most 1,000,000'
            USING ERRCODE = 'AL002';
    ELSIF coalesce(p_numbers[1], 1) NOT BETWEEN 0.001 AND 604800 THEN
        RAISE EXCEPTION 'payload_refused: "timeLimitS" must be a number from 0.001 to 604,800 (got %)',
            p_numbers[1] USING ERRCODE = 'AL002';
    ELSIF coalesce(p_numbers[2], 0) NOT BETWEEN 0 AND 604800 THEN
        RAISE EXCEPTION 'payload_refused: "backoffS" must be a number from 0 to 604,800 (got %)',
            p_numbers[2] USING ERRCODE = 'AL002';
    ELSIF coalesce(p_numbers[3], 1) NOT BETWEEN 1 AND 1000000 THEN
        RAISE EXCEPTION 'payload_refused: "attemptsMax" must be a whole number from 1 to 1,000,000 (got %)',
            p_numbers[3] USING ERRCODE = 'AL002';
    ELSIF coalesce(p_numbers[4], 1) < 1 THEN
        RAISE EXCEPTION 'payload_refused: "schemaVersion" must be a whole number from 1 to 2,147,483,647 (got %)',
            p_numbers[4] USING ERRCODE = 'AL002';
    ELSIF octet_length(p_job_id) NOT BETWEEN 1 AND 64 THEN
        RAISE EXCEPTION 'payload_refused: "id" must be 1 to 64 bytes (got %)', octet_length(p_job_id)
            USING ERRCODE = 'AL002';
    ELSIF length(p_job) NOT BETWEEN 1 AND 200 OR p_job ~ '[[:cntrl:]]' THEN
        RAISE EXCEPTION 'payload_refused: "job" must be 1 to 200 characters without control characters'
            USING ERRCODE = 'AL002';
    ELSIF EXISTS (SELECT FROM public."JobKind")
          AND NOT EXISTS (SELECT FROM public."JobKind" k WHERE k."queue" = p_queue) THEN
        RAISE EXCEPTION 'payload_refused: no queue is named %; leave "queue" out, and it is that of the job',
            public.ailydian_visible(to_json(left(p_queue, 100))::text) USING ERRCODE = 'AL002';
    END IF;
    RETURN p_waits;
END $$;
