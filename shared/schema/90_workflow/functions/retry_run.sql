CREATE OR REPLACE FUNCTION ailydian_retry_run(run_id TEXT) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET enable_seqscan = off AS $$
DECLARE
    refused TEXT;
BEGIN
    PERFORM public.ailydian_lock_run(run_id, true, 'failed', 'cancelled');
    refused := public.ailydian_revive_run(run_id, NULL, NULL);
    IF refused IS NOT NULL THEN
        RAISE EXCEPTION 'run_refused: %', refused USING ERRCODE = 'AL008';
    END IF;
END $$;
