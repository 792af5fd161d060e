-- The context of a step: its node, what its expressions may read, its item. A worker that
-- comes from another step of the run has the inputs (`p_known_run_id`); from another item of the same
-- step, also the node and what it reads (`p_known_position`).
CREATE OR REPLACE FUNCTION ailydian_step_context(
    p_step_id TEXT, p_known_run_id TEXT, p_known_position INTEGER
) RETURNS JSONB LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_step RECORD;
    v_context JSONB;
BEGIN
    SELECT s."runId", s."position", s."itemIndex", s."item", s."liveNeeds", n."name", n."uses",
           n."spec", n."needs", n."mapped", n."timeoutS", n."attemptsMax", r."versionId",
           CASE WHEN n."mapped" AND s."itemIndex" < 0 THEN n."listReads" ELSE n."reads" END AS "reads"
    INTO STRICT v_step
    FROM public."WorkflowStep" s JOIN public."WorkflowRun" r ON r."id" = s."runId"
    JOIN public."WorkflowNode" n ON n."versionId" = r."versionId" AND n."position" = s."position"
    WHERE s."id" = p_step_id AND s."tenantId" = current_setting('app.tenant_id');
    v_context := jsonb_build_object('stepId', p_step_id, 'runId', v_step."runId", 'position', v_step."position",
        'index', v_step."itemIndex", 'item', v_step."item");
    IF v_step."runId" IS DISTINCT FROM p_known_run_id THEN
        v_context := v_context || (
            SELECT jsonb_build_object('inputs', r."input", 'startedAt', r."startedAt",
                                      'depth', r."depth", 'workflow', w."name", 'tenantId', r."tenantId")
            FROM public."WorkflowRun" r JOIN public."Workflow" w ON w."id" = r."workflowId"
            WHERE r."id" = v_step."runId");
        p_known_position := NULL;
    END IF;
    IF v_step."position" IS DISTINCT FROM p_known_position OR v_step."itemIndex" < 0 THEN
        v_context := v_context || jsonb_build_object(
            'name', v_step."name", 'uses', v_step."uses", 'spec', v_step."spec", 'timeoutS', v_step."timeoutS",
            'expand', v_step."mapped" AND v_step."itemIndex" < 0,
            'skip', v_step."needs" > 0 AND v_step."liveNeeds" = 0 AND v_step."itemIndex" < 0,
            'steps', CASE WHEN v_step."reads" = '{}' THEN '{}'::jsonb ELSE (
                SELECT coalesce(jsonb_object_agg(t."stepName", jsonb_build_object(
                    'output', coalesce(o."output", t."output"), 'state', t."state",
                    'error', t."error")), '{}')
                FROM unnest(v_step."reads") AS p("position")
                JOIN public."WorkflowStep" t ON t."id" = v_step."runId" || '/' || p."position"
                LEFT JOIN public."WorkflowOutput" o ON o."stepId" = t."id") END);
    END IF;
    RETURN v_context;
END $$;
CALL ailydian_build_rights('ailydian_step_context');
