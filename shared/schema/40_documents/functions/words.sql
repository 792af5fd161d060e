-- The words of a chunk: those of its headings count as words of its text.
CREATE OR REPLACE FUNCTION public.ailydian_words(of_language text, headings text, content text)
RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT public.ailydian_lexemes(of_language, headings || E'\n' || content)
$$;
