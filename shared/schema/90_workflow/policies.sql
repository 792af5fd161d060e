CALL ailydian_build_security('Workflow');
CALL ailydian_build_security('WorkflowRun');
CALL ailydian_build_security('WorkflowStep');

CALL ailydian_build_security('WorkflowVersion', 'SELECT, INSERT', p_platform => false);
CALL ailydian_build_security('WorkflowNode', 'SELECT, INSERT', p_platform => false);
CALL ailydian_build_security('WorkflowWait', 'SELECT', p_platform => false);
CALL ailydian_build_security('WorkflowSignal', 'SELECT, INSERT', p_platform => false);
CALL ailydian_build_security('WorkflowSlot', 'SELECT', p_platform => false);
CALL ailydian_build_security('WorkflowOutput', 'SELECT', p_platform => false);
CALL ailydian_build_policy('WorkflowWait', 'ailydian_relay', 'true');
CALL ailydian_build_grant('WorkflowWait', 'ailydian_relay', 'SELECT');
