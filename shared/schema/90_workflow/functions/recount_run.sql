-- Count again what a run's rows tell of one another, give jobs to the steps that may begin (park
-- them while the run is paused), and end what is over and was not ended.
-- Locks: the caller holds the run; then its steps, as each count below says.
-- Returns how many steps may begin.
CREATE OR REPLACE FUNCTION ailydian_recount_run(p_run_id TEXT) RETURNS INTEGER
LANGUAGE plpgsql AS $$
DECLARE
    v_run RECORD;
    v_opened TEXT[];
BEGIN
    PERFORM public.ailydian_recount_needs(p_run_id);
    PERFORM public.ailydian_recount_items(p_run_id);
    v_opened := ARRAY(
        SELECT s."id" FROM public."WorkflowStep" s
        WHERE s."runId" = p_run_id AND s."state" = 'pending' AND s."itemIndex" = -1
          AND s."openNeeds" = 0
        UNION ALL
        SELECT i."id" FROM public."WorkflowStep" i JOIN public."WorkflowStep" s
          ON s."id" = p_run_id || '/' || i."position"
        WHERE i."runId" = p_run_id AND i."state" = 'pending' AND i."itemIndex" >= 0
          AND s."state" = 'running' AND i."itemIndex" < s."nextItem");
    SELECT r."state", r."endsOpen", v."ends" INTO STRICT v_run
    FROM public."WorkflowRun" r JOIN public."WorkflowVersion" v ON v."id" = r."versionId"
    WHERE r."id" = p_run_id;
    IF v_run."state" = 'paused' THEN
        UPDATE public."WorkflowStep" s SET "state" = 'ready', "jobId" = NULL
        WHERE s."id" = ANY(v_opened);
    ELSE
        PERFORM public.ailydian_enqueue_steps(v_opened, p_run_id);
    END IF;
    PERFORM public.ailydian_settle_mapped(p_run_id);
    IF v_run."endsOpen" = 0 AND v_run."state" IN ('running', 'paused') THEN
        PERFORM public.ailydian_end_run(p_run_id, 'completed', NULL, CASE WHEN v_run."ends" = 1 THEN (
            SELECT coalesce(o."output", s."output") FROM public."WorkflowRun" r
            JOIN public."WorkflowNode" n ON n."versionId" = r."versionId"
             AND n."compensates" IS NULL AND n."dependents" = '{}'
            JOIN public."WorkflowStep" s ON s."id" = p_run_id || '/' || n."position"
            LEFT JOIN public."WorkflowOutput" o ON o."stepId" = s."id" WHERE r."id" = p_run_id) END, NULL);
    END IF;
    RETURN cardinality(v_opened);
END $$;
CALL ailydian_build_rights('ailydian_recount_run');
