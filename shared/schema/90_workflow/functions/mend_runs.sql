-- The next of the runs that have not ended, after an id: those that had to be mended, whether that
-- helped, and, in a last row, how far it has come.
CREATE OR REPLACE FUNCTION ailydian_mend_runs(p_after_id TEXT, p_limit INTEGER)
RETURNS TABLE ("id" TEXT, "tenantId" TEXT, "lost" INTEGER, "mended" BOOLEAN, "last" TEXT)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET enable_sort = off AS $$
#variable_conflict use_column
DECLARE
    v_run RECORD;
BEGIN
    FOR v_run IN
        SELECT r."id", r."tenantId", r."state",
               r."startedAt" < now() AT TIME ZONE 'UTC' - interval '30 seconds' AS "old"
        FROM public."WorkflowRun" r
        WHERE r."status" IN ('PENDING', 'RUNNING') AND r."id" > p_after_id ORDER BY r."id" LIMIT p_limit
    LOOP
        last := v_run."id";
        CONTINUE WHEN v_run."state" IS NULL OR NOT v_run."old";
        lost := public.ailydian_lost_steps(v_run."id");
        CONTINUE WHEN coalesce(lost, 0) = 0;
        mended := public.ailydian_mend_run(v_run."id");
        CONTINUE WHEN mended IS NULL;
        id := v_run."id";
        "tenantId" := v_run."tenantId";
        RETURN NEXT;
    END LOOP;
    IF last IS NOT NULL THEN
        id := NULL;
        RETURN NEXT;
    END IF;
END $$;
CALL ailydian_build_rights('ailydian_mend_runs', 'ailydian_relay');
