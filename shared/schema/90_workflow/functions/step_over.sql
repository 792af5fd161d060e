-- Settle a step that no walker finishes: a job of another kind, a timer, a signal, a run.
CREATE OR REPLACE FUNCTION ailydian_step_over(
    p_step_id TEXT, p_verdict TEXT, p_output JSONB, p_error TEXT, p_fingerprint TEXT
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.ailydian_enqueue_steps(public.ailydian_settle_step(p_step_id, p_verdict, p_output,
        NULL, CASE p_verdict WHEN 'failed' THEN p_error END, p_fingerprint), p_step_id);
END $$;
CALL ailydian_build_rights('ailydian_step_over');
