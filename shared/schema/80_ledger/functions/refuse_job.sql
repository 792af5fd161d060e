-- Refuse a job that no worker could take: the claim of a hundred would fail by it. Called in an expression.
CREATE OR REPLACE FUNCTION ailydian_refuse_job() RETURNS timestamptz LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'payload_refused: "dueAt" and "createdAt" must be times of 1970 to 9998, and counters at least 0 and at most 1,000,000'
        USING ERRCODE = 'AL002';
END $$;
