-- Who may what. The relay and the workers' plumbing see the ledger of all tenants and nothing
-- else; the application role sees its tenant's part of it. Publishers in SQL insert and look.
CALL ailydian_build_security('Job', 'SELECT, INSERT, UPDATE', of_platform => false);
CALL ailydian_build_security('JobOutbox', 'SELECT, INSERT', of_platform => false);
CALL ailydian_build_security('JobFlight', 'SELECT, DELETE', of_platform => false);
CALL ailydian_build_security('JobAttempt', 'SELECT', of_platform => false);
CALL ailydian_build_security('DeadLetter', 'SELECT', of_platform => false);
CALL ailydian_build_security('ProbeEntry', 'SELECT, INSERT', of_platform => false);
CALL ailydian_build_security('JobKind', 'SELECT', 'true', of_platform => false);
CALL ailydian_build_security('QueueState', 'SELECT', 'true', of_platform => false);
CALL ailydian_build_security('Quarantine', '', 'false', of_platform => false);
CALL ailydian_build_security('WorkerProcess', '', 'false', of_platform => false);
CALL ailydian_build_security('JobEvent', 'SELECT, INSERT', of_platform => false);
CALL ailydian_build_security('JobBatch', 'SELECT, INSERT, UPDATE', of_platform => false);
CALL ailydian_build_security('Schedule', 'SELECT, INSERT, UPDATE, DELETE', of_platform => false);
CALL ailydian_build_security('JobHold', '', 'false', of_platform => false);
CALL ailydian_build_security('JobLimit', '', 'false', of_platform => false);
CALL ailydian_build_security('JobLimitUse', '', 'false', of_platform => false);
CALL ailydian_build_security('EventCursor', '', 'false', of_platform => false);
CALL ailydian_build_security('JobStat', '', 'false', of_platform => false);

DO $$
DECLARE
    ledger text;
BEGIN
    FOREACH ledger IN ARRAY ARRAY['Job', 'JobOutbox', 'JobFlight', 'JobAttempt', 'DeadLetter',
            'Upload', 'ProbeEntry', 'JobKind', 'QueueState', 'Quarantine', 'WorkerProcess', 'JobEvent',
            'JobBatch', 'Schedule', 'JobHold', 'JobLimit', 'JobLimitUse', 'EventCursor', 'JobStat',
            'ModelUse'] LOOP
        CALL ailydian_build_policy(ledger, 'ailydian_relay', 'true');
        CALL ailydian_build_grant(ledger, 'ailydian_relay', 'SELECT, INSERT, UPDATE, DELETE');
    END LOOP;
    FOREACH ledger IN ARRAY ARRAY['Job', 'JobOutbox', 'JobKind', 'QueueState'] LOOP
        CALL ailydian_build_policy(ledger, 'ailydian_platform', 'true');
    END LOOP;
    CALL ailydian_build_grant('Job', 'ailydian_platform', 'SELECT, INSERT');
    CALL ailydian_build_grant('JobOutbox', 'ailydian_platform', 'INSERT');
    CALL ailydian_build_grant('JobKind', 'ailydian_platform', 'SELECT');
    CALL ailydian_build_grant('QueueState', 'ailydian_platform', 'SELECT');
END $$;
