-- The steps of a new run that begins another again at `p_begin_at`: what is over there and does not
-- depend on that position is copied with its output, the rest is pending.
-- Locks: nothing but the new rows; the caller holds the old run.
-- Returns nothing.
CREATE OR REPLACE FUNCTION ailydian_fork_steps(
    p_run_id TEXT, p_fork_id TEXT, p_version_id TEXT, p_tenant_id TEXT, p_begin_at INTEGER
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WITH RECURSIVE after("position") AS (
        VALUES (p_begin_at)
        UNION
        SELECT d."position" FROM after a JOIN public."WorkflowNode" n
          ON n."versionId" = p_version_id AND n."position" = a."position"
        CROSS JOIN unnest(n."dependents") AS d("position")
    ), kept AS MATERIALIZED (
        SELECT s."position" FROM public."WorkflowStep" s JOIN public."WorkflowNode" n
          ON n."versionId" = p_version_id AND n."position" = s."position"
        WHERE s."runId" = p_run_id AND s."itemIndex" = -1
          AND (s."state" IN ('completed', 'skipped')
               OR (s."state" = 'failed' AND n."onError" = 'continue'))
          AND s."position" NOT IN (SELECT a."position" FROM after a)
    )
    INSERT INTO public."WorkflowStep" ("id", "runId", "stepName", "status", "input", "output", "error",
        "startedAt", "completedAt", "tenantId", "position", "itemIndex", "item", "state", "items",
        "openItems", "nextItem", "attempt", "fingerprint", "progress")
    SELECT p_fork_id || substr(s."id", length(p_run_id) + 1), p_fork_id, s."stepName", s."status",
           s."input", s."output", s."error", s."startedAt", s."completedAt", s."tenantId",
           s."position", s."itemIndex", s."item", s."state", s."items", s."openItems", s."nextItem",
           s."attempt", s."fingerprint", s."progress"
    FROM public."WorkflowStep" s
    WHERE s."runId" = p_run_id AND s."position" IN (SELECT k."position" FROM kept k)
    UNION ALL
    SELECT p_fork_id || '/' || n."position", p_fork_id, n."name", 'PENDING', NULL, NULL, NULL,
           now() AT TIME ZONE 'UTC', NULL, p_tenant_id, n."position", -1, NULL, 'pending', NULL,
           NULL, NULL, 0, NULL, NULL
    FROM public."WorkflowNode" n
    WHERE n."versionId" = p_version_id AND n."compensates" IS NULL
      AND n."position" NOT IN (SELECT k."position" FROM kept k);
    INSERT INTO public."WorkflowOutput" ("stepId", "tenantId", "output")
    SELECT p_fork_id || substr(o."stepId", length(p_run_id) + 1), o."tenantId", o."output"
    FROM public."WorkflowStep" s JOIN public."WorkflowOutput" o ON o."stepId" = s."id"
    WHERE s."runId" = p_run_id AND EXISTS (
        SELECT FROM public."WorkflowStep" f
        WHERE f."id" = p_fork_id || substr(s."id", length(p_run_id) + 1) AND f."state" <> 'pending');
END $$;
CALL ailydian_build_rights('ailydian_fork_steps');
