-- ============================================================================================
-- Check: the body of every function, now that all exist
-- ============================================================================================

SET check_function_bodies = on;

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
