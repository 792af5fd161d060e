-- An item is over: one less is open in its mapped step, which is over with its last item.
-- Locks: the mapped step; with the last item, what settling that step locks.
-- Returns the item whose turn it is, if one waits for its turn; after the last item, the steps that
-- the mapped step lets begin.
CREATE OR REPLACE FUNCTION ailydian_count_item(p_run_id TEXT, p_position INTEGER)
RETURNS TEXT[] LANGUAGE plpgsql AS $$
DECLARE
    v_mapped RECORD;
    v_opened TEXT[];
BEGIN
    UPDATE public."WorkflowStep" s SET "openItems" = s."openItems" - 1,
        "nextItem" = least(s."nextItem" + 1, s."items"),
        "progress" = 1 - (s."openItems" - 1)::real / s."items"
    WHERE s."id" = p_run_id || '/' || p_position AND s."state" = 'running'
    RETURNING s."id", s."openItems", s."nextItem" INTO v_mapped;
    IF NOT FOUND THEN
        RETURN '{}';
    ELSIF v_mapped."openItems" = 0 THEN
        RETURN public.ailydian_settle_step(v_mapped."id", 'completed',
            public.ailydian_item_outputs(p_run_id, p_position), NULL, NULL, NULL);
    END IF;
    SELECT ARRAY[s."id"] INTO v_opened FROM public."WorkflowStep" s
    WHERE s."id" = v_mapped."id" || '/' || (v_mapped."nextItem" - 1) AND s."state" = 'pending';
    RETURN coalesce(v_opened, '{}');
END $$;
CALL ailydian_build_rights('ailydian_count_item');
