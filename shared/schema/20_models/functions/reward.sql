-- What answers earned their models. A message's reward is one row: the word with the greater weight
-- holds, of equal ones the later, and the arms move by the difference, so a repeated or late word
-- is harmless. Old rewards fade by `p_discount` a day (gamma): an arm is brought up to now before it
-- moves, and a correction weighs what the reward it corrects weighs by now, so that an arm is always
-- 1 + the sum of what is in "ArmReward", each faded by its age (forward decay). A tenant's arm
-- begins with the global one, worth at most `p_prior_pulls` pulls. Locks are taken in one order: the
-- messages, the tenant's arms, and last, for they are everybody's, the global arms and scores.
CREATE OR REPLACE FUNCTION ailydian_reward(
    p_message_ids TEXT[], p_values DOUBLE PRECISION[], p_weights DOUBLE PRECISION[],
    p_discount DOUBLE PRECISION, p_prior_pulls DOUBLE PRECISION
) RETURNS INTEGER LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_tenant_id TEXT := current_setting('app.tenant_id');
    v_moved INTEGER;
BEGIN
    INSERT INTO "ArmReward" ("tenantId", "messageId", "modelId", "intent", "reward", "weight")
    SELECT v_tenant_id, m."id", m."modelId", m."intent", 0, 0
    FROM (SELECT DISTINCT unnest(p_message_ids) AS "id") g JOIN "Message" m ON m."id" = g."id"
    WHERE m."modelId" IS NOT NULL AND m."intent" IS NOT NULL AND m."role" = 'ASSISTANT'
    ORDER BY m."id"
    ON CONFLICT ("tenantId", "messageId") DO NOTHING;

    WITH given AS MATERIALIZED (
        SELECT DISTINCT ON (g."id") g."id", g."value", g."weight"
        FROM unnest(p_message_ids, p_values, p_weights) WITH ORDINALITY AS g ("id", "value", "weight", "at")
        ORDER BY g."id", g."weight" DESC, g."at" DESC
    ), held AS MATERIALIZED (
        SELECT r.* FROM "ArmReward" r
        WHERE r."tenantId" = v_tenant_id AND r."messageId" = ANY(p_message_ids)
        ORDER BY r."messageId" FOR UPDATE
    ), kept AS (
        UPDATE "ArmReward" r SET "reward" = g."value", "weight" = g."weight"
        FROM held h JOIN given g ON g."id" = h."messageId"
        WHERE r."tenantId" = v_tenant_id AND r."messageId" = h."messageId" AND g."weight" >= h."weight"
        RETURNING h."modelId", h."intent",
            ailydian_faded(g."weight" * g."value" - h."weight" * h."reward",
                           h."rewardedAt", p_discount) AS "won",
            ailydian_faded(g."weight" * (1 - g."value") - h."weight" * (1 - h."reward"),
                           h."rewardedAt", p_discount) AS "lost",
            g."value" - CASE WHEN h."weight" > 0 THEN h."reward" ELSE 0 END AS "rewards",
            (h."weight" = 0)::int AS "pulls",
            (g."value" >= 0.5)::int - (h."weight" > 0 AND h."reward" >= 0.5)::int AS "wins"
    ), change AS MATERIALIZED (
        SELECT k."modelId", k."intent", sum(k."won") AS "won", sum(k."lost") AS "lost",
               sum(k."rewards") AS "rewards", sum(k."pulls") AS "pulls", sum(k."wins") AS "wins"
        FROM kept k GROUP BY k."modelId", k."intent"
    ), prior AS (
        SELECT c.*, coalesce(p."alpha", 1) AS "alpha", coalesce(p."beta", 1) AS "beta"
        FROM change c LEFT JOIN LATERAL (
            SELECT 1 + f."won" * f."share" AS "alpha", 1 + f."lost" * f."share" AS "beta"
            FROM "BanditArm" b, LATERAL (
                SELECT ailydian_faded(b."alpha" - 1, b."updatedAt" AT TIME ZONE 'UTC', p_discount) AS "won",
                       ailydian_faded(b."beta" - 1, b."updatedAt" AT TIME ZONE 'UTC', p_discount) AS "lost"
            ) n, LATERAL (
                SELECT greatest(n."won", 0) AS "won", greatest(n."lost", 0) AS "lost",
                       least(1, p_prior_pulls / nullif(greatest(n."won", 0) + greatest(n."lost", 0), 0)) AS "share"
            ) f
            WHERE b."modelId" = c."modelId" AND b."intent" = c."intent" AND f."share" IS NOT NULL
        ) p ON true
    ), own AS (
        INSERT INTO "TenantArm" AS t ("tenantId", "modelId", "intent", "alpha", "beta", "pulls", "rewards")
        SELECT v_tenant_id, p."modelId", p."intent", greatest(p."alpha" + p."won", 0),
               greatest(p."beta" + p."lost", 0), p."pulls", p."rewards"
        FROM prior p ORDER BY p."modelId", p."intent"
        ON CONFLICT ("tenantId", "modelId", "intent") DO UPDATE
        SET "alpha" = greatest(1 + ailydian_faded(t."alpha" - 1, t."updatedAt", p_discount)
                + (SELECT c."won" FROM change c WHERE c."modelId" = t."modelId" AND c."intent" = t."intent"), 0),
            "beta" = greatest(1 + ailydian_faded(t."beta" - 1, t."updatedAt", p_discount)
                + (SELECT c."lost" FROM change c WHERE c."modelId" = t."modelId" AND c."intent" = t."intent"), 0),
            "pulls" = t."pulls" + excluded."pulls", "rewards" = t."rewards" + excluded."rewards",
            "updatedAt" = greatest(now(), t."updatedAt")
        RETURNING t."modelId", t."intent"
    ), everybodys AS (
        INSERT INTO "BanditArm" AS b ("modelId", "intent", "alpha", "beta", "pulls", "rewards")
        SELECT c."modelId", c."intent", greatest(1 + c."won", 0), greatest(1 + c."lost", 0),
               c."pulls", c."rewards"
        FROM change c WHERE (SELECT count(*) FROM own) > 0 ORDER BY c."modelId", c."intent"
        ON CONFLICT ("modelId", "intent") DO UPDATE
        SET "alpha" = greatest(1 + ailydian_faded(b."alpha" - 1, b."updatedAt" AT TIME ZONE 'UTC', p_discount)
                + (SELECT c."won" FROM change c WHERE c."modelId" = b."modelId" AND c."intent" = b."intent"), 0),
            "beta" = greatest(1 + ailydian_faded(b."beta" - 1, b."updatedAt" AT TIME ZONE 'UTC', p_discount)
                + (SELECT c."lost" FROM change c WHERE c."modelId" = b."modelId" AND c."intent" = b."intent"), 0),
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
        RETURNING 1
    )
    SELECT count(*) INTO v_moved FROM kept, LATERAL (SELECT count(*) FROM scored) s;
    RETURN v_moved;
END $$;
