-- The weights of a question's words among the tenant's chunks, and the queries that find the chunks
-- that hold them. Stop words are those of the question's language; every other word is looked for as a
-- Turkish and as an English one. A lexeme's weight is BM25's; one of `p_reach` chunks or more counts
-- as if it were in the geometric mean of reach and all of them.
-- Locks nothing.
-- Returns the lexemes' queries with their weights beside them; the sum of the weights of all words,
-- of the likelier language each; a query of the lexemes that few chunks hold; and one of every word,
-- in either language, NULL where the former finds all.
CREATE OR REPLACE FUNCTION public.ailydian_weigh_words(
    p_tenant_id text, p_words text[], p_language text, p_reach integer,
    OUT queries tsquery[], OUT weights float8[], OUT best float8, OUT any_of tsquery,
    OUT all_of tsquery
) LANGUAGE plpgsql STABLE AS $$
BEGIN
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
                     WHERE c."tenantId" = p_tenant_id AND c."tsv" @@ quoted.query
                     LIMIT p_reach) f) found
    ), whole AS MATERIALIZED (
        SELECT count(*) AS chunks FROM (
            SELECT FROM "ChunkText" c WHERE c."tenantId" = p_tenant_id LIMIT 25 * p_reach) f
    ), weighed AS MATERIALIZED (
        SELECT k.lexeme, k.query, k.chunks,
               ln(1 + (w.chunks - n.chunks + 0.5) / (n.chunks + 0.5)) AS weight
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
    SELECT array_agg(w.query), array_agg(w.weight),
           (SELECT sum(m.lighter) FROM (
                SELECT min(s.total) AS lighter FROM (
                    SELECT k.word, k.language, sum(x.weight) AS total
                    FROM kept k, unnest(k.of_word) AS l (lexeme)
                    JOIN weighed x ON x.lexeme = l.lexeme GROUP BY k.word, k.language) s
                GROUP BY s.word) m),
           (SELECT string_agg(r.query::text, ' | ')::tsquery FROM rare r),
           CASE WHEN sum(w.chunks) > p_reach
                THEN (SELECT string_agg('(' || n.either || ')', ' & ')::tsquery FROM needed n) END
    INTO queries, weights, best, any_of, all_of
    FROM weighed w WHERE w.chunks > 0;
END $$;
CALL ailydian_build_rights('ailydian_weigh_words');
