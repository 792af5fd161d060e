-- Count runs in each state that has not ended, and runs that failed in the last hour; at most
-- `p_limit` of either are counted.
CREATE OR REPLACE FUNCTION ailydian_count_runs(p_limit INTEGER)
RETURNS TABLE ("state" TEXT, "runs" BIGINT) LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET jit = off SET enable_seqscan = off AS $$
    SELECT r."state", count(*) FROM (
        SELECT x."state" FROM public."WorkflowRun" x
        WHERE x."status" IN ('PENDING', 'RUNNING') AND x."state" IS NOT NULL LIMIT p_limit
    ) r GROUP BY r."state"
    UNION ALL
    SELECT 'failed', count(*) FROM (
        SELECT FROM public."WorkflowRun" x
        WHERE x."state" = 'failed'
          AND x."completedAt" >= (now() - interval '1 hour') AT TIME ZONE 'UTC' LIMIT p_limit
    ) f
$$;
CALL ailydian_build_rights('ailydian_count_runs', 'ailydian_relay');
