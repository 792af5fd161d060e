-- A changed or deleted document invalidates the cached answers that cite it, and so does one of its
-- chunks. An answer that is being stored meanwhile holds the document's lock: either it is found
-- here, or it sees the change and is not stored. SECURITY DEFINER: the platform has no rights
-- to "CacheSource".
CREATE OR REPLACE FUNCTION ailydian_forget_answers() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM "SemanticCache" WHERE "tenantId" = OLD."tenantId" AND "id" IN (
        SELECT s."entryId" FROM "CacheSource" s
        WHERE s."tenantId" = OLD."tenantId" AND s."documentId" = OLD."id");
    RETURN NULL;
END $$;
