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

-- Who reads the audit log also seals it.
DO $$
DECLARE
    v_table text;
BEGIN
    FOREACH v_table IN ARRAY ARRAY['AuditSeal', 'AuditChain', 'AuditCheckpoint', 'AuditHead', 'AuditState',
            'AuditSink'] LOOP
        CALL ailydian_build_security(v_table, '', 'false', p_platform => false);
        CALL ailydian_build_policy(v_table, 'ailydian_audit_reader', 'true');
    END LOOP;
    FOREACH v_table IN ARRAY ARRAY['AuditSeal', 'AuditCheckpoint', 'AuditHead'] LOOP
        CALL ailydian_build_grant(v_table, 'ailydian_audit_reader', 'SELECT, INSERT');
    END LOOP;
    FOREACH v_table IN ARRAY ARRAY['AuditChain', 'AuditState', 'AuditSink'] LOOP
        CALL ailydian_build_grant(v_table, 'ailydian_audit_reader', 'SELECT, INSERT, UPDATE');
    END LOOP;
END $$;
CALL ailydian_build_policy('AuditState', 'ailydian_relay', 'true');
CALL ailydian_build_grant('AuditState', 'ailydian_relay', 'SELECT');
CALL ailydian_build_policy('AuditSink', 'ailydian_relay', 'true');
CALL ailydian_build_grant('AuditSink', 'ailydian_relay', 'SELECT');
