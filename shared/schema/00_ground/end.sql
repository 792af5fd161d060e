-- ============================================================================================
-- End: nobody but a trigger calls a trigger function, and the tools are dropped
-- ============================================================================================

DO $$
DECLARE
    v_function regprocedure;
BEGIN
    FOR v_function IN
        SELECT p.oid FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'ailydian\_%'
          AND p.prorettype = 'trigger'::regtype AND has_function_privilege('ailydian_app', p.oid, 'EXECUTE')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', v_function);
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

RESET ROLE;
RESET check_function_bodies;
RESET search_path;
RESET client_min_messages;
