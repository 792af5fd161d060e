-- The context of the step that a walker's job is at.
CREATE OR REPLACE FUNCTION ailydian_step_at(p_job_id TEXT) RETURNS JSONB LANGUAGE sql STABLE AS $$
    SELECT public.ailydian_step_context(j."stepId", NULL, NULL) || jsonb_build_object(
        'fence', j."fence", 'attempt', j."attempt", 'attemptsMax', j."attemptsMax")
    FROM public."Job" j WHERE j."id" = p_job_id
$$;
CALL ailydian_build_rights('ailydian_step_at');
