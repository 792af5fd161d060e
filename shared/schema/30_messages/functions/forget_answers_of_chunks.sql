-- Chunks were deleted: cached answers that rest on their documents go. SECURITY DEFINER: the platform
-- has no rights to "CacheSource".
CREATE OR REPLACE FUNCTION ailydian_forget_answers_of_chunks() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM "SemanticCache" c USING "CacheSource" s, gone g
    WHERE c."id" = s."entryId" AND c."tenantId" = s."tenantId"
      AND s."tenantId" = g."tenantId" AND s."documentId" = g."documentId";
    RETURN NULL;
END $$;
