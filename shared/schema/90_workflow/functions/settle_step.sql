-- A step is over: it is closed, then what follows from that: a failure ends or undoes the run, an
-- item counts in its mapped step, an end in its run, a need in each step that depends on it.
-- Locks: the step, then what it counts in (downstream, by id), then the run.
-- Returns the steps that may begin and have no job yet; none if the step was over before.
CREATE OR REPLACE FUNCTION ailydian_settle_step(
    p_step_id TEXT, p_verdict TEXT, p_output JSONB, p_input JSONB, p_error TEXT, p_fingerprint TEXT
) RETURNS TEXT[] LANGUAGE plpgsql AS $$
DECLARE
    v_step RECORD;
    v_node RECORD;
    v_opened TEXT[];
BEGIN
    v_step := public.ailydian_close_step(p_step_id, p_verdict, p_output, p_input, p_error,
                                         p_fingerprint);
    IF v_step."runId" IS NULL THEN
        RETURN '{}';
    END IF;
    SELECT r."state" AS "runState", n."dependents", n."onError", n."compensates",
           n."spec" ? 'concurrency' AS "slot"
    INTO STRICT v_node
    FROM public."WorkflowRun" r JOIN public."WorkflowNode" n
      ON n."versionId" = r."versionId" AND n."position" = v_step."position"
    WHERE r."id" = v_step."runId";
    IF v_node."slot" THEN
        PERFORM public.ailydian_leave_slot(s."tenantId", s."key", p_step_id)
        FROM public."WorkflowSlot" s WHERE s."runId" = v_step."runId" AND s."holder" = p_step_id;
    END IF;
    IF v_node."runState" NOT IN ('running', 'paused', 'compensating') THEN
        RETURN '{}';
    ELSIF v_node."compensates" IS NOT NULL THEN
        RETURN public.ailydian_settle_undo(v_step."runId", p_verdict, p_error);
    ELSIF v_node."runState" = 'compensating' THEN
        RETURN '{}';
    ELSIF p_verdict = 'failed' AND v_node."onError" <> 'continue' THEN
        RETURN public.ailydian_fail_step(p_step_id, v_step."runId", v_step."position",
            v_step."itemIndex", v_node."onError", p_error, p_fingerprint);
    ELSIF v_step."itemIndex" >= 0 THEN
        v_opened := public.ailydian_count_item(v_step."runId", v_step."position");
    ELSIF v_node."dependents" = '{}' THEN
        v_opened := public.ailydian_count_end(v_step."runId", p_output);
    ELSE
        v_opened := public.ailydian_count_need(v_step."runId", v_node."dependents",
                                               p_verdict <> 'skipped');
    END IF;
    IF v_node."runState" = 'paused' AND v_opened <> '{}' THEN
        RETURN public.ailydian_park_steps(v_step."runId", v_opened);
    END IF;
    RETURN v_opened;
END $$;
CALL ailydian_build_rights('ailydian_settle_step');
