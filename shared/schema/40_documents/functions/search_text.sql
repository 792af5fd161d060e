-- BM25 over the tenant's chunks that hold any word of a question, best first. Stop words are those
-- of the question's language; every other word is looked for as a Turkish and as an English one.
-- "share" is the score divided by the best a question could get: about 1 where a chunk holds all
-- its words, small where only some of them are common to both languages.
--
-- Cost is bounded by reach: a word of more chunks than that counts as if it were in the geometric
-- mean of reach and all of them, and alone it finds only chunks that hold the other words too.
-- ts_rank of one lexeme is sum(1/k^2, k = 1..tf) / (pi^2/6), so it tells tf; without and with
-- normalisation 2 it tells the length. SECURITY DEFINER, as the head of this chapter says.
CREATE OR REPLACE FUNCTION public.ailydian_search_text(
    p_words text[], p_language text, p_hits_max integer, p_reach integer DEFAULT 2000
) RETURNS TABLE ("chunkId" text, "share" double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    v_tenant_id text := nullif(current_setting('app.tenant_id', true), '');
    v_lexemes text[];   -- distinct, with their queries and weights beside them
    v_queries tsquery[];
    v_weights float8[];
    v_best float8;      -- the sum of the weights of all words, of the likelier language each
    v_any_of tsquery;   -- lexemes that few chunks hold
    v_all_of tsquery;   -- every word, in either language; NULL where any_of finds all
BEGIN
    IF v_tenant_id IS NULL THEN
        RAISE insufficient_privilege USING MESSAGE = 'text search needs app.tenant_id';
    END IF;
    WITH word AS MATERIALIZED (
        SELECT q.word, lexeme.language, lexeme.of_word
        FROM unnest(p_words) AS q (word),
        LATERAL (SELECT language, tsvector_to_array(ailydian_lexemes(language, q.word)) AS of_word
                 FROM unnest(ARRAY['tr', 'en']) AS language) lexeme
    ), kept AS MATERIALIZED (
        SELECT w.word, w.language, w.of_word FROM word w
        WHERE EXISTS (SELECT FROM word own WHERE own.word = w.word
                      AND own.language = p_language AND own.of_word <> '{}')
    ), known AS MATERIALIZED (
        SELECT l.lexeme, quoted.query, found.chunks
        FROM (SELECT DISTINCT unnest(of_word) AS lexeme FROM kept) l,
        LATERAL (SELECT ('''' || replace(replace(l.lexeme, '\', '\\'), '''', '''''') || '''')::tsquery
                 AS query) quoted,
        LATERAL (SELECT count(*) AS chunks FROM (
                     SELECT FROM "ChunkText" c
                     WHERE c."tenantId" = v_tenant_id AND c."tsv" @@ quoted.query LIMIT p_reach) f) found
    ), whole AS MATERIALIZED (
        SELECT count(*) AS chunks FROM (
            SELECT FROM "ChunkText" c WHERE c."tenantId" = v_tenant_id LIMIT 25 * p_reach) f
    ), weighed AS MATERIALIZED (
        SELECT k.lexeme, k.query, k.chunks, ln(1 + (w.chunks - n.chunks + 0.5) / (n.chunks + 0.5)) AS weight
        FROM known k, whole w,
        LATERAL (SELECT CASE WHEN k.chunks < p_reach THEN k.chunks::float8
                        ELSE sqrt(k.chunks::float8 * w.chunks) END AS chunks) n
    ), rare AS (
        SELECT k.query FROM (
            SELECT query, sum(chunks) OVER (ORDER BY chunks, lexeme) AS total,
                   row_number() OVER (ORDER BY chunks, lexeme) AS place
            FROM weighed WHERE chunks > 0) k
        WHERE k.total <= p_reach OR k.place = 1
    ), needed AS (
        SELECT k.word, string_agg(DISTINCT x.query::text, ' | ') AS either
        FROM kept k, unnest(k.of_word) AS l (lexeme)
        JOIN weighed x ON x.lexeme = l.lexeme
        GROUP BY k.word HAVING sum(x.chunks) > 0
    )
    SELECT array_agg(w.lexeme), array_agg(w.query), array_agg(w.weight),
           (SELECT sum(m.lighter) FROM (
                SELECT min(s.total) AS lighter FROM (
                    SELECT k.word, k.language, sum(x.weight) AS total
                    FROM kept k, unnest(k.of_word) AS l (lexeme)
                    JOIN weighed x ON x.lexeme = l.lexeme GROUP BY k.word, k.language) s
                GROUP BY s.word) m),
           (SELECT string_agg(r.query::text, ' | ')::tsquery FROM rare r),
           CASE WHEN sum(w.chunks) > p_reach
                THEN (SELECT string_agg('(' || n.either || ')', ' & ')::tsquery FROM needed n) END
    INTO v_lexemes, v_queries, v_weights, v_best, v_any_of, v_all_of
    FROM weighed w WHERE w.chunks > 0;

    RETURN QUERY
    WITH hit AS MATERIALIZED (
        (SELECT c."chunkId" AS id, c."tsv" || ''::tsvector AS words  -- a copy is detoasted once
         FROM "ChunkText" c WHERE c."tenantId" = v_tenant_id AND c."tsv" @@ v_all_of LIMIT p_reach)
        UNION ALL
        (SELECT c."chunkId", c."tsv" || ''::tsvector
         FROM "ChunkText" c WHERE c."tenantId" = v_tenant_id AND c."tsv" @@ v_any_of
         AND (v_all_of IS NULL OR NOT c."tsv" @@ v_all_of) LIMIT p_reach)
    ), measured AS MATERIALIZED (
        SELECT h.id, h.words, ts_rank('{1,1,1,1}', h.words, o.query)
                     / ts_rank('{1,1,1,1}', h.words, o.query, 2) AS length
        FROM hit h, LATERAL (SELECT q.query FROM unnest(v_queries) AS q (query)
                             WHERE h.words @@ q.query LIMIT 1) o
    ), average AS MATERIALIZED (
        SELECT avg(m.length) AS length FROM measured m
    )
    SELECT m.id, s.score / (2.2 * greatest(v_best, 1e-9))
    FROM measured m, average a,
    LATERAL (
        SELECT sum(l.weight * 2.2 * t.tf / (t.tf + 1.2 * (0.25 + 0.75 * m.length / a.length))) AS score
        FROM unnest(v_queries, v_weights) AS l (query, weight),
        LATERAL (SELECT ts_rank('{1,1,1,1}', m.words, l.query)::float8 AS rank OFFSET 0) r,
        LATERAL (SELECT 0.6079271 / (1.000001 - r.rank) - 0.5 AS tf) t
        WHERE r.rank > 0
    ) s
    ORDER BY s.score DESC, m.id LIMIT p_hits_max;
END $$;
CALL ailydian_build_rights('ailydian_search_text', 'ailydian_app');
