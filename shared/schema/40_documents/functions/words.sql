-- The words of a chunk: those of its headings count as words of its text.
CREATE OR REPLACE FUNCTION public.ailydian_words(p_language text, p_headings text, p_content text)
RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT public.ailydian_lexemes(p_language, p_headings || E'\n' || p_content)
$$;
CALL ailydian_build_rights('ailydian_words', 'ailydian_app');
