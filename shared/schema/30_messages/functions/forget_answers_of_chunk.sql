-- A chunk's text has changed: cached answers that rest on its document go. SECURITY DEFINER: the
-- platform has no rights to "CacheSource".
CREATE OR REPLACE FUNCTION ailydian_forget_answers_of_chunk() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM "SemanticCache" WHERE "tenantId" = OLD."tenantId" AND "id" IN (
        SELECT s."entryId" FROM "CacheSource" s
        WHERE s."tenantId" = OLD."tenantId" AND s."documentId" = OLD."documentId");
    RETURN NULL;
END $$;
