-- Store rewards of answers and move the tenant's arms by them. An arm is brought up to now before
-- it moves, so that it is always 1 + the sum of its rewards in "ArmReward", each faded by its age
-- (forward decay). A new one begins with the global arm, worth at most `p_prior_pulls` pulls.
-- Locks: what `ailydian_keep_rewards` locks, then the tenant's arms, by model and intent.
-- Returns what `ailydian_keep_rewards` does.
CREATE OR REPLACE FUNCTION ailydian_reward_tenant(
    p_message_ids TEXT[], p_values DOUBLE PRECISION[], p_weights DOUBLE PRECISION[],
    p_discount DOUBLE PRECISION, p_prior_pulls DOUBLE PRECISION
) RETURNS TABLE (
    "modelId" TEXT, "intent" TEXT, "won" DOUBLE PRECISION, "lost" DOUBLE PRECISION,
    "rewards" DOUBLE PRECISION, "pulls" BIGINT, "wins" BIGINT, "messages" BIGINT
) LANGUAGE plpgsql ROWS 10 SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_tenant_id CONSTANT TEXT := current_setting('app.tenant_id');
BEGIN
    RETURN QUERY
    WITH change AS MATERIALIZED (
        SELECT k.* FROM ailydian_keep_rewards(p_message_ids, p_values, p_weights, p_discount) k
    ), prior AS (
        SELECT c.*, coalesce(p."alpha", 1) AS "alpha", coalesce(p."beta", 1) AS "beta"
        FROM change c LEFT JOIN LATERAL (
            SELECT 1 + f."won" * f."share" AS "alpha", 1 + f."lost" * f."share" AS "beta"
            FROM "BanditArm" b, LATERAL (
                SELECT b."updatedAt" AT TIME ZONE 'UTC' AS "since"
            ) u, LATERAL (
                SELECT greatest(ailydian_faded(b."alpha" - 1, u."since", p_discount), 0) AS "won",
                       greatest(ailydian_faded(b."beta" - 1, u."since", p_discount), 0) AS "lost"
            ) n, LATERAL (
                SELECT n."won", n."lost",
                       least(1, p_prior_pulls / nullif(n."won" + n."lost", 0)) AS "share"
            ) f
            WHERE b."modelId" = c."modelId" AND b."intent" = c."intent" AND f."share" IS NOT NULL
        ) p ON true
    ), own AS (
        INSERT INTO "TenantArm" AS t ("tenantId", "modelId", "intent", "alpha", "beta", "pulls",
                                      "rewards")
        SELECT v_tenant_id, p."modelId", p."intent", greatest(p."alpha" + p."won", 0),
               greatest(p."beta" + p."lost", 0), p."pulls", p."rewards"
        FROM prior p ORDER BY p."modelId", p."intent"
        ON CONFLICT ("tenantId", "modelId", "intent") DO UPDATE
        SET "alpha" = greatest(1 + ailydian_faded(t."alpha" - 1, t."updatedAt", p_discount)
                + (SELECT c."won" FROM change c
                   WHERE c."modelId" = t."modelId" AND c."intent" = t."intent"), 0),
            "beta" = greatest(1 + ailydian_faded(t."beta" - 1, t."updatedAt", p_discount)
                + (SELECT c."lost" FROM change c
                   WHERE c."modelId" = t."modelId" AND c."intent" = t."intent"), 0),
            "pulls" = t."pulls" + excluded."pulls", "rewards" = t."rewards" + excluded."rewards",
            "updatedAt" = greatest(now(), t."updatedAt")
    )
    SELECT c.* FROM change c;
END $$;
CALL ailydian_build_rights('ailydian_reward_tenant', 'ailydian_app');
