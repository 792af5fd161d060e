-- Ids are TEXT, in time order: new rows share index pages, and of two rows of a transaction the later
-- one has the larger id. Before 18 Postgres has no uuidv7(): the same of its parts, by microseconds.
-- No SET clause: the planner copies the body into the defaults, so a default costs no call.
DO $$
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION public.ailydian_new_id() RETURNS text LANGUAGE sql VOLATILE '
        'AS $f$ SELECT %s::text $f$',
        CASE WHEN to_regprocedure('pg_catalog.uuidv7()') IS NOT NULL THEN 'pg_catalog.uuidv7()' ELSE
            '(overlay(lpad(to_hex((extract(epoch FROM clock_timestamp()) * 4096000)::bigint), 15, ''0'') '
            'PLACING ''7'' FROM 13 FOR 0) || substr(gen_random_uuid()::text, 20))::uuid' END);
END $$;
CALL ailydian_build_rights('ailydian_new_id', 'ailydian_app, ailydian_relay, ailydian_platform');
