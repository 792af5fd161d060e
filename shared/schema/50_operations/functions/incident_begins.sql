-- Complete an incident before it is inserted, by a sweep, a person or the platform: the time it was last
-- seen, and the cause of a stuck run's, which is its id.
CREATE OR REPLACE FUNCTION ailydian_incident_begins() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NEW."cause" IS NULL AND NEW."id" LIKE 'stuck-run:%' THEN
        NEW."cause" := NEW."id";
    END IF;
    NEW."lastSeenAt" := coalesce(NEW."lastSeenAt", now());
    RETURN NEW;
END $$;
