-- What a step's worker needs: its node, what its expressions may read, its item. A worker that
-- comes from another step of the run knows the inputs (`known_run`); from another item of the same
-- step, also the node and what it reads (`known_position`).
CREATE OR REPLACE FUNCTION ailydian_step_context(
    step_id TEXT, known_run TEXT, known_position INTEGER
) RETURNS JSONB LANGUAGE plpgsql STABLE AS $$
DECLARE
    at RECORD;
    context JSONB;
BEGIN
    SELECT s."runId", s."position", s."itemIndex", s."item", s."liveNeeds", n."name", n."uses",
           n."spec", n."needs", n."mapped", n."timeoutS", n."attemptsMax", r."versionId",
           CASE WHEN n."mapped" AND s."itemIndex" < 0 THEN n."listReads" ELSE n."reads" END AS "reads"
    INTO STRICT at
    FROM public."WorkflowStep" s JOIN public."WorkflowRun" r ON r."id" = s."runId"
    JOIN public."WorkflowNode" n ON n."versionId" = r."versionId" AND n."position" = s."position"
    WHERE s."id" = step_id;
    context := jsonb_build_object('stepId', step_id, 'runId', at."runId", 'position', at."position",
        'index', at."itemIndex", 'item', at."item");
    IF at."runId" IS DISTINCT FROM known_run THEN
        context := context || (
            SELECT jsonb_build_object('inputs', r."input", 'startedAt', r."startedAt",
                                      'depth', r."depth", 'workflow', w."name", 'tenantId', r."tenantId")
            FROM public."WorkflowRun" r JOIN public."Workflow" w ON w."id" = r."workflowId"
            WHERE r."id" = at."runId");
        known_position := NULL;
    END IF;
    IF at."position" IS DISTINCT FROM known_position OR at."itemIndex" < 0 THEN
        context := context || jsonb_build_object(
            'name', at."name", 'uses', at."uses", 'spec', at."spec", 'timeoutS', at."timeoutS",
            'expand', at."mapped" AND at."itemIndex" < 0,
            'skip', at."needs" > 0 AND at."liveNeeds" = 0 AND at."itemIndex" < 0,
            'steps', CASE WHEN at."reads" = '{}' THEN '{}'::jsonb ELSE (
                SELECT coalesce(jsonb_object_agg(t."stepName", jsonb_build_object(
                    'output', coalesce(o."output", t."output"), 'state', t."state",
                    'error', t."error")), '{}')
                FROM unnest(at."reads") AS p("position")
                JOIN public."WorkflowStep" t ON t."id" = at."runId" || '/' || p."position"
                LEFT JOIN public."WorkflowOutput" o ON o."stepId" = t."id") END);
    END IF;
    RETURN context;
END $$;
CALL ailydian_build_rights('ailydian_step_context');
