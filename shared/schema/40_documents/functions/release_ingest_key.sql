-- A document that changes its tenant loses its key: the new tenant may have the same source.
CREATE OR REPLACE FUNCTION public.ailydian_release_ingest_key() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    NEW."ingestKey" := NULL;
    RETURN NEW;
END $$;
