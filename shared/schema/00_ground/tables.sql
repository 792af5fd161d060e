-- Enums, exactly the platform's: a row with a label it does not know breaks its every read.
DO $$
DECLARE
    v_enum record;
BEGIN
    FOR v_enum IN SELECT * FROM (VALUES
        ('UserRole', '{USER,ADMIN,SUPER_ADMIN}'::text[]),
        ('TenantTier', '{FREE,PRO,ENTERPRISE}'),
        ('MessageRole', '{USER,ASSISTANT,SYSTEM,TOOL}'),
        ('BudgetPeriod', '{DAILY,WEEKLY,MONTHLY,YEARLY}'),
        ('TransactionType', '{CREDIT,DEBIT,REFUND}'),
        ('WorkflowStatus', '{PENDING,RUNNING,COMPLETED,FAILED,CANCELLED}'),
        ('DSARType', '{ACCESS,DELETION,RECTIFICATION,PORTABILITY}'),
        ('DSARStatus', '{PENDING,PROCESSING,COMPLETED,REJECTED}'),
        ('IncidentSeverity', '{LOW,MEDIUM,HIGH,CRITICAL}'),
        ('IncidentStatus', '{OPEN,INVESTIGATING,RESOLVED,CLOSED}')
    ) AS wanted(name, labels) LOOP
        IF to_regtype(format('public.%I', v_enum.name)) IS NULL THEN
            EXECUTE format('CREATE TYPE public.%I AS ENUM (%s)', v_enum.name,
                           (SELECT string_agg(quote_literal(l), ', ') FROM unnest(v_enum.labels) l));
        END IF;
    END LOOP;
END $$;

CREATE TABLE IF NOT EXISTS "SchemaMigration" (
    "version"   TEXT PRIMARY KEY,
    "sha256"    TEXT NOT NULL,
    "appliedAt" TIMESTAMPTZ NOT NULL DEFAULT now()
);
COMMENT ON TABLE "SchemaMigration" IS 'Which versions of the schema this database has received.';
