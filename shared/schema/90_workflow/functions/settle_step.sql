-- A step is over: keep what came of it, count down what depends on it. Returns the steps that may
-- begin, which nobody has been given yet. One that was over before changes nothing.
CREATE OR REPLACE FUNCTION ailydian_settle_step(
    p_step_id TEXT, p_verdict TEXT, p_output JSONB, p_input JSONB, p_error TEXT, p_fingerprint TEXT
) RETURNS TEXT[] LANGUAGE plpgsql AS $$
DECLARE
    v_step RECORD;
    v_node RECORD;
    v_run RECORD;
    v_mapped RECORD;
    v_kept JSONB := p_output;
    v_opened TEXT[] := '{}';
BEGIN
    IF pg_column_size(p_output) > 65536 THEN
        v_kept := jsonb_build_object('$bytes', pg_column_size(p_output));
    END IF;
    UPDATE public."WorkflowStep" s SET "state" = p_verdict,
        "status" = CASE p_verdict WHEN 'failed' THEN 'FAILED' ELSE 'COMPLETED' END::public."WorkflowStatus",
        "output" = v_kept, "input" = coalesce(p_input, s."input"), "error" = p_error, "fingerprint" = p_fingerprint,
        "completedAt" = clock_timestamp() AT TIME ZONE 'UTC',
        "progress" = CASE p_verdict WHEN 'completed' THEN 1 ELSE s."progress" END
    WHERE s."id" = p_step_id AND s."state" IN ('pending', 'ready', 'running', 'waiting')
    RETURNING s."runId", s."position", s."itemIndex", s."tenantId" INTO v_step;
    IF NOT FOUND THEN
        RETURN '{}';
    END IF;
    IF v_kept IS DISTINCT FROM p_output THEN
        INSERT INTO public."WorkflowOutput" ("stepId", "tenantId", "output")
        VALUES (p_step_id, v_step."tenantId", p_output)
        ON CONFLICT ("stepId") DO UPDATE SET "output" = excluded."output";
    END IF;
    SELECT r."state", n."dependents", n."onError", n."compensates", n."spec" ? 'concurrency' AS "slot"
    INTO STRICT v_run
    FROM public."WorkflowRun" r JOIN public."WorkflowNode" n
      ON n."versionId" = r."versionId" AND n."position" = v_step."position"
    WHERE r."id" = v_step."runId";
    IF v_run."slot" THEN
        PERFORM public.ailydian_leave_slot(s."tenantId", s."key", p_step_id)
        FROM public."WorkflowSlot" s WHERE s."runId" = v_step."runId" AND s."holder" = p_step_id;
    END IF;
    IF v_run."state" NOT IN ('running', 'paused', 'compensating') THEN
        RETURN '{}';
    END IF;
    IF v_run."compensates" IS NOT NULL THEN
        IF p_verdict = 'failed' THEN
            UPDATE public."WorkflowRun" r SET "error" = concat(r."error", '; not undone: ', p_error)
            WHERE r."id" = v_step."runId";
        END IF;
        RETURN public.ailydian_compensate(v_step."runId");
    ELSIF v_run."state" = 'compensating' THEN
        RETURN '{}';
    END IF;
    IF p_verdict = 'failed' AND v_run."onError" <> 'continue' THEN
        IF v_step."itemIndex" >= 0 THEN
            UPDATE public."WorkflowStep" s SET "state" = 'failed', "status" = 'FAILED',
                "error" = format('item %s: %s', v_step."itemIndex", p_error), "fingerprint" = p_fingerprint,
                "completedAt" = clock_timestamp() AT TIME ZONE 'UTC'
            WHERE s."id" = v_step."runId" || '/' || v_step."position" AND s."state" = 'running';
        END IF;
        UPDATE public."WorkflowRun" r SET "failedStepId" = p_step_id, "error" = p_error, "fingerprint" = p_fingerprint,
            "state" = CASE v_run."onError" WHEN 'compensate' THEN 'compensating' ELSE r."state" END
        WHERE r."id" = v_step."runId" AND r."state" IN ('running', 'paused');
        IF NOT FOUND THEN
            RETURN '{}';
        ELSIF v_run."onError" = 'compensate' THEN
            PERFORM public.ailydian_stop_steps(v_step."runId", 'another step failed');
            RETURN public.ailydian_compensate(v_step."runId");
        END IF;
        PERFORM public.ailydian_end_run(v_step."runId", 'failed', p_error, NULL, p_fingerprint);
        RETURN '{}';
    END IF;
    IF v_step."itemIndex" >= 0 THEN
        UPDATE public."WorkflowStep" s SET "openItems" = s."openItems" - 1,
            "nextItem" = least(s."nextItem" + 1, s."items"),
            "progress" = 1 - (s."openItems" - 1)::real / s."items"
        WHERE s."id" = v_step."runId" || '/' || v_step."position" AND s."state" = 'running'
        RETURNING s."openItems", s."items", s."nextItem", s."id" INTO v_mapped;
        IF NOT FOUND THEN
            RETURN '{}';
        ELSIF v_mapped."openItems" = 0 THEN
            RETURN public.ailydian_settle_step(v_mapped."id", 'completed', (
                SELECT jsonb_agg(coalesce(o."output", s."output", 'null') ORDER BY s."itemIndex")
                FROM public."WorkflowStep" s
                LEFT JOIN public."WorkflowOutput" o ON o."stepId" = s."id"
                WHERE s."runId" = v_step."runId" AND s."position" = v_step."position"
                  AND s."itemIndex" >= 0), NULL, NULL, NULL);
        END IF;
        -- The item whose turn it is, if one waits for its turn.
        SELECT ARRAY[s."id"] INTO v_opened FROM public."WorkflowStep" s
        WHERE s."id" = v_mapped."id" || '/' || (v_mapped."nextItem" - 1) AND s."state" = 'pending';
        v_opened := coalesce(v_opened, '{}');
    ELSIF v_run."dependents" = '{}' THEN
        UPDATE public."WorkflowRun" r SET "endsOpen" = r."endsOpen" - 1
        WHERE r."id" = v_step."runId" RETURNING r."endsOpen", r."versionId" INTO v_mapped;
        IF v_mapped."endsOpen" = 0 THEN
            PERFORM public.ailydian_end_run(v_step."runId", 'completed', NULL,
                CASE WHEN (SELECT v."ends" FROM public."WorkflowVersion" v
                           WHERE v."id" = v_mapped."versionId") = 1 THEN p_output END, NULL);
        END IF;
    ELSIF cardinality(v_run."dependents") = 1 THEN
        UPDATE public."WorkflowStep" s SET "openNeeds" = s."openNeeds" - 1,
            "liveNeeds" = s."liveNeeds" + (p_verdict <> 'skipped')::int
        WHERE s."id" = v_step."runId" || '/' || v_run."dependents"[1] AND s."openNeeds" > 0
        RETURNING CASE WHEN s."openNeeds" = 0 AND s."state" = 'pending' THEN ARRAY[s."id"]
                       ELSE '{}' END INTO v_opened;
        v_opened := coalesce(v_opened, '{}');
    ELSE
        WITH after AS (
            SELECT s."id" FROM unnest(v_run."dependents") AS d("position")
            JOIN public."WorkflowStep" s ON s."id" = v_step."runId" || '/' || d."position"
            ORDER BY s."id" FOR UPDATE OF s
        ), counted AS (
            UPDATE public."WorkflowStep" s SET "openNeeds" = s."openNeeds" - 1,
                "liveNeeds" = s."liveNeeds" + (p_verdict <> 'skipped')::int
            FROM after WHERE s."id" = after."id" AND s."openNeeds" > 0
            RETURNING s."id", s."position", s."openNeeds", s."state"
        )
        SELECT coalesce(array_agg(c."id" ORDER BY c."position"), '{}') INTO v_opened FROM counted c
        WHERE c."openNeeds" = 0 AND c."state" = 'pending';
    END IF;
    IF v_run."state" = 'paused' AND v_opened <> '{}' THEN
        -- Looked at once more and held so: whoever resumes the run sees what we park, or we go on.
        PERFORM FROM public."WorkflowRun" r WHERE r."id" = v_step."runId" FOR SHARE;
        IF 'paused' <> (SELECT r."state" FROM public."WorkflowRun" r WHERE r."id" = v_step."runId") THEN
            RETURN v_opened;
        END IF;
        UPDATE public."WorkflowStep" s SET "state" = 'ready', "jobId" = NULL
        WHERE s."id" = ANY(v_opened);
        RETURN '{}';
    END IF;
    RETURN v_opened;
END $$;
CALL ailydian_build_rights('ailydian_settle_step');
