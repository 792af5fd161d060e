-- The clock of "updatedAt". Its triggers fire only WHEN the old value came back unchanged, so a
-- client that sends its own time keeps it.
CREATE OR REPLACE FUNCTION public.ailydian_touch() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    NEW."updatedAt" := now() AT TIME ZONE 'UTC';
    RETURN NEW;
END $$;
