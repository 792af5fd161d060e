-- Cancel the run that a waiting step has started, and no other one: the run names this step, and both
-- are of one tenant. Locks: what ending a run locks.
CREATE OR REPLACE FUNCTION ailydian_end_child_run(p_run_id TEXT, p_step_id TEXT, p_reason TEXT)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM public."WorkflowRun" r JOIN public."WorkflowStep" s
                 ON s."id" = r."parentStepId" AND s."tenantId" = r."tenantId"
               WHERE r."id" = p_run_id AND r."parentStepId" = p_step_id) THEN
        PERFORM public.ailydian_end_run(p_run_id, 'cancelled', p_reason, NULL, NULL);
    END IF;
END $$;
CALL ailydian_build_rights('ailydian_end_child_run');
