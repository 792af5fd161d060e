-- Apply rewards of answers to their models: store them, move the tenant's arms by the difference,
-- and the global arms and scores too.
-- Locks are taken in one order: the messages, the tenant's arms, and last, for they are everybody's,
-- the global arms and scores, by model and intent.
-- Returns the number of messages with a stored reward.
CREATE OR REPLACE FUNCTION ailydian_reward(
    p_message_ids TEXT[], p_values DOUBLE PRECISION[], p_weights DOUBLE PRECISION[],
    p_discount DOUBLE PRECISION, p_prior_pulls DOUBLE PRECISION
) RETURNS INTEGER LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_messages INTEGER;
BEGIN
    WITH change AS MATERIALIZED (
        SELECT k.* FROM ailydian_reward_tenant(p_message_ids, p_values, p_weights, p_discount,
                                               p_prior_pulls) k
    ), everybodys AS (
        INSERT INTO "BanditArm" AS b ("modelId", "intent", "alpha", "beta", "pulls", "rewards")
        SELECT c."modelId", c."intent", greatest(1 + c."won", 0), greatest(1 + c."lost", 0),
               c."pulls", c."rewards"
        FROM change c ORDER BY c."modelId", c."intent"
        ON CONFLICT ("modelId", "intent") DO UPDATE
        SET "alpha" = greatest(
                1 + ailydian_faded(b."alpha" - 1, b."updatedAt" AT TIME ZONE 'UTC', p_discount)
                + (SELECT c."won" FROM change c
                   WHERE c."modelId" = b."modelId" AND c."intent" = b."intent"), 0),
            "beta" = greatest(
                1 + ailydian_faded(b."beta" - 1, b."updatedAt" AT TIME ZONE 'UTC', p_discount)
                + (SELECT c."lost" FROM change c
                   WHERE c."modelId" = b."modelId" AND c."intent" = b."intent"), 0),
            "pulls" = b."pulls" + excluded."pulls", "rewards" = b."rewards" + excluded."rewards",
            "updatedAt" = greatest(now() AT TIME ZONE 'UTC', b."updatedAt" + interval '1 ms')
        RETURNING b."modelId", b."intent", b."alpha", b."beta"
    ), scored AS (
        INSERT INTO "RoutingScore" AS r ("modelId", "intent", "score", "pulls", "wins")
        SELECT e."modelId", e."intent", e."alpha" / (e."alpha" + e."beta"), c."pulls", c."wins"
        FROM everybodys e JOIN change c ON c."modelId" = e."modelId" AND c."intent" = e."intent"
        ORDER BY e."modelId", e."intent"
        ON CONFLICT ("modelId", "intent") DO UPDATE
        SET "pulls" = r."pulls" + excluded."pulls", "wins" = r."wins" + excluded."wins"
    )
    SELECT coalesce(sum(c."messages"), 0) INTO v_messages FROM change c;
    RETURN v_messages;
END $$;
CALL ailydian_build_rights('ailydian_reward', 'ailydian_app');
