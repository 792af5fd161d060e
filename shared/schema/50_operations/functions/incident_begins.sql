-- Whoever writes an incident, a sweep, a person or the platform: what on-call is told stands in the
-- same transaction. A stuck run's is named by its id.
CREATE OR REPLACE FUNCTION ailydian_incident_begins() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NEW."cause" IS NULL AND NEW."id" LIKE 'stuck-run:%' THEN
        NEW."cause" := NEW."id";
    END IF;
    NEW."lastSeenAt" := coalesce(NEW."lastSeenAt", now());
    RETURN NEW;
END $$;
