-- Budgets that are used up and not yet due to be reset.
CREATE OR REPLACE FUNCTION ailydian_spent_budgets()
RETURNS TABLE ("tenantId" TEXT, "id" TEXT, "name" TEXT, "spentUsd" NUMERIC, "limitUsd" NUMERIC,
               "resetAt" TIMESTAMPTZ) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT b."tenantId", b."id", b."name", b."spentUsd", b."limitUsd", b."resetAt" AT TIME ZONE 'UTC'
    FROM "Budget" b
    WHERE b."limitUsd" > 0 AND b."spentUsd" >= b."limitUsd"
      AND b."resetAt" > now() AT TIME ZONE 'UTC'
$$;
CALL ailydian_build_rights('ailydian_spent_budgets', 'ailydian_relay');
