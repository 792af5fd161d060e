-- Chunks were deleted: cached answers that rest on their documents go. SECURITY DEFINER: the platform
-- has no rights to "CacheSource".
CREATE OR REPLACE FUNCTION ailydian_forget_answers_of_chunks() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM "SemanticCache" WHERE "id" IN (
        SELECT s."entryId" FROM "CacheSource" s
        WHERE (s."tenantId", s."documentId") IN (
            SELECT g."tenantId", g."documentId" FROM gone g));
    RETURN NULL;
END $$;
