-- Answers the step that has waited longest; without one, a signal is kept, an approval refused.
CREATE OR REPLACE FUNCTION ailydian_signal_run(
    run_id TEXT, sort TEXT, signal_name TEXT, item INTEGER, payload JSONB, sender TEXT
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET enable_seqscan = off AS $$
DECLARE
    waiting TEXT;
BEGIN
    IF sort = 'signal' AND EXISTS (
        SELECT FROM public."WorkflowRun" r JOIN public."WorkflowNode" n ON n."versionId" = r."versionId"
        WHERE r."id" = run_id AND r."tenantId" = current_setting('app.tenant_id')
          AND n."name" = signal_name AND n."uses" = 'approval') THEN
        RAISE EXCEPTION 'signal_refused: % is an approval; answer it as one', signal_name
            USING ERRCODE = 'AL009';
    END IF;
    PERFORM public.ailydian_lock_run(run_id, false, 'queued', 'running', 'paused', 'compensating');
    DELETE FROM public."WorkflowWait" w WHERE w."id" = (
        SELECT x."id" FROM public."WorkflowWait" x
        WHERE x."runId" = run_id AND x."what" = sort AND x."name" = signal_name
          AND (item IS NULL OR split_part(x."id", '/', 3) = item::text)
        ORDER BY x."createdAt", x."id" LIMIT 1 FOR UPDATE)
    RETURNING w."id" INTO waiting;
    IF FOUND THEN
        PERFORM public.ailydian_enqueue_steps(
            public.ailydian_answer_step(waiting, sort, payload, NULL), waiting);
    ELSIF sort = 'approval' THEN
        RAISE EXCEPTION 'run_refused: no step % of the run % waits for an approval', signal_name,
            run_id USING ERRCODE = 'AL008';
    ELSIF 1000 <= (SELECT count(*) FROM public."WorkflowSignal" g
                   WHERE g."runId" = run_id AND g."takenBy" IS NULL) THEN
        RAISE EXCEPTION 'signal_refused: 1,000 signals wait at the run % already', run_id
            USING ERRCODE = 'AL009';
    ELSE
        INSERT INTO public."WorkflowSignal" ("tenantId", "runId", "name", "payload", "sentBy")
        SELECT r."tenantId", run_id, signal_name, payload, sender
        FROM public."WorkflowRun" r WHERE r."id" = run_id;
    END IF;
END $$;
