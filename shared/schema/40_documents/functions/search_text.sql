-- BM25 over the tenant's chunks that hold any word of a question, best first. "share" is the score
-- divided by the best a question could get: about 1 where a chunk holds all its words, small where
-- only some of them are common to both languages.
--
-- Cost is bounded by `p_reach`: a word of more chunks than that alone finds only chunks that hold the
-- other words too. ts_rank of one lexeme is sum(1/k^2, k = 1..tf) / (pi^2/6), so it tells tf; without
-- and with normalisation 2 it tells the length. SECURITY DEFINER, as the head of this chapter says.
-- Locks nothing. Returns at most `p_hits_max` chunks.
CREATE OR REPLACE FUNCTION public.ailydian_search_text(
    p_words text[], p_language text, p_hits_max integer, p_reach integer DEFAULT 2000
) RETURNS TABLE ("chunkId" text, "share" double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    v_tenant_id CONSTANT text := nullif(current_setting('app.tenant_id', true), '');
    v_question RECORD;
BEGIN
    IF v_tenant_id IS NULL THEN
        RAISE insufficient_privilege USING MESSAGE = 'text search needs app.tenant_id';
    END IF;
    v_question := public.ailydian_weigh_words(v_tenant_id, p_words, p_language, p_reach);
    RETURN QUERY
    WITH hit AS MATERIALIZED (
        (SELECT c."chunkId" AS id, c."tsv" || ''::tsvector AS words  -- a copy is detoasted once
         FROM "ChunkText" c
         WHERE c."tenantId" = v_tenant_id AND c."tsv" @@ v_question.all_of LIMIT p_reach)
        UNION ALL
        (SELECT c."chunkId", c."tsv" || ''::tsvector
         FROM "ChunkText" c
         WHERE c."tenantId" = v_tenant_id AND c."tsv" @@ v_question.any_of
           AND (v_question.all_of IS NULL OR NOT c."tsv" @@ v_question.all_of) LIMIT p_reach)
    ), measured AS MATERIALIZED (
        SELECT h.id, h.words, ts_rank('{1,1,1,1}', h.words, o.query)
                     / ts_rank('{1,1,1,1}', h.words, o.query, 2) AS length
        FROM hit h, LATERAL (SELECT q.query FROM unnest(v_question.queries) AS q (query)
                             WHERE h.words @@ q.query LIMIT 1) o
    ), average AS MATERIALIZED (
        SELECT avg(m.length) AS length FROM measured m
    )
    SELECT m.id, s.score / (2.2 * greatest(v_question.best, 1e-9))
    FROM measured m, average a,
    LATERAL (
        SELECT sum(l.weight * 2.2 * t.tf / (t.tf + 1.2 * (0.25 + 0.75 * m.length / a.length))) AS score
        FROM unnest(v_question.queries, v_question.weights) AS l (query, weight),
        LATERAL (SELECT ts_rank('{1,1,1,1}', m.words, l.query)::float8 AS rank OFFSET 0) r,
        LATERAL (SELECT 0.6079271 / (1.000001 - r.rank) - 0.5 AS tf) t
        WHERE r.rank > 0
    ) s
    ORDER BY s.score DESC, m.id LIMIT p_hits_max;
END $$;
CALL ailydian_build_rights('ailydian_search_text', 'ailydian_app');
