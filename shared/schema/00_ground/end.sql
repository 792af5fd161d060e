-- ============================================================================================
-- The end: nobody but a trigger calls a trigger function, every function's body is checked, and the
-- tools of this file are dropped.
-- ============================================================================================

DO $$
DECLARE
    trigger_function regprocedure;
BEGIN
    FOR trigger_function IN
        SELECT p.oid FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'ailydian\_%'
          AND p.prorettype = 'trigger'::regtype AND has_function_privilege('ailydian_app', p.oid, 'EXECUTE')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', trigger_function);
    END LOOP;
END $$;

RESET check_function_bodies;

DO $$
DECLARE
    made record;
BEGIN
    FOR made IN
        SELECT p.oid, l.lanname FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
        WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'ailydian\_%'
    LOOP
        IF made.lanname = 'plpgsql' THEN
            PERFORM plpgsql_validator(made.oid);
        ELSE
            PERFORM fmgr_sql_validator(made.oid);
        END IF;
    END LOOP;
END $$;

DROP PROCEDURE ailydian_build_child;
DROP PROCEDURE ailydian_build_touch;
DROP PROCEDURE ailydian_build_security;
DROP PROCEDURE ailydian_build_grant;
DROP PROCEDURE ailydian_build_rights;
DROP PROCEDURE ailydian_build_policy;
DROP PROCEDURE ailydian_build_trigger;
DROP PROCEDURE ailydian_build_index;
DROP PROCEDURE ailydian_build_column;

RESET ROLE;
RESET search_path;
RESET client_min_messages;
