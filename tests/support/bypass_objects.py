"""Rules, triggers, publications and definitions for tests.support.bypasses."""

from tests.support.bypass import EVIL, SCHEMA, Bypass

OBJECTS = [
    Bypass(
        "CREATE PUBLICATION all_of_it FOR ALL TABLES",
        "replication",
        "the publication all_of_it hands out all tables: DROP PUBLICATION all_of_it",
    ),
    Bypass(
        'CREATE PUBLICATION two FOR TABLE "Document", "Job"',
        "replication",
        "the publication two hands out Document, Job",
    ),
    Bypass(
        "CREATE PUBLICATION whole FOR TABLES IN SCHEMA public",
        "replication",
        "the publication whole hands out the schema public",
    ),
    Bypass(
        "CREATE SUBSCRIPTION incoming CONNECTION 'host=/nowhere' PUBLICATION p"
        " WITH (connect = false)",
        "replication",
        "the subscription incoming writes rows of another server: DROP SUBSCRIPTION incoming",
    ),
    Bypass(
        "CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
        " CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION watch()",
        "triggers",
        "the event trigger watch runs public.watch(): DROP EVENT TRIGGER watch",
    ),
    Bypass(
        'CREATE RULE swallow AS ON DELETE TO "AuditLog" DO INSTEAD NOTHING',
        "triggers",
        "AuditLog rule swallow is unexpected",
    ),
    *(
        Bypass(f'ALTER TABLE "Message" {change} TRIGGER tenant', "triggers", told)
        for change, told in (
            ("ENABLE REPLICA", "Message trigger tenant is R |"),
            ("ENABLE ALWAYS", "Message trigger tenant is A |"),
            ("DISABLE", "Message trigger tenant is D |"),
        )
    ),
    Bypass(
        'ALTER TABLE "Message" DISABLE TRIGGER ALL',
        "triggers",
        'it must be enabled, and is disabled: run ALTER TABLE "Message" ENABLE TRIGGER ALL',
    ),
    Bypass(
        'DROP TRIGGER touch ON "Wallet"',
        "triggers",
        "Wallet trigger touch is missing: O | CREATE TRIGGER touch",
    ),
    Bypass(
        f'{SCHEMA} {EVIL}ALTER TABLE "User" ADD "nickname" text DEFAULT aside.evil()',
        "definitions",
        "column nickname of User calls aside.evil(): drop the column nickname",
    ),
    Bypass(
        f"{SCHEMA} CREATE FUNCTION aside.odd(text) RETURNS text IMMUTABLE LANGUAGE sql"
        """ AS $$ SELECT '' $$; CREATE INDEX odd ON "Document" (aside.odd("title"))""",
        "definitions",
        "index public.odd of Document calls aside.odd(text)",
    ),
]

DEFINITIONS = [
    Bypass(statement, "definitions", told)
    for statement, told in (
        (
            'ALTER DOMAIN "JobPayload" DROP CONSTRAINT "JobPayload_depth_check"',
            "type JobPayload constraint JobPayload_depth_check is missing",
        ),
        (
            'ALTER TABLE "Publisher" DROP CONSTRAINT "Publisher_name_check"',
            "Publisher constraint Publisher_name_check is missing: CHECK ((name ~ "
            "'^[a-z][a-z0-9-]{0,30}$'::text)): run ALTER TABLE \"Publisher\" ADD CONSTRAINT",
        ),
        (
            'ALTER TABLE "Publisher" DROP CONSTRAINT "Publisher_name_check",'
            ' ADD CONSTRAINT "Publisher_name_check" CHECK (true)',
            "Publisher constraint Publisher_name_check is CHECK (true), not CHECK ((name",
        ),
        (
            'ALTER TABLE "Publisher" DROP CONSTRAINT "Publisher_name_check",'
            ' ADD CONSTRAINT "Publisher_name_check" CHECK'
            " (\"name\" ~ '^[a-z][a-z0-9-]{0,30}$') NOT VALID",
            "'^[a-z][a-z0-9-]{0,30}$'::text)) NOT VALID, not CHECK",
        ),
        (
            'ALTER TABLE "IncidentNotice" DROP CONSTRAINT "IncidentNotice_incidentId_fkey"',
            "IncidentNotice constraint IncidentNotice_incidentId_fkey is missing: FOREIGN KEY",
        ),
        (
            'ALTER TABLE "Message" DROP CONSTRAINT "Message_conversationId_fkey", ADD CONSTRAINT'
            ' "Message_conversationId_fkey" FOREIGN KEY ("conversationId") REFERENCES'
            ' "Conversation" ON DELETE CASCADE ON UPDATE CASCADE NOT VALID',
            "ON DELETE CASCADE NOT VALID, not FOREIGN KEY",
        ),
        (
            'ALTER TABLE "PlatformChange" DROP CONSTRAINT "PlatformChange_pkey"',
            "PlatformChange constraint PlatformChange_pkey is missing: PRIMARY KEY",
        ),
        (
            'DROP INDEX "Incident_cause_key"',
            "Incident index Incident_cause_key is missing: CREATE UNIQUE INDEX",
        ),
        (
            'DROP INDEX "Incident_cause_key"; CREATE INDEX "Incident_cause_key"'
            ' ON "Incident" ("cause")',
            "Incident index Incident_cause_key is CREATE INDEX",
        ),
        (
            'CREATE UNIQUE INDEX one ON "JobOutbox" ((true))',
            "JobOutbox index one is unexpected: CREATE UNIQUE INDEX",
        ),
        (
            'ALTER TABLE "Job" ADD CHECK (true)',
            "Job constraint Job_check is unexpected: CHECK (true): drop it",
        ),
        (
            'ALTER TABLE "Incident" ALTER "tenantId" SET DEFAULT \'x\'',
            "Incident.tenantId is text DEFAULT 'x'::text, not text DEFAULT NULLIF(",
        ),
        (
            'ALTER TABLE "User" ALTER "role" SET DEFAULT \'SUPER_ADMIN\'',
            "User.role is public.\"UserRole\" NOT NULL DEFAULT 'SUPER_ADMIN'",
        ),
        (
            'ALTER TABLE "Job" ADD "spare" text',
            "Job.spare is unexpected: text: drop it",
        ),
        (
            'ALTER TABLE "Job" ALTER "payload" TYPE jsonb',
            "Job.payload is jsonb NOT NULL DEFAULT '{}'::jsonb, not public.",
        ),
        (
            'ALTER TABLE "PlatformChange" ALTER "rowId" DROP NOT NULL',
            "PlatformChange.rowId is text, not text NOT NULL",
        ),
        (
            'ALTER TABLE "JobStat" SET UNLOGGED',
            "JobStat is table that a crash empties, not table",
        ),
        (
            'CREATE SCHEMA aside; CREATE TABLE aside.child () INHERITS (public."Document")',
            "Document child aside.child is unexpected",
        ),
        (
            'CREATE SCHEMA aside; CREATE TABLE aside.parent ("title" text NOT NULL);'
            ' ALTER TABLE "Document" INHERIT aside.parent',
            "Document parent aside.parent is unexpected",
        ),
    )
] + [
    Bypass(
        'ALTER TABLE "User" DROP CONSTRAINT "User_email_key";'
        ' CREATE UNIQUE INDEX "User_email_key" ON "User" ("email") WHERE false',
        "indexes",
        "User has no unique index on email",
    ),
]
