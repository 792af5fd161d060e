CALL ailydian_build_touch('Workflow');
CALL ailydian_build_child('WorkflowRun', 'workflowId', 'Workflow');
CALL ailydian_build_child('WorkflowStep', 'runId', 'WorkflowRun');
-- Versions and nodes are read by the id of their parent: they must be of its tenant.
CALL ailydian_build_child('WorkflowVersion', 'workflowId', 'Workflow');
CALL ailydian_build_child('WorkflowNode', 'versionId', 'WorkflowVersion');

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger
                   WHERE tgrelid = 'public."Job"'::regclass AND tgname = 'step') THEN
        CREATE CONSTRAINT TRIGGER "step" AFTER UPDATE ON public."Job"
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
            WHEN (NEW."stepId" IS NOT NULL AND OLD."state" <> NEW."state" AND (
                  NEW."state" IN ('DEAD', 'CANCELLED')
                  OR (OLD."state" = 'DEAD' AND NEW."state" = 'PENDING')
                  OR (NEW."state" = 'COMPLETED' AND NEW."job" <> 'run_step')))
            EXECUTE FUNCTION public.ailydian_step_of_job();
    END IF;
END $$;
