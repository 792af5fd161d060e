-- Ids are TEXT. In time order where the server can (18), so that new rows share index pages.
-- No SET clause: the planner copies the body into the defaults, so a default costs no call.
DO $$
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION public.ailydian_new_id() RETURNS text LANGUAGE sql VOLATILE '
        'AS $f$ SELECT pg_catalog.%s()::text $f$',
        CASE WHEN to_regprocedure('pg_catalog.uuidv7()') IS NULL THEN 'gen_random_uuid' ELSE 'uuidv7' END);
END $$;
CALL ailydian_build_rights('ailydian_new_id', 'ailydian_app, ailydian_relay, ailydian_platform');
