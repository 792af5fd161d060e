-- A step is over that no walker finished: a job of another kind, a timer, a signal, a run.
CREATE OR REPLACE FUNCTION ailydian_step_over(
    step_id TEXT, verdict TEXT, result JSONB, why TEXT, print TEXT
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.ailydian_enqueue_steps(public.ailydian_settle_step(step_id, verdict, result,
        NULL, CASE verdict WHEN 'failed' THEN why END, print), step_id);
END $$;
CALL ailydian_build_rights('ailydian_step_over');
