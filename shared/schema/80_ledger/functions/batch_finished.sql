-- A batch has finished: an event of it is noted, in the same transaction.
CREATE OR REPLACE FUNCTION ailydian_batch_finished() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId")
    VALUES (NEW."tenantId", NEW."id", NEW."name", 'maintenance', 'BATCH_FINISHED', NEW."id");
    RETURN NULL;
END $$;
