-- Count the lost steps of a run, in one snapshot: each live step has a job that is at it, or a
-- wait for something that will come; a mapped step has such an item; a run that waits for its key
-- has another before it. 0 for a sound run, and for one that has ended.
CREATE OR REPLACE FUNCTION ailydian_lost_steps(p_run_id TEXT) RETURNS INTEGER
LANGUAGE plpgsql AS $$
BEGIN
    RETURN (
        WITH run AS (
            SELECT r."id", r."tenantId", r."state", r."concurrencyKey", r."parentStepId", v."timeoutS"
            FROM public."WorkflowRun" r JOIN public."WorkflowVersion" v ON v."id" = r."versionId"
            WHERE r."id" = p_run_id
        ), live AS MATERIALIZED (
            SELECT s."id", s."position", s."itemIndex", s."state", s."openNeeds", s."items", s."jobId"
            FROM public."WorkflowStep" s WHERE s."runId" = p_run_id
              AND s."state" IN ('pending', 'ready', 'running', 'waiting')
        ), carried AS MATERIALIZED (
            SELECT DISTINCT l."position" FROM live l WHERE l."itemIndex" >= 0 AND l."state" <> 'pending'
        ), judged AS (
            SELECT l."state", CASE
                WHEN l."state" = 'pending' THEN l."itemIndex" >= 0 OR l."openNeeds" > 0
                WHEN l."state" = 'waiting' THEN EXISTS (
                    SELECT FROM public."WorkflowWait" w WHERE w."id" = l."id" AND CASE w."what"
                        WHEN 'run' THEN EXISTS (
                            SELECT FROM public."WorkflowRun" c WHERE c."id" = w."name"
                              AND c."state" IN ('queued', 'running', 'paused', 'compensating'))
                        WHEN 'slot' THEN l."id" <> (
                            SELECT g."holder" FROM public."WorkflowSlot" g
                            WHERE g."tenantId" = w."tenantId" AND g."key" = w."name"
                            ORDER BY g."seq" LIMIT 1)
                          AND EXISTS (
                            SELECT FROM public."WorkflowSlot" g
                            WHERE g."runId" = p_run_id AND g."holder" = l."id")
                        ELSE true END)
                WHEN l."itemIndex" = -1 AND l."items" IS NOT NULL AND l."state" = 'running'
                    THEN l."position" IN (SELECT c."position" FROM carried c)
                WHEN l."state" = 'ready' AND l."jobId" IS NULL THEN run."state" = 'paused'
                ELSE EXISTS (SELECT FROM public."Job" j WHERE j."id" = l."jobId"
                             AND j."stepId" = l."id" AND j."state" IN ('PENDING', 'RUNNING'))
                END AS "sound"
            FROM live l CROSS JOIN run
        )
        SELECT CASE
            WHEN run."state" = 'queued' THEN (coalesce((
                SELECT g."holder" FROM public."WorkflowSlot" g
                WHERE g."tenantId" = run."tenantId" AND g."key" = run."concurrencyKey"
                ORDER BY g."seq" LIMIT 1), p_run_id) = p_run_id OR NOT EXISTS (
                SELECT FROM public."WorkflowSlot" g
                WHERE g."runId" = p_run_id AND g."holder" = p_run_id))::int
            WHEN run."state" NOT IN ('running', 'paused', 'compensating') THEN 0
            ELSE (SELECT count(*) FILTER (WHERE j."sound" IS NOT TRUE)
                         + (count(*) FILTER (WHERE j."state" <> 'pending') = 0)::int FROM judged j)
                + (run."timeoutS" > 0 AND NOT EXISTS (
                    SELECT FROM public."WorkflowWait" w WHERE w."id" = p_run_id))::int
                + (run."parentStepId" IS NOT NULL AND NOT EXISTS (
                    SELECT FROM public."WorkflowWait" w
                    WHERE w."id" = run."parentStepId" AND w."name" = p_run_id))::int
            END
        FROM run);
END $$;
CALL ailydian_build_rights('ailydian_lost_steps');
