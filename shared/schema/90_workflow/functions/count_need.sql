-- A step is over that others depend on: each has one need less, and one that is live if
-- `p_live`, which a skipped step is not.
-- Locks: the dependents, by id where there are several.
-- Returns those of them that have no need left and may begin, by position.
CREATE OR REPLACE FUNCTION ailydian_count_need(
    p_run_id TEXT, p_dependents INTEGER[], p_live BOOLEAN
) RETURNS TEXT[] LANGUAGE plpgsql AS $$
DECLARE
    v_opened TEXT[];
BEGIN
    IF cardinality(p_dependents) = 1 THEN
        UPDATE public."WorkflowStep" s SET "openNeeds" = s."openNeeds" - 1,
            "liveNeeds" = s."liveNeeds" + p_live::int
        WHERE s."id" = p_run_id || '/' || p_dependents[1] AND s."openNeeds" > 0
        RETURNING CASE WHEN s."openNeeds" = 0 AND s."state" = 'pending' THEN ARRAY[s."id"]
                       ELSE '{}' END INTO v_opened;
        RETURN coalesce(v_opened, '{}');
    END IF;
    WITH after AS (
        SELECT s."id" FROM unnest(p_dependents) AS d("position")
        JOIN public."WorkflowStep" s ON s."id" = p_run_id || '/' || d."position"
        ORDER BY s."id" FOR UPDATE OF s
    ), counted AS (
        UPDATE public."WorkflowStep" s SET "openNeeds" = s."openNeeds" - 1,
            "liveNeeds" = s."liveNeeds" + p_live::int
        FROM after WHERE s."id" = after."id" AND s."openNeeds" > 0
        RETURNING s."id", s."position", s."openNeeds", s."state"
    )
    SELECT coalesce(array_agg(c."id" ORDER BY c."position"), '{}') INTO v_opened FROM counted c
    WHERE c."openNeeds" = 0 AND c."state" = 'pending';
    RETURN v_opened;
END $$;
CALL ailydian_build_rights('ailydian_count_need');
