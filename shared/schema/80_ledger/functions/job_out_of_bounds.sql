-- Refuse a job by its trigger's condition: a time, a counter or an id that no worker could take.
CREATE OR REPLACE FUNCTION ailydian_job_out_of_bounds() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'payload_refused: "dueAt" and "createdAt" must be times of 1970 to 9998, "id" at most 64 bytes, and counters and seconds at least 0 and at most 1,000,000'
        USING ERRCODE = 'AL002';
END $$;
