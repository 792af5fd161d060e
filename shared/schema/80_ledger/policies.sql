-- Grants. The relay and the workers' plumbing see the ledger of all tenants and nothing
-- else; the application role sees its tenant's part of it. Publishers in SQL insert and look.
-- A publisher writes what a job is; state, fence, lease and step are the ledger's. An actor keeps its outcome.
CALL ailydian_build_security('Job', 'SELECT, UPDATE ("outcome"), INSERT ("id", "tenantId", "job", '
    '"queue", "payload", "schemaVersion", "key", "priority", "limitKey", "cost", "parentId", "batchId", '
    '"producer", "traceparent", "waitingFor", "dueAt", "attemptsMax", "timeLimitS", "backoffS")',
    p_platform => false);
CALL ailydian_build_security('JobOutbox', 'SELECT', p_platform => false);
CALL ailydian_build_security('JobFlight', 'SELECT', p_platform => false);
CALL ailydian_build_security('JobAttempt', 'SELECT', p_platform => false);
CALL ailydian_build_security('DeadLetter', 'SELECT', p_platform => false);
CALL ailydian_build_security('ProbeEntry', 'SELECT, INSERT', p_platform => false);
CALL ailydian_build_security('JobKind', 'SELECT', 'true', p_platform => false);
CALL ailydian_build_security('Publisher', '', 'false', p_platform => false);
CALL ailydian_build_security('HttpAnswer', 'SELECT, INSERT', p_platform => false);
CALL ailydian_build_security('BulkAction', '', 'false', p_platform => false);
CALL ailydian_build_security('QueueState', 'SELECT', 'true', p_platform => false);
CALL ailydian_build_security('TenantDepth', 'SELECT', p_platform => false);
CALL ailydian_build_security('Quarantine', '', 'false', p_platform => false);
CALL ailydian_build_security('WorkerProcess', '', 'false', p_platform => false);
CALL ailydian_build_security('JobEvent', 'SELECT', p_platform => false);
CALL ailydian_build_security('EventFold', 'SELECT', 'true', p_platform => false);
CALL ailydian_build_security('JobBatch', 'SELECT, INSERT, UPDATE', p_platform => false);
CALL ailydian_build_security('Schedule', 'SELECT, INSERT, UPDATE, DELETE', p_platform => false);
CALL ailydian_build_security('Webhook', 'SELECT, INSERT, UPDATE, DELETE', p_platform => false);
CALL ailydian_build_security('JobHold', '', 'false', p_platform => false);
CALL ailydian_build_security('JobLimit', '', 'false', p_platform => false);
CALL ailydian_build_security('JobLimitUse', '', 'false', p_platform => false);
CALL ailydian_build_security('EventCursor', '', 'false', p_platform => false);
CALL ailydian_build_security('JobStat', '', 'false', p_platform => false);

DO $$
DECLARE
    v_ledger text;
BEGIN
    FOREACH v_ledger IN ARRAY ARRAY['Job', 'JobOutbox', 'JobFlight', 'JobAttempt', 'DeadLetter',
            'Upload', 'ProbeEntry', 'JobKind', 'QueueState', 'TenantDepth', 'Quarantine', 'WorkerProcess',
            'JobEvent', 'JobBatch', 'Schedule', 'JobHold', 'JobLimit', 'JobLimitUse', 'EventCursor', 'JobStat',
            'EventFold', 'ModelUse', 'Publisher', 'HttpAnswer', 'Webhook', 'BulkAction'] LOOP
        CALL ailydian_build_policy(v_ledger, 'ailydian_relay', 'true');
        CALL ailydian_build_grant(v_ledger, 'ailydian_relay', 'SELECT, INSERT, UPDATE, DELETE');
    END LOOP;
    FOREACH v_ledger IN ARRAY ARRAY['Job', 'JobOutbox', 'JobKind', 'QueueState', 'TenantDepth'] LOOP
        CALL ailydian_build_policy(v_ledger, 'ailydian_platform', 'true');
    END LOOP;
    CALL ailydian_build_grant('Job', 'ailydian_platform', 'SELECT, INSERT ("id", "tenantId", "job", '
        '"queue", "payload", "schemaVersion", "key", "priority", "limitKey", "cost", "parentId", '
        '"batchId", "producer", "traceparent", "waitingFor", "dueAt", "attemptsMax", "timeLimitS", '
        '"backoffS")');
    CALL ailydian_build_grant('JobOutbox', 'ailydian_platform', '');
    CALL ailydian_build_grant('JobKind', 'ailydian_platform', 'SELECT');
    CALL ailydian_build_grant('QueueState', 'ailydian_platform', 'SELECT');
    CALL ailydian_build_grant('TenantDepth', 'ailydian_platform', 'SELECT');
END $$;

-- The audit log is sealed in the order of the folds.
CALL ailydian_build_policy('EventFold', 'ailydian_audit_reader', 'true');
CALL ailydian_build_grant('EventFold', 'ailydian_audit_reader', 'SELECT');
CALL ailydian_build_policy('EventCursor', 'ailydian_audit_reader', '"reader" = ''seals''');
CALL ailydian_build_grant('EventCursor', 'ailydian_audit_reader', 'SELECT, INSERT, UPDATE');
