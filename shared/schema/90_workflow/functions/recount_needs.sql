-- Count again, from the states of a run's steps, the needs that each pending step still has, and the
-- ends that the run still has.
-- Locks: the run and the pending steps whose counts were wrong; the caller holds the run.
-- Returns nothing.
CREATE OR REPLACE FUNCTION ailydian_recount_needs(p_run_id TEXT) RETURNS void
LANGUAGE plpgsql AS $$
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
END $$;
CALL ailydian_build_rights('ailydian_recount_needs');
