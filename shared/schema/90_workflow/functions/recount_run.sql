-- Count again what a run's rows tell of one another, and give jobs to what may begin. Returns how
-- many steps that are.
CREATE OR REPLACE FUNCTION ailydian_recount_run(p_run_id TEXT) RETURNS INTEGER
LANGUAGE plpgsql AS $$
DECLARE
    v_run RECORD;
    v_mapped RECORD;
    v_opened TEXT[];
BEGIN
    WITH over AS MATERIALIZED (
        SELECT s."position", s."state", n."dependents", s."state" IN ('completed', 'skipped')
               OR (s."state" = 'failed' AND n."onError" = 'continue') AS "done"
        FROM public."WorkflowNode" n JOIN public."WorkflowRun" r ON r."versionId" = n."versionId"
        LEFT JOIN public."WorkflowStep" s ON s."id" = p_run_id || '/' || n."position"
        WHERE r."id" = p_run_id AND n."compensates" IS NULL
    ), ends AS (
        UPDATE public."WorkflowRun" r SET "endsOpen" = (
            SELECT count(*) FROM over o WHERE o."dependents" = '{}' AND o."done" IS NOT TRUE)
        WHERE r."id" = p_run_id
    )
    UPDATE public."WorkflowStep" s SET "openNeeds" = c."open", "liveNeeds" = c."live"
    FROM (SELECT d."position", count(*) FILTER (WHERE o."done" IS NOT TRUE) AS "open",
                 count(*) FILTER (WHERE o."done" AND o."state" <> 'skipped') AS "live"
          FROM over o CROSS JOIN unnest(o."dependents") AS d("position") GROUP BY 1) c
    WHERE s."id" = p_run_id || '/' || c."position" AND s."state" = 'pending'
      AND (s."openNeeds", s."liveNeeds") IS DISTINCT FROM (c."open", c."live");
    -- A mapped step that has its items goes on with those that are left. Items begin in their order,
    -- so all but a few of those that have not begun lie behind those that have.
    FOR v_mapped IN
        SELECT s."id", s."items", s."nextItem",
               coalesce((n."spec" ->> 'max_parallel')::int, 32) AS "parallel"
        FROM public."WorkflowStep" s JOIN public."WorkflowRun" r ON r."id" = s."runId"
        JOIN public."WorkflowNode" n
          ON n."versionId" = r."versionId" AND n."position" = s."position"
        WHERE s."runId" = p_run_id AND s."itemIndex" = -1 AND s."items" IS NOT NULL
          AND (s."state" = 'running' OR (s."state" = 'pending' AND s."openNeeds" = 0))
    LOOP
        WITH counted AS (
            SELECT count(*) FILTER (WHERE i."state" IN ('pending', 'ready', 'running', 'waiting'))
                       AS "open",
                   greatest(max(i."itemIndex") FILTER (WHERE i."state" <> 'pending') + 1,
                            least(v_mapped."nextItem", v_mapped."items"), 0) AS "begun"
            FROM generate_series(0, v_mapped."items" - 1) g
            JOIN public."WorkflowStep" i ON i."id" = v_mapped."id" || '/' || g
        ), owed AS (
            SELECT c."open", c."begun", (
                SELECT count(*) FROM generate_series(0, c."begun" - 1) g
                JOIN public."WorkflowStep" i ON i."id" = v_mapped."id" || '/' || g
                WHERE i."state" IN ('pending', 'ready', 'running', 'waiting')) AS "under_way"
            FROM counted c
        )
        UPDATE public."WorkflowStep" s SET "state" = 'running', "status" = 'RUNNING', "jobId" = NULL,
            "openItems" = o."open",
            "nextItem" = least(s."items", o."begun" + greatest(0, v_mapped."parallel" - o."under_way"))
        FROM owed o WHERE s."id" = v_mapped."id";
    END LOOP;
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
    -- What is over, and nobody has said so.
    FOR v_mapped IN
        SELECT s."id", s."position" FROM public."WorkflowStep" s
        WHERE s."runId" = p_run_id AND s."itemIndex" = -1 AND s."state" = 'running'
          AND s."items" IS NOT NULL AND s."openItems" = 0
          AND s."items" = (SELECT count(*) FROM generate_series(0, s."items" - 1) g
                           JOIN public."WorkflowStep" i ON i."id" = s."id" || '/' || g)
    LOOP
        PERFORM public.ailydian_step_over(v_mapped."id", 'completed', (
            SELECT jsonb_agg(coalesce(o."output", i."output", 'null') ORDER BY i."itemIndex")
            FROM public."WorkflowStep" i LEFT JOIN public."WorkflowOutput" o ON o."stepId" = i."id"
            WHERE i."runId" = p_run_id AND i."position" = v_mapped."position" AND i."itemIndex" >= 0),
            NULL, NULL);
    END LOOP;
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
