-- The one round trip of a step: finished, and the next begun. `p_lease_s` 0: the walker stops here.
CREATE OR REPLACE FUNCTION ailydian_finish_step(
    p_job_id TEXT, p_fence BIGINT, p_step_id TEXT, p_verdict TEXT, p_output JSONB, p_input JSONB, p_error TEXT,
    p_fingerprint TEXT, p_lease_s DOUBLE PRECISION
) RETURNS JSONB LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_held CONSTANT TEXT := public.ailydian_own_step(p_job_id, p_fence, p_step_id);
    v_left RECORD;
BEGIN
    IF v_held = 'moved' THEN
        RETURN public.ailydian_step_at(p_job_id);
    ELSIF v_held = 'stopped' THEN
        RETURN public.ailydian_walk_on(p_job_id, '{}', NULL, NULL, 0);
    END IF;
    SELECT s."runId", s."position" INTO STRICT v_left FROM public."WorkflowStep" s
    WHERE s."id" = p_step_id;  -- whose tenant ailydian_own_step has compared
    RETURN public.ailydian_walk_on(p_job_id,
        public.ailydian_settle_step(p_step_id, p_verdict, p_output, p_input, p_error, p_fingerprint),
        v_left."runId", v_left."position", p_lease_s);
END $$;
CALL ailydian_build_rights('ailydian_finish_step', 'ailydian_app');
