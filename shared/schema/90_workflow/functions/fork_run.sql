-- A new run from a step on: what does not depend on that step is taken over from the old run, which
-- stays as it is. It stands in no line of a concurrency key.
-- Locks: the old run; nobody else knows the new one yet.
-- Returns the id of the new run.
CREATE OR REPLACE FUNCTION ailydian_fork_run(p_run_id TEXT, p_step_name TEXT, p_sender TEXT)
RETURNS TEXT LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
DECLARE
    v_fork_id CONSTANT TEXT := public.ailydian_new_id();
    v_run RECORD;
    v_begin_at INTEGER;
BEGIN
    PERFORM public.ailydian_lock_run(p_run_id, true, 'completed', 'failed', 'cancelled');
    SELECT * INTO v_run FROM public."WorkflowRun" r WHERE r."id" = p_run_id;
    SELECT n."position" INTO v_begin_at FROM public."WorkflowNode" n
    WHERE n."versionId" = v_run."versionId" AND n."name" = p_step_name AND n."compensates" IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run_refused: the run % has no step %', p_run_id, public.ailydian_visible(p_step_name)
            USING ERRCODE = 'AL008';
    END IF;
    INSERT INTO public."WorkflowRun" ("id", "workflowId", "status", "input", "tenantId", "versionId",
        "state", "forkOf", "endsOpen", "producer", "traceparent")
    VALUES (v_fork_id, v_run."workflowId", 'RUNNING', v_run."input", v_run."tenantId",
            v_run."versionId", 'running', p_run_id, 0, p_sender, v_run."traceparent");
    PERFORM public.ailydian_fork_steps(p_run_id, v_fork_id, v_run."versionId", v_run."tenantId",
                                       v_begin_at);
    INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "dueAt")
    SELECT v_fork_id, v_run."tenantId", v_fork_id, 'deadline',
           now() + v."timeoutS" * interval '1 second'
    FROM public."WorkflowVersion" v WHERE v."id" = v_run."versionId" AND v."timeoutS" > 0;
    PERFORM public.ailydian_recount_run(v_fork_id);
    RETURN v_fork_id;
END $$;
CALL ailydian_build_rights('ailydian_fork_run', 'ailydian_app');
