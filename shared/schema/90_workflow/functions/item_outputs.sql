-- The outputs of the items of a mapped step, in order: the output of that step.
-- Locks nothing. Returns a list, null for an item without an output.
CREATE OR REPLACE FUNCTION ailydian_item_outputs(p_run_id TEXT, p_position INTEGER) RETURNS JSONB
LANGUAGE plpgsql AS $$
BEGIN
    RETURN (
        SELECT jsonb_agg(coalesce(o."output", s."output", 'null') ORDER BY s."itemIndex")
        FROM public."WorkflowStep" s LEFT JOIN public."WorkflowOutput" o ON o."stepId" = s."id"
        WHERE s."runId" = p_run_id AND s."position" = p_position AND s."itemIndex" >= 0);
END $$;
CALL ailydian_build_rights('ailydian_item_outputs');
