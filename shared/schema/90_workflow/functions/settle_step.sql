-- A step is over: keep what came of it, count down what depends on it. Returns the steps that may
-- begin, which nobody has been given yet. One that was over before changes nothing.
CREATE OR REPLACE FUNCTION ailydian_settle_step(
    step_id TEXT, verdict TEXT, result JSONB, given JSONB, why TEXT, print TEXT
) RETURNS TEXT[] LANGUAGE plpgsql AS $$
DECLARE
    step RECORD;
    node RECORD;
    run RECORD;
    mapped RECORD;
    kept JSONB := result;
    opened TEXT[] := '{}';
BEGIN
    IF pg_column_size(result) > 65536 THEN
        kept := jsonb_build_object('$bytes', pg_column_size(result));
    END IF;
    UPDATE public."WorkflowStep" s SET "state" = verdict,
        "status" = CASE verdict WHEN 'failed' THEN 'FAILED' ELSE 'COMPLETED' END::public."WorkflowStatus",
        "output" = kept, "input" = coalesce(given, s."input"), "error" = why, "fingerprint" = print,
        "completedAt" = clock_timestamp() AT TIME ZONE 'UTC',
        "progress" = CASE verdict WHEN 'completed' THEN 1 ELSE s."progress" END
    WHERE s."id" = step_id AND s."state" IN ('pending', 'ready', 'running', 'waiting')
    RETURNING s."runId", s."position", s."itemIndex", s."tenantId" INTO step;
    IF NOT FOUND THEN
        RETURN '{}';
    END IF;
    IF kept IS DISTINCT FROM result THEN
        INSERT INTO public."WorkflowOutput" ("stepId", "tenantId", "output")
        VALUES (step_id, step."tenantId", result)
        ON CONFLICT ("stepId") DO UPDATE SET "output" = excluded."output";
    END IF;
    SELECT r."state", n."dependents", n."onError", n."compensates", n."spec" ? 'concurrency' AS "slot"
    INTO STRICT run
    FROM public."WorkflowRun" r JOIN public."WorkflowNode" n
      ON n."versionId" = r."versionId" AND n."position" = step."position"
    WHERE r."id" = step."runId";
    IF run."slot" THEN
        PERFORM public.ailydian_leave_slot(s."tenantId", s."key", step_id)
        FROM public."WorkflowSlot" s WHERE s."runId" = step."runId" AND s."holder" = step_id;
    END IF;
    IF run."state" NOT IN ('running', 'paused', 'compensating') THEN
        RETURN '{}';
    END IF;
    IF run."compensates" IS NOT NULL THEN
        IF verdict = 'failed' THEN
            UPDATE public."WorkflowRun" r SET "error" = concat(r."error", '; not undone: ', why)
            WHERE r."id" = step."runId";
        END IF;
        RETURN public.ailydian_compensate(step."runId");
    ELSIF run."state" = 'compensating' THEN
        RETURN '{}';
    END IF;
    IF verdict = 'failed' AND run."onError" <> 'continue' THEN
        IF step."itemIndex" >= 0 THEN
            UPDATE public."WorkflowStep" s SET "state" = 'failed', "status" = 'FAILED',
                "error" = format('item %s: %s', step."itemIndex", why), "fingerprint" = print,
                "completedAt" = clock_timestamp() AT TIME ZONE 'UTC'
            WHERE s."id" = step."runId" || '/' || step."position" AND s."state" = 'running';
        END IF;
        UPDATE public."WorkflowRun" r SET "failedStepId" = step_id, "error" = why, "fingerprint" = print,
            "state" = CASE run."onError" WHEN 'compensate' THEN 'compensating' ELSE r."state" END
        WHERE r."id" = step."runId" AND r."state" IN ('running', 'paused');
        IF NOT FOUND THEN
            RETURN '{}';
        ELSIF run."onError" = 'compensate' THEN
            PERFORM public.ailydian_stop_steps(step."runId", 'another step failed');
            RETURN public.ailydian_compensate(step."runId");
        END IF;
        PERFORM public.ailydian_end_run(step."runId", 'failed', why, NULL, print);
        RETURN '{}';
    END IF;
    IF step."itemIndex" >= 0 THEN
        UPDATE public."WorkflowStep" s SET "openItems" = s."openItems" - 1,
            "nextItem" = least(s."nextItem" + 1, s."items"),
            "progress" = 1 - (s."openItems" - 1)::real / s."items"
        WHERE s."id" = step."runId" || '/' || step."position" AND s."state" = 'running'
        RETURNING s."openItems", s."items", s."nextItem", s."id" INTO mapped;
        IF NOT FOUND THEN
            RETURN '{}';
        ELSIF mapped."openItems" = 0 THEN
            RETURN public.ailydian_settle_step(mapped."id", 'completed', (
                SELECT jsonb_agg(coalesce(o."output", s."output", 'null') ORDER BY s."itemIndex")
                FROM public."WorkflowStep" s
                LEFT JOIN public."WorkflowOutput" o ON o."stepId" = s."id"
                WHERE s."runId" = step."runId" AND s."position" = step."position"
                  AND s."itemIndex" >= 0), NULL, NULL, NULL);
        END IF;
        -- The item whose turn it is, if one waits for its turn.
        SELECT ARRAY[s."id"] INTO opened FROM public."WorkflowStep" s
        WHERE s."id" = mapped."id" || '/' || (mapped."nextItem" - 1) AND s."state" = 'pending';
        opened := coalesce(opened, '{}');
    ELSIF run."dependents" = '{}' THEN
        UPDATE public."WorkflowRun" r SET "endsOpen" = r."endsOpen" - 1
        WHERE r."id" = step."runId" RETURNING r."endsOpen", r."versionId" INTO mapped;
        IF mapped."endsOpen" = 0 THEN
            PERFORM public.ailydian_end_run(step."runId", 'completed', NULL,
                CASE WHEN (SELECT v."ends" FROM public."WorkflowVersion" v
                           WHERE v."id" = mapped."versionId") = 1 THEN result END, NULL);
        END IF;
    ELSIF cardinality(run."dependents") = 1 THEN
        UPDATE public."WorkflowStep" s SET "openNeeds" = s."openNeeds" - 1,
            "liveNeeds" = s."liveNeeds" + (verdict <> 'skipped')::int
        WHERE s."id" = step."runId" || '/' || run."dependents"[1] AND s."openNeeds" > 0
        RETURNING CASE WHEN s."openNeeds" = 0 AND s."state" = 'pending' THEN ARRAY[s."id"]
                       ELSE '{}' END INTO opened;
        opened := coalesce(opened, '{}');
    ELSE
        WITH after AS (
            SELECT s."id" FROM unnest(run."dependents") AS d("position")
            JOIN public."WorkflowStep" s ON s."id" = step."runId" || '/' || d."position"
            ORDER BY s."id" FOR UPDATE OF s
        ), counted AS (
            UPDATE public."WorkflowStep" s SET "openNeeds" = s."openNeeds" - 1,
                "liveNeeds" = s."liveNeeds" + (verdict <> 'skipped')::int
            FROM after WHERE s."id" = after."id" AND s."openNeeds" > 0
            RETURNING s."id", s."position", s."openNeeds", s."state"
        )
        SELECT coalesce(array_agg(c."id" ORDER BY c."position"), '{}') INTO opened FROM counted c
        WHERE c."openNeeds" = 0 AND c."state" = 'pending';
    END IF;
    IF run."state" = 'paused' AND opened <> '{}' THEN
        -- Looked at once more and held so: whoever resumes the run sees what we park, or we go on.
        PERFORM FROM public."WorkflowRun" r WHERE r."id" = step."runId" FOR SHARE;
        IF 'paused' <> (SELECT r."state" FROM public."WorkflowRun" r WHERE r."id" = step."runId") THEN
            RETURN opened;
        END IF;
        UPDATE public."WorkflowStep" s SET "state" = 'ready', "jobId" = NULL
        WHERE s."id" = ANY(opened);
        RETURN '{}';
    END IF;
    RETURN opened;
END $$;
CALL ailydian_build_rights('ailydian_settle_step');
