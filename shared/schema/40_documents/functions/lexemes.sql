-- Text as both sides of text search read it. Turkish capitals are lowered by hand, because no
-- server locale can be counted on to know that I is not i's capital; an English İ loses its dot.
-- `read/write` and `httpd.conf` would be one word each to the parser, a file and a host: they are
-- two. Nested replace() costs a tenth of translate().
CREATE OR REPLACE FUNCTION public.ailydian_lexemes(p_language text, p_content text)
RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE p_language
        WHEN 'tr' THEN to_tsvector('pg_catalog.turkish', replace(replace(words, 'I', 'ı'), 'İ', 'i'))
        ELSE to_tsvector('pg_catalog.english', replace(words, 'İ', 'i'))
    END
    FROM (SELECT replace(replace(replace(p_content, '.', ' '), '/', ' '), '’', ' ') AS words) spaced
$$;
CALL ailydian_build_rights('ailydian_lexemes', 'ailydian_app');
