-- Our columns do not count as a change of the document: the platform's "updatedAt" ignores them.
CALL ailydian_build_touch('Document', ' OF "tenantId", "title", "content", "source", "metadata"');
CALL ailydian_build_child('DocumentChunk', 'documentId', 'Document');
CALL ailydian_build_child('ChunkEmbedding', 'chunkId', 'DocumentChunk');
CALL ailydian_build_trigger('Document', 'release_ingest_key',
    'BEFORE UPDATE OF "tenantId" ON ROW WHEN (OLD."tenantId" IS DISTINCT FROM NEW."tenantId" '
    'AND NEW."ingestKey" IS NOT DISTINCT FROM OLD."ingestKey") '
    'EXECUTE FUNCTION public.ailydian_release_ingest_key()');
CALL ailydian_build_trigger('DocumentChunk', 'tenant_forget',  -- fires after `tenant`: by name
    'BEFORE UPDATE OF "documentId", "tenantId" ON ROW '
    'WHEN (OLD."tenantId" IS NOT NULL AND NEW."tenantId" IS NULL) '
    'EXECUTE FUNCTION public.ailydian_forget_chunk()');
CALL ailydian_build_trigger('Document', 'forget_answers',
    'AFTER UPDATE OF "id", "tenantId", "content", "ingestVersion" ON ROW '
    'EXECUTE FUNCTION public.ailydian_forget_answers()');
CALL ailydian_build_trigger('Document', 'forget_answers_of_gone',
    'AFTER DELETE ON ROW EXECUTE FUNCTION public.ailydian_forget_answers()');
CALL ailydian_build_trigger('DocumentChunk', 'forget_answers_of_gone',
    'AFTER DELETE ON public."DocumentChunk" REFERENCING OLD TABLE AS gone '
    'FOR EACH STATEMENT EXECUTE FUNCTION public.ailydian_forget_answers_of_chunks()');
CALL ailydian_build_trigger('DocumentChunk', 'forget_answers',
    'AFTER UPDATE OF "content" ON ROW EXECUTE FUNCTION public.ailydian_forget_answers_of_chunk()');
