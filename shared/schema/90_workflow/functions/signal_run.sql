-- Answers the step that has waited longest; without one, a signal is kept, an approval refused.
CREATE OR REPLACE FUNCTION ailydian_signal_run(
    p_run_id TEXT, p_kind TEXT, p_name TEXT, p_item_index INTEGER, p_payload JSONB, p_sender TEXT
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET jit = off SET enable_seqscan = off AS $$
DECLARE
    v_wait_id TEXT;
BEGIN
    IF p_kind = 'signal' AND EXISTS (
        SELECT FROM public."WorkflowRun" r JOIN public."WorkflowNode" n ON n."versionId" = r."versionId"
        WHERE r."id" = p_run_id AND r."tenantId" = current_setting('app.tenant_id')
          AND n."name" = p_name AND n."uses" = 'approval') THEN
        RAISE EXCEPTION 'signal_refused: % is an approval; answer it as one', p_name
            USING ERRCODE = 'AL009';
    END IF;
    PERFORM public.ailydian_lock_run(p_run_id, false, 'queued', 'running', 'paused', 'compensating');
    DELETE FROM public."WorkflowWait" w WHERE w."id" = (
        SELECT x."id" FROM public."WorkflowWait" x
        WHERE x."runId" = p_run_id AND x."what" = p_kind AND x."name" = p_name
          AND (p_item_index IS NULL OR EXISTS (
              SELECT FROM public."WorkflowStep" s
              WHERE s."id" = x."id" AND s."itemIndex" = p_item_index))
        ORDER BY x."createdAt", x."id" LIMIT 1 FOR UPDATE)
    RETURNING w."id" INTO v_wait_id;
    IF FOUND THEN
        PERFORM public.ailydian_enqueue_steps(
            public.ailydian_answer_step(v_wait_id, p_kind, p_payload, NULL), v_wait_id);
    ELSIF p_kind = 'approval' THEN
        RAISE EXCEPTION 'run_refused: no step % of the run % waits for an approval',
            public.ailydian_visible(p_name), p_run_id USING ERRCODE = 'AL008';
    ELSIF 1000 <= (SELECT count(*) FROM public."WorkflowSignal" g
                   WHERE g."runId" = p_run_id AND g."takenBy" IS NULL) THEN
        RAISE EXCEPTION 'signal_refused: the run % already has 1,000 pending signals', p_run_id
            USING ERRCODE = 'AL009';
    ELSE
        INSERT INTO public."WorkflowSignal" ("tenantId", "runId", "name", "payload", "sentBy")
        SELECT r."tenantId", p_run_id, p_name, p_payload, p_sender
        FROM public."WorkflowRun" r WHERE r."id" = p_run_id;
    END IF;
END $$;
CALL ailydian_build_rights('ailydian_signal_run', 'ailydian_app');
