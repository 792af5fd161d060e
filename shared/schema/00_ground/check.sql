-- ============================================================================================
-- Check: the body of every function, now that all exist
-- ============================================================================================

SET check_function_bodies = on;

DO $$
DECLARE
    v_function record;
BEGIN
    FOR v_function IN
        SELECT p.oid, l.lanname FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
        WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'ailydian\_%'
    LOOP
        IF v_function.lanname = 'plpgsql' THEN
            PERFORM plpgsql_validator(v_function.oid);
        ELSE
            PERFORM fmgr_sql_validator(v_function.oid);
        END IF;
    END LOOP;
END $$;
