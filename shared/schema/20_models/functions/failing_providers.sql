-- Providers in use whose circuit breaker is not closed.
CREATE OR REPLACE FUNCTION ailydian_failing_providers()
RETURNS TABLE ("slug" TEXT, "failures" INTEGER, "openedAt" TIMESTAMPTZ) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT p."slug", h."failures", h."openedAt" FROM "ProviderHealth" h
    JOIN "AIProvider" p ON p."id" = h."providerId"
    WHERE h."state" <> 'closed' AND p."enabled"
$$;
CALL ailydian_build_rights('ailydian_failing_providers', 'ailydian_relay');
