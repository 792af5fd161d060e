-- A document that changes its tenant gives up its key: the new tenant may hold the same source.
CREATE OR REPLACE FUNCTION public.ailydian_release_ingest_key() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    NEW."ingestKey" := NULL;
    RETURN NEW;
END $$;
