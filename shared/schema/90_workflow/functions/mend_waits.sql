-- End the waits of a run whose cause is over: for runs that ended unheard, for turns behind a
-- concurrency key that came unnoticed. The step of a run that ended is settled with its outcome; the
-- others are left waiting without a wait, for `ailydian_mend_steps`.
-- Locks: the caller holds the run and its steps; then the waits, and what settling a step locks.
-- Returns nothing.
CREATE OR REPLACE FUNCTION ailydian_mend_waits(p_run_id TEXT) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_wait RECORD;
BEGIN
    FOR v_wait IN
        DELETE FROM public."WorkflowWait" w
        WHERE w."runId" = p_run_id AND w."what" IN ('run', 'slot') AND CASE w."what"
            WHEN 'run' THEN NOT EXISTS (
                SELECT FROM public."WorkflowRun" c WHERE c."id" = w."name"
                  AND c."state" IN ('queued', 'running', 'paused', 'compensating'))
            ELSE w."id" IS NOT DISTINCT FROM coalesce((
                SELECT g."holder" FROM public."WorkflowSlot" g
                WHERE g."tenantId" = w."tenantId" AND g."key" = w."name"
                ORDER BY g."seq" LIMIT 1), w."id") OR NOT EXISTS (
                SELECT FROM public."WorkflowSlot" g
                WHERE g."runId" = p_run_id AND g."holder" = w."id") END
        RETURNING w."id", w."what", w."name"
    LOOP
        IF v_wait."what" = 'run' THEN
            PERFORM public.ailydian_step_over(v_wait."id",
                CASE c."state" WHEN 'completed' THEN 'completed' ELSE 'failed' END, c."output",
                concat('its run ', c."id", ' ', c."state", ': ' || c."error"), c."fingerprint")
            FROM public."WorkflowRun" c
            WHERE c."id" = v_wait."name" AND c."parentStepId" = v_wait."id";
        END IF;
    END LOOP;
END $$;
CALL ailydian_build_rights('ailydian_mend_waits');
