-- Refuse a job that no worker could take, and say why: the claim of a hundred would fail by it, or its
-- crashes would not be counted. `p_due_at` NULL: it is a time or a counter. Called in an expression.
-- Returns `p_due_at` where nothing is wrong: a kind of job, or all kinds, that the ledger was not told of.
CREATE OR REPLACE FUNCTION ailydian_refuse_job(
    p_job_id TEXT, p_job TEXT, p_queue TEXT, p_due_at TIMESTAMPTZ
) RETURNS timestamptz LANGUAGE plpgsql AS $$
BEGIN
    IF p_due_at IS NULL THEN
        RAISE EXCEPTION 'payload_refused: "dueAt" and "createdAt" must be times of 1970 to 9998, and counters at least 0 and at most 1,000,000'
            USING ERRCODE = 'AL002';
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
    RETURN p_due_at;
END $$;
