-- Store rewards of answers, one row a message: the one with the greater weight counts, of equal ones
-- the later, so a repeated or late reward is harmless. Messages without a model or a known intent are
-- left out. Old rewards fade by `p_discount` a day: a correction weighs what
-- the reward it corrects weighs by now.
-- Locks: the messages' rewards, in the order of their ids.
-- Returns by how much the arm of each model and intent changes, and for how many messages.
CREATE OR REPLACE FUNCTION ailydian_keep_rewards(
    p_message_ids TEXT[], p_values DOUBLE PRECISION[], p_weights DOUBLE PRECISION[],
    p_discount DOUBLE PRECISION
) RETURNS TABLE (
    "modelId" TEXT, "intent" TEXT, "won" DOUBLE PRECISION, "lost" DOUBLE PRECISION,
    "rewards" DOUBLE PRECISION, "pulls" BIGINT, "wins" BIGINT, "messages" BIGINT
) LANGUAGE plpgsql ROWS 10 SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_tenant_id CONSTANT TEXT := current_setting('app.tenant_id');
BEGIN
    INSERT INTO "ArmReward" ("tenantId", "messageId", "modelId", "intent", "reward", "weight")
    SELECT v_tenant_id, m."id", m."modelId", m."intent", 0, 0
    FROM (SELECT DISTINCT unnest(p_message_ids) AS "id") g JOIN "Message" m ON m."id" = g."id"
    WHERE m."modelId" IS NOT NULL AND m."intent" IS NOT NULL AND m."role" = 'ASSISTANT'
    ORDER BY m."id"
    ON CONFLICT ("tenantId", "messageId") DO NOTHING;

    RETURN QUERY
    WITH given AS MATERIALIZED (
        SELECT DISTINCT ON (g."id") g."id", g."value", g."weight"
        FROM unnest(p_message_ids, p_values, p_weights) WITH ORDINALITY
             AS g ("id", "value", "weight", "at")
        ORDER BY g."id", g."weight" DESC, g."at" DESC
    ), held AS MATERIALIZED (
        SELECT r.* FROM "ArmReward" r
        WHERE r."tenantId" = v_tenant_id AND r."messageId" = ANY(p_message_ids)
        ORDER BY r."messageId" FOR UPDATE
    ), kept AS (
        UPDATE "ArmReward" r SET "reward" = g."value", "weight" = g."weight"
        FROM held h JOIN given g ON g."id" = h."messageId"
        WHERE r."tenantId" = v_tenant_id AND r."messageId" = h."messageId"
          AND g."weight" >= h."weight"
        RETURNING h."modelId", h."intent",
            ailydian_faded(g."weight" * g."value" - h."weight" * h."reward",
                           h."rewardedAt", p_discount) AS "won",
            ailydian_faded(g."weight" * (1 - g."value") - h."weight" * (1 - h."reward"),
                           h."rewardedAt", p_discount) AS "lost",
            g."value" - CASE WHEN h."weight" > 0 THEN h."reward" ELSE 0 END AS "rewards",
            (h."weight" = 0)::int AS "pulls",
            (g."value" >= 0.5)::int - (h."weight" > 0 AND h."reward" >= 0.5)::int AS "wins"
    )
    SELECT k."modelId", k."intent", sum(k."won"), sum(k."lost"), sum(k."rewards"), sum(k."pulls"),
           sum(k."wins"), count(*)
    FROM kept k GROUP BY k."modelId", k."intent";
END $$;
CALL ailydian_build_rights('ailydian_keep_rewards', 'ailydian_app');
