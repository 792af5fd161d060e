CALL ailydian_build_security('Workflow');
-- Runs and steps move by the functions of the engine alone.
CALL ailydian_build_security('WorkflowRun', 'SELECT');
CALL ailydian_build_security('WorkflowStep', 'SELECT, UPDATE ("progress", "note")');

CALL ailydian_build_security('WorkflowVersion', 'SELECT, INSERT', p_platform => false);
CALL ailydian_build_security('WorkflowNode', 'SELECT, INSERT', p_platform => false);
CALL ailydian_build_security('WorkflowWait', 'SELECT', p_platform => false);
CALL ailydian_build_security('WorkflowSignal', 'SELECT', p_platform => false);
CALL ailydian_build_security('WorkflowSlot', 'SELECT', p_platform => false);
CALL ailydian_build_security('WorkflowOutput', 'SELECT', p_platform => false);
CALL ailydian_build_policy('WorkflowWait', 'ailydian_relay', 'true');
CALL ailydian_build_grant('WorkflowWait', 'ailydian_relay', 'SELECT');
