-- A stranger's text as an error may quote it, to a terminal and to the log of Postgres: cut, and without
-- control characters, line breaks and marks that turn the direction of text.
CREATE OR REPLACE FUNCTION ailydian_visible(p_text TEXT) RETURNS TEXT LANGUAGE sql IMMUTABLE AS $$
    SELECT regexp_replace(left(p_text, 200),
        '[\u0001-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]', '?', 'g')
$$;
CALL ailydian_build_rights('ailydian_visible', 'ailydian_app, ailydian_relay, ailydian_platform');
