-- Settle a waiting step by the signal or the approval that it waited for.
CREATE OR REPLACE FUNCTION ailydian_answer_step(
    p_step_id TEXT, p_awaited TEXT, p_payload JSONB, p_input JSONB
) RETURNS TEXT[] LANGUAGE plpgsql AS $$
BEGIN
    IF p_awaited = 'approval' AND p_payload ->> 'approved' IS DISTINCT FROM 'true' THEN
        RETURN public.ailydian_settle_step(p_step_id, 'failed', p_payload, p_input,
            concat('rejected by ', p_payload ->> 'by', ': ' || nullif(p_payload ->> 'comment', '')),
            'rejected');
    END IF;
    RETURN public.ailydian_settle_step(p_step_id, 'completed', CASE p_awaited WHEN 'approval' THEN p_payload
        ELSE jsonb_build_object('payload', p_payload) END, p_input, NULL, NULL);
END $$;
CALL ailydian_build_rights('ailydian_answer_step');
