-- Count again the items of each mapped step of a run that has its items: it goes on with those that
-- are left. Items begin in their order, so all but a few of those that have not begun lie behind
-- those that have.
-- Locks: the mapped steps, one after another.
-- Returns nothing.
CREATE OR REPLACE FUNCTION ailydian_recount_items(p_run_id TEXT) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_mapped RECORD;
BEGIN
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
            "nextItem" = least(s."items", o."begun"
                               + greatest(0, v_mapped."parallel" - o."under_way"))
        FROM owed o WHERE s."id" = v_mapped."id";
    END LOOP;
END $$;
CALL ailydian_build_rights('ailydian_recount_items');
