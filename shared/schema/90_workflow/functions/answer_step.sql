-- What a signal or an approval makes of the step that waits for it.
CREATE OR REPLACE FUNCTION ailydian_answer_step(
    step_id TEXT, awaited TEXT, payload JSONB, given JSONB
) RETURNS TEXT[] LANGUAGE plpgsql AS $$
BEGIN
    IF awaited = 'approval' AND payload ->> 'approved' IS DISTINCT FROM 'true' THEN
        RETURN public.ailydian_settle_step(step_id, 'failed', payload, given,
            concat('rejected by ', payload ->> 'by', ': ' || nullif(payload ->> 'comment', '')),
            'rejected');
    END IF;
    RETURN public.ailydian_settle_step(step_id, 'completed', CASE awaited WHEN 'approval' THEN payload
        ELSE jsonb_build_object('payload', payload) END, given, NULL, NULL);
END $$;
CALL ailydian_build_rights('ailydian_answer_step');
