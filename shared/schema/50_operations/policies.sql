CALL ailydian_build_security('AuditLog', 'SELECT, INSERT');
CALL ailydian_build_policy('AuditLog', 'ailydian_audit_reader', 'true');
CALL ailydian_build_grant('AuditLog', 'ailydian_audit_reader', 'SELECT');
CALL ailydian_build_security('Incident');
CALL ailydian_build_security('CRDTState');
CALL ailydian_build_security('PlatformChange', 'SELECT, DELETE', p_platform => false);
-- UPDATE is what FOR UPDATE SKIP LOCKED asks for.
CALL ailydian_build_policy('PlatformChange', 'ailydian_relay', 'true');
CALL ailydian_build_grant('PlatformChange', 'ailydian_relay', 'SELECT, UPDATE, DELETE');

-- Operators act on many tenants at once, in the relay's role: each act is noted beside it.
CALL ailydian_build_policy('AuditLog', 'ailydian_relay', 'true');
CALL ailydian_build_grant('AuditLog', 'ailydian_relay', 'INSERT');
CALL ailydian_build_security('IncidentNotice', 'SELECT', p_platform => false);
CALL ailydian_build_policy('IncidentNotice', 'ailydian_relay', 'true');
CALL ailydian_build_grant('IncidentNotice', 'ailydian_relay', 'SELECT, UPDATE, DELETE');
