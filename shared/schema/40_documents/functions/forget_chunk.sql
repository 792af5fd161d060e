-- A chunk that loses its tenant leaves our search. SECURITY DEFINER: the platform has no right on
-- these two tables, and what it may do to a document must not fail for that.
CREATE OR REPLACE FUNCTION public.ailydian_forget_chunk() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM public."ChunkVector"
    WHERE "tenantId" = OLD."tenantId" AND "chunkId" = OLD."id";
    DELETE FROM public."ChunkText"
    WHERE "tenantId" = OLD."tenantId" AND "chunkId" = OLD."id";
    RETURN NEW;
END $$;
