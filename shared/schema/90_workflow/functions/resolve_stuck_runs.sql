-- Resolve the incidents of stuck runs that have ended.
CREATE OR REPLACE FUNCTION ailydian_resolve_stuck_runs() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    UPDATE public."Incident" i SET "status" = 'RESOLVED', "resolvedAt" = now() AT TIME ZONE 'UTC'
    FROM public."WorkflowRun" r
    WHERE i."status" = 'OPEN' AND i."id" LIKE 'stuck-run:%'
      AND r."id" = substr(i."id", length('stuck-run:') + 1) AND r."completedAt" IS NOT NULL
$$;
CALL ailydian_build_rights('ailydian_resolve_stuck_runs', 'ailydian_relay');
