-- Ailydian workers: every table.
--
-- Idempotent: a second run changes nothing and takes no lock that stops a reader or a writer.
-- Safe in one transaction; run it with `ailydian migrate`, or with psql -1 -f schema.sql.
--
-- Thirty-five tables belong to the platform, whose Prisma client reads and writes them untouched:
-- their names, types, keys and defaults are its contract, and no CHECK of ours narrows them. What
-- is ours stands in our own tables and, below the line `-- ours`, in columns of ours.
--
-- Chapters: 0 the ground   1 people and tenants   2 models and routing   3 conversations
--           4 documents and vectors   5 audit, keys, trust, privacy   6 money
--           7 workflows, incidents, replicated state, changes   8 the job ledger
--           9 the workflow engine   10 judgement

SET client_min_messages = warning;
SET search_path = public, pg_temp;


-- ============================================================================================
-- Chapter 0: the ground
--
-- Roles, none of which can log in. ailydian_owner owns every object. ailydian_app is what workers
-- and producers act as: one tenant's rows, named by the setting app.tenant_id. ailydian_relay
-- serves the ledger of all tenants and nothing else. ailydian_audit_reader reads the audit log.
-- ailydian_platform is granted to the platform's own user and has the 35 tables, all rows.
-- The user who runs this file may act as the first four; before it does (from PostgreSQL 16 on)
-- it sees nothing. On a server where it may not create extensions or roles, an administrator makes
-- `vector` and the five roles first and grants it the first four.
-- ============================================================================================

CREATE EXTENSION IF NOT EXISTS vector;

DO $$
DECLARE
    role_name text;
    without_rows text := CASE WHEN current_setting('server_version_num')::int >= 160000
                              THEN ' WITH INHERIT FALSE, SET TRUE' ELSE '' END;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['ailydian_owner', 'ailydian_app', 'ailydian_relay',
                                     'ailydian_audit_reader', 'ailydian_platform'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;  -- roles are the cluster's: another database made it in this moment
            END;
        END IF;
        CONTINUE WHEN role_name = 'ailydian_platform'
            OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
        BEGIN
            EXECUTE format('GRANT %I TO CURRENT_USER%s', role_name, without_rows);
        EXCEPTION WHEN insufficient_privilege THEN
            NULL;  -- granted by somebody else, or `ailydian verify` will say that it is missing
        END;
    END LOOP;
    IF NOT has_schema_privilege('ailydian_owner', 'public', 'CREATE') THEN
        GRANT USAGE, CREATE ON SCHEMA public TO ailydian_owner;
    END IF;
    IF has_schema_privilege('ailydian_app', 'public', 'CREATE') THEN
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;  -- PostgreSQL 14 lets everybody create
    END IF;
    IF NOT has_schema_privilege('ailydian_app', 'public', 'USAGE') THEN
        GRANT USAGE ON SCHEMA public TO ailydian_app, ailydian_relay, ailydian_audit_reader,
                                        ailydian_platform;
    END IF;
END $$;

SET ROLE ailydian_owner;

-- Enums, exactly the platform's: a row with a label it does not know breaks its every read.
DO $$
DECLARE
    enum record;
BEGIN
    FOR enum IN SELECT * FROM (VALUES
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
        IF to_regtype(format('public.%I', enum.name)) IS NULL THEN
            EXECUTE format('CREATE TYPE public.%I AS ENUM (%s)', enum.name,
                           (SELECT string_agg(quote_literal(l), ', ') FROM unnest(enum.labels) l));
        END IF;
    END LOOP;
END $$;

-- Ids are TEXT. In time order where the server can (18), so that new rows share index pages.
-- No SET clause: the planner copies the body into the defaults, so a default costs no call.
DO $$
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION public.ailydian_new_id() RETURNS text LANGUAGE sql VOLATILE '
        'AS $f$ SELECT pg_catalog.%s()::text $f$',
        CASE WHEN to_regprocedure('pg_catalog.uuidv7()') IS NULL THEN 'gen_random_uuid' ELSE 'uuidv7' END);
END $$;

-- The clock of "updatedAt". Its triggers fire only WHEN the old value came back unchanged, so a
-- client that sends its own time keeps it.
CREATE OR REPLACE FUNCTION public.ailydian_touch() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    NEW."updatedAt" := now() AT TIME ZONE 'UTC';
    RETURN NEW;
END $$;

-- Tools of this file, dropped at its end. Each looks first, so that a second run locks nothing.

CREATE OR REPLACE PROCEDURE ailydian_build_index(of_table text, VARIADIC of_columns text[])
LANGUAGE plpgsql AS $$
DECLARE
    index_name text := of_table || '_' || array_to_string(of_columns, '_') || '_idx';
BEGIN
    IF to_regclass(format('public.%I', index_name)) IS NULL THEN
        EXECUTE format('CREATE INDEX %I ON public.%I (%s)', index_name, of_table,
                       (SELECT string_agg(quote_ident(c), ', ') FROM unnest(of_columns) c));
    END IF;
END $$;

-- A column that came later, in a new database and in one of before.
CREATE OR REPLACE PROCEDURE ailydian_build_column(of_table text, called text, definition text)
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = format('public.%I', of_table)::regclass
                   AND attname = called AND NOT attisdropped) THEN
        EXECUTE format('ALTER TABLE public.%I ADD COLUMN %I %s', of_table, called, definition);
    END IF;
END $$;

-- A trigger's comment is its definition: that is how a changed one is noticed.
CREATE OR REPLACE PROCEDURE ailydian_build_trigger(of_table text, called text, definition text)
LANGUAGE plpgsql AS $$
DECLARE
    statement text := replace(definition, ' ON ROW ', format(' ON public.%I FOR EACH ROW ', of_table));
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger
                   WHERE tgrelid = format('public.%I', of_table)::regclass AND tgname = called
                     AND tgenabled = 'O'
                     AND obj_description(oid, 'pg_trigger') = statement) THEN
        EXECUTE format('DROP TRIGGER IF EXISTS %I ON public.%I', called, of_table);
        EXECUTE format('CREATE TRIGGER %I %s', called, statement);
        EXECUTE format('COMMENT ON TRIGGER %I ON public.%I IS %L', called, of_table, statement);
    END IF;
END $$;

-- `rule` is both what is seen and what may be written. The comment keeps what Postgres made of it,
-- so that a policy changed by hand is noticed as well.
CREATE OR REPLACE PROCEDURE ailydian_build_policy(of_table text, of_role text, rule text)
LANGUAGE plpgsql AS $$
DECLARE
    of_class regclass := format('public.%I', of_table)::regclass;
    stands boolean;
    made text;
BEGIN
    FOR attempt IN 1..2 LOOP
        SELECT obj_description(p.oid, 'pg_policy') = m.made, m.made INTO stands, made
        FROM pg_policy p CROSS JOIN LATERAL (
            SELECT format('%s, as %s', rule, md5(concat(
                p.polcmd, p.polpermissive, p.polroles::regrole[],
                pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))))
        ) m(made)
        WHERE p.polrelid = of_class AND p.polname = of_role;
        EXIT WHEN stands;
        IF attempt = 1 THEN
            EXECUTE format('DROP POLICY IF EXISTS %I ON %s', of_role, of_class);
            EXECUTE format('CREATE POLICY %I ON %s TO %I USING (%s) WITH CHECK (%s)',
                           of_role, of_class, of_role, rule, rule);
        ELSE
            EXECUTE format('COMMENT ON POLICY %I ON %s IS %L', of_role, of_class, made);
        END IF;
    END LOOP;
END $$;

-- Exactly these rights, no more: `rights` is a list such as 'SELECT, INSERT', or ''.
CREATE OR REPLACE PROCEDURE ailydian_build_grant(of_table text, of_role text, rights text)
LANGUAGE plpgsql AS $$
DECLARE
    wanted text[] := string_to_array(nullif(rights, ''), ', ');
    held text[];
BEGIN
    SELECT coalesce(array_agg(acl.privilege_type), '{}') INTO held
    FROM pg_class, aclexplode(relacl) acl
    WHERE oid = format('public.%I', of_table)::regclass AND acl.grantee = of_role::regrole;
    wanted := coalesce(wanted, '{}');
    IF NOT (held @> wanted AND held <@ wanted) THEN
        EXECUTE format('REVOKE ALL ON public.%I FROM %I', of_table, of_role);
        IF wanted <> '{}' THEN
            EXECUTE format('GRANT %s ON public.%I TO %I', rights, of_table, of_role);
        END IF;
    END IF;
END $$;

-- Row level security of one table. The owner's policy lets maintenance and the SECURITY DEFINER
-- functions see rows at all: FORCE binds the owner too. current_setting stands in a sub-select, so
-- it is read once a statement; a committed setting comes back as '', which is nobody's tenant.
CREATE OR REPLACE PROCEDURE ailydian_build_security(
    of_table text,
    app_rights text DEFAULT 'SELECT, INSERT, UPDATE, DELETE',
    app_rule text DEFAULT '"tenantId" = (SELECT nullif(current_setting(''app.tenant_id'', true), ''''))',
    of_platform boolean DEFAULT true
) LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (SELECT relrowsecurity AND relforcerowsecurity FROM pg_class
            WHERE oid = format('public.%I', of_table)::regclass) THEN
        EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', of_table);
        EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', of_table);
    END IF;
    CALL ailydian_build_policy(of_table, 'ailydian_owner', 'true');
    CALL ailydian_build_policy(of_table, 'ailydian_app', app_rule);
    CALL ailydian_build_grant(of_table, 'ailydian_app', app_rights);
    IF of_platform THEN
        CALL ailydian_build_policy(of_table, 'ailydian_platform', 'true');
        CALL ailydian_build_grant(of_table, 'ailydian_platform', 'SELECT, INSERT, UPDATE, DELETE');
    END IF;
END $$;

CREATE OR REPLACE PROCEDURE ailydian_build_touch(of_table text, of_columns text DEFAULT '')
LANGUAGE plpgsql AS $$
BEGIN
    CALL ailydian_build_trigger(of_table, 'touch', format(
        'BEFORE UPDATE%s ON ROW WHEN (NEW."updatedAt" = OLD."updatedAt") '
        'EXECUTE FUNCTION public.ailydian_touch()', of_columns));
END $$;

-- "tenantId" of a child: ALWAYS the parent's, whatever was sent. A parent of another tenant is as
-- good as missing: both give the same foreign key error, and no row can be hung onto another
-- tenant's. SECURITY DEFINER for the plan of this look-up, which every chunk pays: under the
-- tenant's policy the planner, without statistics, would as soon read all the tenant's parents as
-- take the primary key; under the owner's it has nothing else, and the tenant is compared after. A parent that changes its
-- tenant takes its children along. Where the platform keeps no foreign key (must_exist false) the
-- parent may be missing; the row then belongs to the session's tenant, or to nobody.
CREATE OR REPLACE PROCEDURE ailydian_build_child(
    child text, child_column text, parent text, must_exist boolean DEFAULT true
) LANGUAGE plpgsql AS $$
DECLARE
    tenant_of text := 'ailydian_tenant_of_' || lower(child);
    move text := 'ailydian_move_' || lower(child);
BEGIN
    EXECUTE format($f$
        CREATE OR REPLACE FUNCTION public.%1$I() RETURNS trigger LANGUAGE plpgsql
        SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $b$
        DECLARE
            found_tenant text;
            seen boolean;
        BEGIN
            SELECT "tenantId" INTO found_tenant FROM public.%3$I WHERE "id" = NEW.%4$I;
            seen := FOUND AND (current_setting('role') <> 'ailydian_app'
                OR found_tenant = nullif(current_setting('app.tenant_id', true), ''));
            IF seen IS NOT TRUE THEN
                %5$s
            END IF;
            IF NEW."tenantId" IS DISTINCT FROM found_tenant THEN
                IF NEW."tenantId" IS NOT NULL
                   AND (TG_OP = 'INSERT' OR NEW."tenantId" IS DISTINCT FROM OLD."tenantId") THEN
                    RAISE insufficient_privilege USING
                        MESSAGE = 'the tenantId sent for "%2$s" is not that of its "%3$s"';
                END IF;
                NEW."tenantId" := found_tenant;
            END IF;
            RETURN NEW;
        END $b$
    $f$, tenant_of, child, parent, child_column, CASE WHEN must_exist THEN format($f$
                RAISE foreign_key_violation USING
                    MESSAGE = 'insert or update on table "%1$s" violates foreign key constraint '
                              '"%1$s_%2$s_fkey"',
                    DETAIL = format('Key (%2$s)=(%%s) is not present in table "%3$s".', NEW.%2$I),
                    SCHEMA = 'public', TABLE = '%1$s', CONSTRAINT = '%1$s_%2$s_fkey';
    $f$, child, child_column, parent) ELSE $f$
                IF TG_OP = 'INSERT' THEN
                    NEW."tenantId" := coalesce(NEW."tenantId",
                                               nullif(current_setting('app.tenant_id', true), ''));
                END IF;
                RETURN NEW;
    $f$ END);
    CALL ailydian_build_trigger(child, 'tenant', format(
        'BEFORE INSERT OR UPDATE OF %I, "tenantId" ON ROW EXECUTE FUNCTION public.%I()',
        child_column, tenant_of));
    EXECUTE format($f$
        CREATE OR REPLACE FUNCTION public.%1$I() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, public, pg_temp AS $b$
        BEGIN
            UPDATE public.%2$I SET "tenantId" = NEW."tenantId"
            WHERE %3$I = NEW."id" AND "tenantId" IS DISTINCT FROM NEW."tenantId";
            RETURN NULL;
        END $b$
    $f$, move, child, child_column);
    -- AFTER UPDATE of anything: UPDATE OF would miss a tenant that a BEFORE trigger has changed.
    CALL ailydian_build_trigger(parent, 'move_' || lower(child), format(
        'AFTER UPDATE ON ROW WHEN (OLD."tenantId" IS DISTINCT FROM NEW."tenantId") '
        'EXECUTE FUNCTION public.%I()', move));
END $$;


-- ============================================================================================
-- Chapter 1: people and tenants
--
-- A person belongs to one tenant or, for the platform's own staff, to none. Rows without a tenant
-- are the platform's: workers never see them, `ailydian verify` counts them and
-- `ailydian tenant adopt` assigns them, by assigning their users, documents and workflows.
-- ============================================================================================

CREATE TABLE IF NOT EXISTS "Tenant" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "name"      TEXT NOT NULL,
    "slug"      TEXT NOT NULL UNIQUE,
    "tier"      "TenantTier" NOT NULL DEFAULT 'FREE',
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "updatedAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);

CREATE TABLE IF NOT EXISTS "User" (
    "id"           TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "email"        TEXT NOT NULL UNIQUE,
    "name"         TEXT,
    "passwordHash" TEXT NOT NULL,
    "role"         "UserRole" NOT NULL DEFAULT 'USER',
    "tenantId"     TEXT REFERENCES "Tenant" ("id") ON DELETE SET NULL ON UPDATE CASCADE,
    "createdAt"    TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "updatedAt"    TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);

CREATE TABLE IF NOT EXISTS "Session" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "userId"    TEXT NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "token"     TEXT NOT NULL UNIQUE,
    "ipAddress" TEXT,
    "userAgent" TEXT,
    "expiresAt" TIMESTAMP(3) NOT NULL,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"  TEXT
);

CREATE TABLE IF NOT EXISTS "ApiKey" (
    "id"         TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "userId"     TEXT NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "tenantId"   TEXT REFERENCES "Tenant" ("id") ON DELETE SET NULL ON UPDATE CASCADE,
    "name"       TEXT NOT NULL,
    "keyHash"    TEXT NOT NULL UNIQUE,
    "prefix"     TEXT NOT NULL,
    "scopes"     TEXT[] DEFAULT '{}',
    "expiresAt"  TIMESTAMP(3),
    "lastUsedAt" TIMESTAMP(3),
    "createdAt"  TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);

CREATE TABLE IF NOT EXISTS "UserPreference" (
    "id"             TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "userId"         TEXT NOT NULL UNIQUE
                     REFERENCES "User" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "preferredModel" TEXT,
    "temperature"    DOUBLE PRECISION,
    "maxTokens"      INTEGER,
    "customSettings" JSONB,
    "updatedAt"      TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"       TEXT
);

CALL ailydian_build_index('User', 'tenantId');
CALL ailydian_build_index('Session', 'userId');
CALL ailydian_build_index('ApiKey', 'userId');
CALL ailydian_build_index('ApiKey', 'tenantId');

-- Signing in ignores case; the plain unique key stays, the platform upserts by it.
DO $$
BEGIN
    IF to_regclass('public."User_email_lower_idx"') IS NULL THEN
        CREATE INDEX "User_email_lower_idx" ON "User" (lower("email"));
    END IF;
END $$;

CALL ailydian_build_touch('Tenant');
CALL ailydian_build_touch('User');
CALL ailydian_build_touch('UserPreference');
CALL ailydian_build_child('Session', 'userId', 'User');
CALL ailydian_build_child('UserPreference', 'userId', 'User');

-- An API key names its tenant itself, so only its user is looked at: it must be in sight.
CREATE OR REPLACE FUNCTION public.ailydian_user_in_sight() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM FROM public."User" WHERE "id" = NEW."userId";
    IF NOT FOUND THEN
        RAISE foreign_key_violation USING
            MESSAGE = 'insert or update on table "ApiKey" violates foreign key constraint '
                      '"ApiKey_userId_fkey"',
            DETAIL = format('Key (userId)=(%s) is not present in table "User".', NEW."userId"),
            SCHEMA = 'public', TABLE = 'ApiKey', CONSTRAINT = 'ApiKey_userId_fkey';
    END IF;
    RETURN NEW;
END $$;
CALL ailydian_build_trigger('ApiKey', 'user_in_sight',
    'BEFORE INSERT OR UPDATE OF "userId" ON ROW EXECUTE FUNCTION public.ailydian_user_in_sight()');

-- A tenant sees its own row and changes nothing in it; the relay knows all tenants by name.
CALL ailydian_build_security('Tenant', 'SELECT',
    '"id" = (SELECT nullif(current_setting(''app.tenant_id'', true), ''''))');
CALL ailydian_build_policy('Tenant', 'ailydian_relay', 'true');
DO $$
BEGIN
    IF NOT has_column_privilege('ailydian_relay', 'public."Tenant"', 'tier', 'SELECT') THEN
        GRANT SELECT ("id", "slug", "tier") ON "Tenant" TO ailydian_relay;
    END IF;
END $$;
CALL ailydian_build_security('User');
CALL ailydian_build_security('Session');
CALL ailydian_build_security('ApiKey');
CALL ailydian_build_security('UserPreference');

COMMENT ON TABLE "Tenant" IS 'A customer. Its tier sets quotas; its id names every row it owns.';
COMMENT ON TABLE "User" IS 'A person; the role decides what an API key of theirs may do.';
COMMENT ON TABLE "Session" IS 'A signed-in browser. Tokens we issue are stored hashed.';
COMMENT ON TABLE "ApiKey" IS 'A key for the HTTP door: hash only, with scopes and an expiry.';
COMMENT ON TABLE "UserPreference" IS 'What a person asks of the models: which, how warm, how long.';


-- ============================================================================================
-- Chapter 2: models and routing
--
-- Global by nature: one catalogue serves every tenant, and what is learnt about a model is a
-- figure, nobody's text. Workers read it all and keep its statistics; providers are set by people.
-- ============================================================================================

CREATE TABLE IF NOT EXISTS "AIProvider" (
    "id"      TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "name"    TEXT NOT NULL UNIQUE,
    "slug"    TEXT NOT NULL UNIQUE,
    "baseUrl" TEXT,
    "enabled" BOOLEAN NOT NULL DEFAULT true
);

CREATE TABLE IF NOT EXISTS "AIModel" (
    "id"            TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    -- NO ACTION where the platform says RESTRICT: PostgreSQL 18 gives RESTRICT a code it misreads.
    "providerId"    TEXT NOT NULL
                    REFERENCES "AIProvider" ("id") ON DELETE NO ACTION ON UPDATE CASCADE,
    "name"          TEXT NOT NULL,
    "slug"          TEXT NOT NULL UNIQUE,
    "contextWindow" INTEGER NOT NULL,
    "costPer1kIn"   NUMERIC(20, 8) NOT NULL,
    "costPer1kOut"  NUMERIC(20, 8) NOT NULL,
    "capabilities"  TEXT[] DEFAULT '{}',
    "avgLatencyMs"  INTEGER,
    "successRate"   DOUBLE PRECISION,
    "enabled"       BOOLEAN NOT NULL DEFAULT true
);

CREATE TABLE IF NOT EXISTS "RoutingScore" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "modelId"   TEXT NOT NULL REFERENCES "AIModel" ("id") ON DELETE NO ACTION ON UPDATE CASCADE,
    "intent"    TEXT NOT NULL,
    "score"     DOUBLE PRECISION NOT NULL,
    "pulls"     INTEGER NOT NULL DEFAULT 0,
    "wins"      INTEGER NOT NULL DEFAULT 0,
    "updatedAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    UNIQUE ("modelId", "intent")
);

CREATE TABLE IF NOT EXISTS "BanditArm" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "modelId"   TEXT NOT NULL,
    "intent"    TEXT NOT NULL,
    "pulls"     INTEGER NOT NULL DEFAULT 0,
    "rewards"   DOUBLE PRECISION NOT NULL DEFAULT 0,
    "alpha"     DOUBLE PRECISION NOT NULL DEFAULT 1,
    "beta"      DOUBLE PRECISION NOT NULL DEFAULT 1,
    "updatedAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    UNIQUE ("modelId", "intent")
);

CALL ailydian_build_index('AIProvider', 'enabled');
CALL ailydian_build_index('AIModel', 'providerId');
CALL ailydian_build_index('AIModel', 'enabled');
CALL ailydian_build_index('RoutingScore', 'intent');
CALL ailydian_build_index('BanditArm', 'intent');

CALL ailydian_build_touch('RoutingScore');
CALL ailydian_build_touch('BanditArm');

CALL ailydian_build_security('AIProvider', 'SELECT', 'true');
CALL ailydian_build_security('AIModel', 'SELECT, INSERT, UPDATE', 'true');
CALL ailydian_build_security('RoutingScore', 'SELECT, INSERT, UPDATE', 'true');
CALL ailydian_build_security('BanditArm', 'SELECT, INSERT, UPDATE', 'true');

COMMENT ON TABLE "AIProvider" IS 'A seller of models; disabled takes all of them out of routing.';
COMMENT ON TABLE "AIModel" IS 'A model: its price, its window and its rolling statistics.';
COMMENT ON TABLE "RoutingScore" IS 'How well a model serves an intent; routing picks by it.';
COMMENT ON TABLE "BanditArm" IS 'The global prior of a model for an intent, as a beta distribution.';


-- ============================================================================================
-- Chapter 3: conversations
--
-- Messages and what is judged, remembered and learnt from them. "Feedback", "ExplainabilityLog"
-- and "ModerationResult" name their message without a foreign key: the platform may write a row
-- whose message is gone. The keys are the platform's and global, so "queryHash" must be hashed
-- with the tenant in it: equal questions of two tenants are two rows.
-- ============================================================================================

CREATE TABLE IF NOT EXISTS "Conversation" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "userId"    TEXT NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "title"     TEXT,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "updatedAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"  TEXT
);

CREATE TABLE IF NOT EXISTS "Message" (
    "id"             TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "conversationId" TEXT NOT NULL
                     REFERENCES "Conversation" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "role"           "MessageRole" NOT NULL,
    "content"        TEXT NOT NULL,
    "modelId"        TEXT REFERENCES "AIModel" ("id") ON DELETE SET NULL ON UPDATE CASCADE,
    "tokensIn"       INTEGER,
    "tokensOut"      INTEGER,
    "latencyMs"      INTEGER,
    "cost"           NUMERIC(20, 8),
    "createdAt"      TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"       TEXT
);

CREATE TABLE IF NOT EXISTS "ConversationMetadata" (
    "id"             TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "conversationId" TEXT NOT NULL UNIQUE
                     REFERENCES "Conversation" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "tags"           TEXT[] DEFAULT '{}',
    "sentiment"      DOUBLE PRECISION,
    "topic"          TEXT,
    -- ours
    "tenantId"       TEXT
);

CREATE TABLE IF NOT EXISTS "MessageEmbedding" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "messageId" TEXT NOT NULL UNIQUE
                REFERENCES "Message" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "embedding" vector(1536) NOT NULL,
    "model"     TEXT NOT NULL,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"  TEXT
);

CREATE TABLE IF NOT EXISTS "QualityScore" (
    "id"             TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "messageId"      TEXT NOT NULL UNIQUE
                     REFERENCES "Message" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "estimatedScore" DOUBLE PRECISION NOT NULL,
    "actualScore"    DOUBLE PRECISION,
    "metrics"        JSONB,
    "createdAt"      TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"       TEXT
);

CREATE TABLE IF NOT EXISTS "Provenance" (
    "id"         TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "messageId"  TEXT NOT NULL UNIQUE
                 REFERENCES "Message" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "modelId"    TEXT NOT NULL,
    "inputHash"  TEXT NOT NULL,
    "outputHash" TEXT NOT NULL,
    "watermark"  TEXT,
    "citations"  JSONB,
    "createdAt"  TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"   TEXT
);

CREATE TABLE IF NOT EXISTS "Feedback" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "messageId" TEXT NOT NULL,
    "userId"    TEXT NOT NULL,
    "rating"    INTEGER NOT NULL,
    "comment"   TEXT,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"  TEXT
);

CREATE TABLE IF NOT EXISTS "ExplainabilityLog" (
    "id"         TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "messageId"  TEXT NOT NULL,
    "method"     TEXT NOT NULL,
    "features"   JSONB NOT NULL,
    "importance" JSONB NOT NULL,
    "createdAt"  TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"   TEXT
);

CREATE TABLE IF NOT EXISTS "ModerationResult" (
    "id"          TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "contentId"   TEXT NOT NULL,
    "contentType" TEXT NOT NULL,
    "flagged"     BOOLEAN NOT NULL,
    "categories"  TEXT[] DEFAULT '{}',
    "scores"      JSONB NOT NULL,
    "action"      TEXT,
    "createdAt"   TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"    TEXT
);

CREATE TABLE IF NOT EXISTS "SemanticCache" (
    "id"             TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "queryHash"      TEXT NOT NULL UNIQUE,
    "queryEmbedding" vector(1536) NOT NULL,
    "response"       TEXT NOT NULL,
    "modelId"        TEXT NOT NULL,
    "hitCount"       INTEGER NOT NULL DEFAULT 0,
    "expiresAt"      TIMESTAMP(3) NOT NULL,
    "createdAt"      TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "lastAccessedAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"       TEXT DEFAULT nullif(current_setting('app.tenant_id', true), '')
);

CREATE TABLE IF NOT EXISTS "TrainingExample" (
    "id"         TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "prompt"     TEXT NOT NULL,
    "completion" TEXT NOT NULL,
    "rating"     DOUBLE PRECISION NOT NULL,
    "source"     TEXT NOT NULL,
    "createdAt"  TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"   TEXT DEFAULT nullif(current_setting('app.tenant_id', true), '')
);

CALL ailydian_build_index('Conversation', 'userId');
CALL ailydian_build_index('Conversation', 'createdAt');
CALL ailydian_build_index('Message', 'conversationId');
CALL ailydian_build_index('Message', 'createdAt');
CALL ailydian_build_index('Message', 'modelId');
CALL ailydian_build_index('MessageEmbedding', 'model');
CALL ailydian_build_index('QualityScore', 'estimatedScore');
CALL ailydian_build_index('Provenance', 'inputHash');
CALL ailydian_build_index('Provenance', 'outputHash');
CALL ailydian_build_index('Feedback', 'messageId');
CALL ailydian_build_index('Feedback', 'userId');
CALL ailydian_build_index('Feedback', 'createdAt');
CALL ailydian_build_index('ExplainabilityLog', 'messageId');
CALL ailydian_build_index('ExplainabilityLog', 'method');
CALL ailydian_build_index('ModerationResult', 'contentId');
CALL ailydian_build_index('ModerationResult', 'flagged');
CALL ailydian_build_index('ModerationResult', 'createdAt');
CALL ailydian_build_index('SemanticCache', 'expiresAt');
CALL ailydian_build_index('SemanticCache', 'modelId');
CALL ailydian_build_index('SemanticCache', 'tenantId', 'modelId');
CALL ailydian_build_index('TrainingExample', 'rating');
CALL ailydian_build_index('TrainingExample', 'source');
CALL ailydian_build_index('TrainingExample', 'tenantId');

CALL ailydian_build_touch('Conversation', ' OF "id", "userId", "title", "createdAt", "updatedAt", "tenantId"');
CALL ailydian_build_child('Conversation', 'userId', 'User');
CALL ailydian_build_child('Message', 'conversationId', 'Conversation');
CALL ailydian_build_child('ConversationMetadata', 'conversationId', 'Conversation');
CALL ailydian_build_child('MessageEmbedding', 'messageId', 'Message');
CALL ailydian_build_child('QualityScore', 'messageId', 'Message');
CALL ailydian_build_child('Provenance', 'messageId', 'Message');
CALL ailydian_build_child('Feedback', 'messageId', 'Message', must_exist => false);
CALL ailydian_build_child('ExplainabilityLog', 'messageId', 'Message', must_exist => false);

CALL ailydian_build_security('Conversation');
CALL ailydian_build_security('Message');
CALL ailydian_build_security('ConversationMetadata');
CALL ailydian_build_security('MessageEmbedding');
CALL ailydian_build_security('QualityScore');
CALL ailydian_build_security('Provenance');
CALL ailydian_build_security('Feedback');
CALL ailydian_build_security('ExplainabilityLog');
CALL ailydian_build_security('ModerationResult');
CALL ailydian_build_security('SemanticCache');
CALL ailydian_build_security('TrainingExample');

COMMENT ON TABLE "Conversation" IS 'A thread of messages; updatedAt moves with the newest one.';
COMMENT ON TABLE "Message" IS 'One turn: what was said, by which model, at what cost.';
COMMENT ON TABLE "ConversationMetadata" IS 'Topic, tags and sentiment of a conversation.';
COMMENT ON TABLE "MessageEmbedding" IS 'The vector of a message, for recall, topics and the cache.';
COMMENT ON TABLE "QualityScore" IS 'How good an answer looked, and how good people found it.';
COMMENT ON TABLE "Provenance" IS 'Where an answer came from: hashes, citations, watermark.';
COMMENT ON TABLE "Feedback" IS 'A person''s rating of a message; the last one counts.';
COMMENT ON TABLE "ExplainabilityLog" IS 'Which features made a score, and by how much.';
COMMENT ON TABLE "ModerationResult" IS 'The verdict on a message, a document or a comment.';
COMMENT ON TABLE "SemanticCache" IS 'Answers given before, found by hash and then by nearness.';
COMMENT ON TABLE "TrainingExample" IS 'Good pairs of prompt and completion, for fine-tuning.';


-- ============================================================================================
-- Chapter 4: documents and vectors
--
-- A document, its chunks, and three things made from each chunk: the platform's vector of the
-- live model, our row for vector search and our row for text search.
--
-- "ChunkVector" is scanned whole for a tenant and model: bits first, by Hamming distance, then the
-- best by cosine. The halfvec is stored out of line (EXTERNAL), so that scan reads 0.4 kB a row.
--
-- "ChunkText" under row level security: `@@` is not leakproof, so a policy keeps the planner from
-- the GIN index and every row of the tenant is tried. Text search therefore goes through SECURITY
-- DEFINER functions owned by ailydian_owner, whose policy is `true`; they name the tenant
-- themselves, by app.tenant_id. Their plan is a bitmap scan of "ChunkText_tsv_idx"
-- (tests/integration/test_schema.py proves both plans).
-- ============================================================================================

CREATE TABLE IF NOT EXISTS "Document" (
    "id"             TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "tenantId"       TEXT,
    "title"          TEXT NOT NULL,
    "content"        TEXT NOT NULL,
    "source"         TEXT,
    "metadata"       JSONB,
    "createdAt"      TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "updatedAt"      TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "ingestKey"      TEXT,         -- 'source:<path>' or 'sha256:<hash>': what makes it this document
    "contentSha256"  TEXT,         -- of "content", UTF-8
    "kind"           TEXT,         -- markdown, html, pdf, ...
    "language"       TEXT,         -- tr, en, ...
    "ingestedAt"     TIMESTAMPTZ,
    "ingestedSha256" TEXT,         -- of the content that the chunks were made from
    "uploadSha256"   TEXT,         -- of the bytes that were submitted
    "submittedAt"    TIMESTAMPTZ,  -- when they were: the later of two submissions stays,
    "submittedJobId" TEXT,         -- and of two in one transaction the one published later
    "ingestVersion"  INTEGER NOT NULL DEFAULT 0,
    CONSTRAINT "Document_tenantId_ingestKey_key" UNIQUE ("tenantId", "ingestKey"),
    CONSTRAINT "Document_sha256_check"
        CHECK (length("contentSha256") = 64 AND length("ingestedSha256") = 64),
    CONSTRAINT "Document_ingested_check" CHECK (("ingestedAt" IS NULL) = ("ingestedSha256" IS NULL))
);

CREATE TABLE IF NOT EXISTS "DocumentChunk" (
    "id"            TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "documentId"    TEXT NOT NULL REFERENCES "Document" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "content"       TEXT NOT NULL,
    "chunkIndex"    INTEGER NOT NULL,
    -- ours
    "tenantId"      TEXT,
    "startOffset"   INTEGER,       -- Unicode code points: content[start:end] of the document
    "endOffset"     INTEGER,
    "tokenCount"    INTEGER,       -- cl100k_base
    "contentSha256" TEXT,
    "headings"      TEXT[],        -- the path of headings above the chunk, outermost first
    CONSTRAINT "DocumentChunk_tenantId_id_key" UNIQUE ("tenantId", "id"),
    CONSTRAINT "DocumentChunk_offsets_check"
        CHECK ("startOffset" >= 0 AND "endOffset" >= "startOffset"),
    CONSTRAINT "DocumentChunk_tokenCount_check" CHECK ("tokenCount" >= 0),
    CONSTRAINT "DocumentChunk_sha256_check" CHECK (length("contentSha256") = 64)
);

CREATE TABLE IF NOT EXISTS "ChunkEmbedding" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "chunkId"   TEXT NOT NULL UNIQUE
                REFERENCES "DocumentChunk" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "embedding" vector(1536) NOT NULL,
    "model"     TEXT NOT NULL,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"  TEXT
);

CREATE TABLE IF NOT EXISTS "ChunkVector" (
    "tenantId"   TEXT NOT NULL,
    "model"      TEXT NOT NULL,
    "chunkId"    TEXT NOT NULL,
    "documentId" TEXT NOT NULL,
    "bits"       bit(1536) NOT NULL,      -- signs after the fixed rotation
    "embedding"  halfvec(1536) NOT NULL,  -- as the model gave it, unit length
    PRIMARY KEY ("tenantId", "model", "chunkId"),
    FOREIGN KEY ("tenantId", "chunkId") REFERENCES "DocumentChunk" ("tenantId", "id")
        ON DELETE CASCADE ON UPDATE CASCADE
);

CREATE TABLE IF NOT EXISTS "ChunkText" (
    "tenantId"   TEXT NOT NULL,
    "chunkId"    TEXT NOT NULL,
    "documentId" TEXT NOT NULL,
    "language"   TEXT NOT NULL,
    "tsv"        tsvector NOT NULL,
    PRIMARY KEY ("tenantId", "chunkId"),
    FOREIGN KEY ("tenantId", "chunkId") REFERENCES "DocumentChunk" ("tenantId", "id")
        ON DELETE CASCADE ON UPDATE CASCADE
);

CALL ailydian_build_index('Document', 'tenantId');
CALL ailydian_build_index('Document', 'createdAt');
CALL ailydian_build_index('DocumentChunk', 'documentId');
CALL ailydian_build_index('DocumentChunk', 'tenantId', 'contentSha256');
CALL ailydian_build_index('ChunkEmbedding', 'model');
-- A deleted chunk must find its vectors, whatever their model.
CALL ailydian_build_index('ChunkVector', 'tenantId', 'chunkId');

DO $$
BEGIN
    IF to_regclass('public."ChunkText_tsv_idx"') IS NULL THEN
        CREATE INDEX "ChunkText_tsv_idx" ON "ChunkText" USING gin ("tsv");
        ALTER TABLE "ChunkVector" ALTER COLUMN "embedding" SET STORAGE EXTERNAL;
    END IF;
END $$;

-- Our columns are no change of the document: the platform's "updatedAt" stands still for them.
CALL ailydian_build_touch('Document', ' OF "tenantId", "title", "content", "source", "metadata"');
CALL ailydian_build_child('DocumentChunk', 'documentId', 'Document');
CALL ailydian_build_child('ChunkEmbedding', 'chunkId', 'DocumentChunk');

-- A document that changes its tenant gives up its key: the new tenant may hold the same source.
CREATE OR REPLACE FUNCTION public.ailydian_release_ingest_key() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    NEW."ingestKey" := NULL;
    RETURN NEW;
END $$;
CALL ailydian_build_trigger('Document', 'release_ingest_key',
    'BEFORE UPDATE OF "tenantId" ON ROW WHEN (OLD."tenantId" IS DISTINCT FROM NEW."tenantId" '
    'AND NEW."ingestKey" IS NOT DISTINCT FROM OLD."ingestKey") '
    'EXECUTE FUNCTION public.ailydian_release_ingest_key()');

-- A chunk that loses its tenant leaves our search. SECURITY DEFINER: the platform has no right on
-- these two tables, and what it may do to a document must not fail for that.
CREATE OR REPLACE FUNCTION public.ailydian_forget_chunk() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM public."ChunkVector"
    WHERE "tenantId" = OLD."tenantId" AND "chunkId" = OLD."id";
    DELETE FROM public."ChunkText"
    WHERE "tenantId" = OLD."tenantId" AND "chunkId" = OLD."id";
    RETURN NEW;
END $$;
CALL ailydian_build_trigger('DocumentChunk', 'tenant_forget',  -- fires after `tenant`: by name
    'BEFORE UPDATE OF "documentId", "tenantId" ON ROW '
    'WHEN (OLD."tenantId" IS NOT NULL AND NEW."tenantId" IS NULL) '
    'EXECUTE FUNCTION public.ailydian_forget_chunk()');

CALL ailydian_build_security('Document');
CALL ailydian_build_security('DocumentChunk');
CALL ailydian_build_security('ChunkEmbedding');
CALL ailydian_build_security('ChunkVector', of_platform => false);
CALL ailydian_build_security('ChunkText', of_platform => false);

-- search

-- Text as both sides of text search read it. Turkish capitals are lowered by hand, because no
-- server locale can be counted on to know that I is not i's capital; an English İ loses its dot.
-- `read/write` and `httpd.conf` would be one word each to the parser, a file and a host: they are
-- two. Nested replace() costs a tenth of translate().
CREATE OR REPLACE FUNCTION public.ailydian_lexemes(of_language text, content text)
RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE of_language
        WHEN 'tr' THEN to_tsvector('pg_catalog.turkish', replace(replace(words, 'I', 'ı'), 'İ', 'i'))
        ELSE to_tsvector('pg_catalog.english', replace(words, 'İ', 'i'))
    END
    FROM (SELECT replace(replace(replace(content, '.', ' '), '/', ' '), '’', ' ') AS words) spaced
$$;

-- The words of a chunk: those of its headings count as words of its text.
CREATE OR REPLACE FUNCTION public.ailydian_words(of_language text, headings text, content text)
RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT public.ailydian_lexemes(of_language, headings || E'\n' || content)
$$;

-- BM25 over the tenant's chunks that hold any word of a question, best first. Stop words are those
-- of the question's language; every other word is looked for as a Turkish and as an English one.
-- "share" is the score divided by the best a question could get: about 1 where a chunk holds all
-- its words, small where only some of them are common to both languages.
--
-- Cost is bounded by reach: a word of more chunks than that counts as if it were in the geometric
-- mean of reach and all of them, and alone it finds only chunks that hold the other words too.
-- ts_rank of one lexeme is sum(1/k^2, k = 1..tf) / (pi^2/6), so it tells tf; without and with
-- normalisation 2 it tells the length. SECURITY DEFINER, as the head of this chapter says.
CREATE OR REPLACE FUNCTION public.ailydian_search_text(
    question text[], of_language text, hits_max integer, reach integer DEFAULT 2000
) RETURNS TABLE ("chunkId" text, "share" double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    tenant text := nullif(current_setting('app.tenant_id', true), '');
    lexemes text[];   -- distinct, with their queries and weights beside them
    queries tsquery[];
    weights float8[];
    best float8;      -- the sum of the weights of all words, of the likelier language each
    any_of tsquery;   -- lexemes that few chunks hold
    all_of tsquery;   -- every word, in either language; NULL where any_of finds all
BEGIN
    IF tenant IS NULL THEN
        RAISE insufficient_privilege USING MESSAGE = 'text search needs app.tenant_id';
    END IF;
    WITH word AS MATERIALIZED (
        SELECT q.word, lexeme.language, lexeme.of_word
        FROM unnest(question) AS q (word),
        LATERAL (SELECT language, tsvector_to_array(ailydian_lexemes(language, q.word)) AS of_word
                 FROM unnest(ARRAY['tr', 'en']) AS language) lexeme
    ), kept AS MATERIALIZED (
        SELECT w.word, w.language, w.of_word FROM word w
        WHERE EXISTS (SELECT FROM word own WHERE own.word = w.word
                      AND own.language = of_language AND own.of_word <> '{}')
    ), known AS MATERIALIZED (
        SELECT l.lexeme, quoted.query, found.chunks
        FROM (SELECT DISTINCT unnest(of_word) AS lexeme FROM kept) l,
        LATERAL (SELECT ('''' || replace(replace(l.lexeme, '\', '\\'), '''', '''''') || '''')::tsquery
                 AS query) quoted,
        LATERAL (SELECT count(*) AS chunks FROM (
                     SELECT FROM "ChunkText" c
                     WHERE c."tenantId" = tenant AND c."tsv" @@ quoted.query LIMIT reach) f) found
    ), whole AS MATERIALIZED (
        SELECT count(*) AS chunks FROM (
            SELECT FROM "ChunkText" c WHERE c."tenantId" = tenant LIMIT 25 * reach) f
    ), weighed AS MATERIALIZED (
        SELECT k.lexeme, k.query, k.chunks, ln(1 + (w.chunks - n.chunks + 0.5) / (n.chunks + 0.5)) AS weight
        FROM known k, whole w,
        LATERAL (SELECT CASE WHEN k.chunks < reach THEN k.chunks::float8
                        ELSE sqrt(k.chunks::float8 * w.chunks) END AS chunks) n
    ), rare AS (
        SELECT k.query FROM (
            SELECT query, sum(chunks) OVER (ORDER BY chunks, lexeme) AS total,
                   row_number() OVER (ORDER BY chunks, lexeme) AS place
            FROM weighed WHERE chunks > 0) k
        WHERE k.total <= reach OR k.place = 1
    ), needed AS (
        SELECT k.word, string_agg(DISTINCT x.query::text, ' | ') AS either
        FROM kept k, unnest(k.of_word) AS l (lexeme)
        JOIN weighed x ON x.lexeme = l.lexeme
        GROUP BY k.word HAVING sum(x.chunks) > 0
    )
    SELECT array_agg(w.lexeme), array_agg(w.query), array_agg(w.weight),
           (SELECT sum(m.lighter) FROM (
                SELECT min(s.total) AS lighter FROM (
                    SELECT k.word, k.language, sum(x.weight) AS total
                    FROM kept k, unnest(k.of_word) AS l (lexeme)
                    JOIN weighed x ON x.lexeme = l.lexeme GROUP BY k.word, k.language) s
                GROUP BY s.word) m),
           (SELECT string_agg(r.query::text, ' | ')::tsquery FROM rare r),
           CASE WHEN sum(w.chunks) > reach
                THEN (SELECT string_agg('(' || n.either || ')', ' & ')::tsquery FROM needed n) END
    INTO lexemes, queries, weights, best, any_of, all_of
    FROM weighed w WHERE w.chunks > 0;

    RETURN QUERY
    WITH hit AS MATERIALIZED (
        (SELECT c."chunkId" AS id, c."tsv" || ''::tsvector AS words  -- a copy is detoasted once
         FROM "ChunkText" c WHERE c."tenantId" = tenant AND c."tsv" @@ all_of LIMIT reach)
        UNION ALL
        (SELECT c."chunkId", c."tsv" || ''::tsvector
         FROM "ChunkText" c WHERE c."tenantId" = tenant AND c."tsv" @@ any_of
         AND (all_of IS NULL OR NOT c."tsv" @@ all_of) LIMIT reach)
    ), measured AS MATERIALIZED (
        SELECT h.id, h.words, ts_rank('{1,1,1,1}', h.words, o.query)
                     / ts_rank('{1,1,1,1}', h.words, o.query, 2) AS length
        FROM hit h, LATERAL (SELECT q.query FROM unnest(queries) AS q (query)
                             WHERE h.words @@ q.query LIMIT 1) o
    ), average AS MATERIALIZED (
        SELECT avg(m.length) AS length FROM measured m
    )
    SELECT m.id, s.score / (2.2 * greatest(best, 1e-9))
    FROM measured m, average a,
    LATERAL (
        SELECT sum(l.weight * 2.2 * t.tf / (t.tf + 1.2 * (0.25 + 0.75 * m.length / a.length))) AS score
        FROM unnest(queries, weights) AS l (query, weight),
        LATERAL (SELECT ts_rank('{1,1,1,1}', m.words, l.query)::float8 AS rank OFFSET 0) r,
        LATERAL (SELECT 0.6079271 / (1.000001 - r.rank) - 0.5 AS tf) t
        WHERE r.rank > 0
    ) s
    ORDER BY s.score DESC, m.id LIMIT hits_max;
END $$;

DO $$
BEGIN
    IF has_function_privilege('ailydian_audit_reader',
            'public.ailydian_search_text(text[], text, integer, integer)', 'EXECUTE') THEN
        REVOKE ALL ON FUNCTION public.ailydian_search_text(text[], text, integer, integer) FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION public.ailydian_search_text(text[], text, integer, integer)
            TO ailydian_app;
    END IF;
END $$;

COMMENT ON TABLE "Document" IS 'A text of a tenant, as extracted; its chunks quote it by offsets.';
COMMENT ON TABLE "DocumentChunk" IS 'A piece of a document, at most so many tokens long.';
COMMENT ON TABLE "ChunkEmbedding" IS 'The live model''s vector of a chunk, as the platform reads it.';
COMMENT ON TABLE "ChunkVector" IS 'What vector search reads: bits and halfvec, one row a model.';
COMMENT ON TABLE "ChunkText" IS 'What text search reads: the words of a chunk, in its language.';


-- ============================================================================================
-- Chapter 5: audit, keys, trust, privacy
--
-- Append-only binds our roles by grants: ailydian_app may add audit rows and read its own, no
-- more. The platform's rights stay whole, and deleting a tenant leaves its audit rows behind with
-- "tenantId" NULL, as the foreign key says.
-- ============================================================================================

CREATE TABLE IF NOT EXISTS "AuditLog" (
    "id"         TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "tenantId"   TEXT REFERENCES "Tenant" ("id") ON DELETE SET NULL ON UPDATE CASCADE,
    "userId"     TEXT,
    "action"     TEXT NOT NULL,
    "resource"   TEXT NOT NULL,
    "resourceId" TEXT,
    "ipAddress"  TEXT,
    "userAgent"  TEXT,
    "metadata"   JSONB,
    "createdAt"  TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);

CREATE TABLE IF NOT EXISTS "EncryptionKey" (
    "id"           TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "keyId"        TEXT NOT NULL UNIQUE,
    "version"      INTEGER NOT NULL,
    "algorithm"    TEXT NOT NULL,
    "encryptedDek" TEXT NOT NULL,
    "createdAt"    TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "rotatedAt"    TIMESTAMP(3),
    -- ours
    "tenantId"     TEXT DEFAULT nullif(current_setting('app.tenant_id', true), '')
);

CREATE TABLE IF NOT EXISTS "TrustScore" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "userId"    TEXT NOT NULL UNIQUE,
    "score"     DOUBLE PRECISION NOT NULL,
    "factors"   JSONB NOT NULL,
    "updatedAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"  TEXT
);

CREATE TABLE IF NOT EXISTS "DSARRequest" (
    "id"          TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "userId"      TEXT NOT NULL,
    "type"        "DSARType" NOT NULL,
    "status"      "DSARStatus" NOT NULL,
    "data"        JSONB,
    "requestedAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "completedAt" TIMESTAMP(3),
    -- ours
    "tenantId"    TEXT
);

CALL ailydian_build_index('AuditLog', 'tenantId');
CALL ailydian_build_index('AuditLog', 'userId');
CALL ailydian_build_index('AuditLog', 'createdAt');
CALL ailydian_build_index('AuditLog', 'action');
CALL ailydian_build_index('AuditLog', 'tenantId', 'createdAt');
CALL ailydian_build_index('EncryptionKey', 'tenantId');
CALL ailydian_build_index('TrustScore', 'score');
CALL ailydian_build_index('DSARRequest', 'userId');
CALL ailydian_build_index('DSARRequest', 'status');

CALL ailydian_build_touch('TrustScore');
CALL ailydian_build_child('TrustScore', 'userId', 'User', must_exist => false);
CALL ailydian_build_child('DSARRequest', 'userId', 'User', must_exist => false);

CALL ailydian_build_security('AuditLog', 'SELECT, INSERT');
CALL ailydian_build_policy('AuditLog', 'ailydian_audit_reader', 'true');
CALL ailydian_build_grant('AuditLog', 'ailydian_audit_reader', 'SELECT');
CALL ailydian_build_security('EncryptionKey');
CALL ailydian_build_security('TrustScore');
CALL ailydian_build_security('DSARRequest');

COMMENT ON TABLE "AuditLog" IS 'Who did what to which thing; append-only for our roles.';
COMMENT ON TABLE "EncryptionKey" IS 'A data key, wrapped by the master key; without it, no secrets.';
COMMENT ON TABLE "TrustScore" IS 'How far a person is trusted, with the factors that add up to it.';
COMMENT ON TABLE "DSARRequest" IS 'A person''s request for access, copy, correction or deletion.';


-- ============================================================================================
-- Chapter 6: money
--
-- NUMERIC(20,8), never a float: prices per thousand tokens need the eight places. Wallet entries
-- are append-only for our roles, by grants, as the audit log is.
-- ============================================================================================

CREATE TABLE IF NOT EXISTS "Budget" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "tenantId"  TEXT NOT NULL REFERENCES "Tenant" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "name"      TEXT NOT NULL,
    "limitUsd"  NUMERIC(20, 8) NOT NULL,
    "spentUsd"  NUMERIC(20, 8) NOT NULL DEFAULT 0,
    "period"    "BudgetPeriod" NOT NULL,
    "resetAt"   TIMESTAMP(3) NOT NULL,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);

CREATE TABLE IF NOT EXISTS "Wallet" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "userId"    TEXT NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "balance"   NUMERIC(20, 8) NOT NULL DEFAULT 0,
    "currency"  TEXT NOT NULL DEFAULT 'USD',
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "updatedAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"  TEXT
);

CREATE TABLE IF NOT EXISTS "WalletTransaction" (
    "id"          TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "walletId"    TEXT NOT NULL REFERENCES "Wallet" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "amount"      NUMERIC(20, 8) NOT NULL,
    "type"        "TransactionType" NOT NULL,
    "description" TEXT,
    "createdAt"   TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"    TEXT
);

CALL ailydian_build_index('Budget', 'tenantId');
CALL ailydian_build_index('Wallet', 'userId');
CALL ailydian_build_index('WalletTransaction', 'walletId');
CALL ailydian_build_index('WalletTransaction', 'createdAt');

CALL ailydian_build_touch('Wallet');
CALL ailydian_build_child('Wallet', 'userId', 'User');
CALL ailydian_build_child('WalletTransaction', 'walletId', 'Wallet');

CALL ailydian_build_security('Budget');
CALL ailydian_build_security('Wallet');
CALL ailydian_build_security('WalletTransaction', 'SELECT, INSERT');

COMMENT ON TABLE "Budget" IS 'What a tenant may spend in a period; every paid call asks it first.';
COMMENT ON TABLE "Wallet" IS 'A person''s balance: always the sum of its entries.';
COMMENT ON TABLE "WalletTransaction" IS 'One entry of a wallet; append-only for our roles.';


-- ============================================================================================
-- Chapter 7: workflows, incidents, replicated state, changes
--
-- "PlatformChange" lists rows that the platform has written and that may need work: triggers fill
-- it for every writer but our own roles, a sweep turns its rows into jobs and deletes them.
-- ============================================================================================

-- Tables of an earlier version get what they lack.
DO $$
BEGIN
    IF to_regclass('public."WorkflowStep"') IS NULL OR EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = to_regclass('public."WorkflowStep"') AND attname = 'openNeeds') THEN
        RETURN;
    END IF;
    ALTER TABLE "Workflow" ADD COLUMN "version" INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE "WorkflowRun" ADD COLUMN "versionId" TEXT, ADD COLUMN "state" TEXT,
        ADD COLUMN "key" TEXT, ADD COLUMN "concurrencyKey" TEXT, ADD COLUMN "parentStepId" TEXT,
        ADD COLUMN "depth" SMALLINT NOT NULL DEFAULT 0, ADD COLUMN "forkOf" TEXT,
        ADD COLUMN "endsOpen" INTEGER, ADD COLUMN "failedStepId" TEXT,
        ADD COLUMN "fingerprint" TEXT, ADD COLUMN "producer" TEXT, ADD COLUMN "traceparent" TEXT,
        SET (fillfactor = 70);
    ALTER TABLE "WorkflowStep" ADD COLUMN "position" INTEGER, ADD COLUMN "itemIndex" INTEGER,
        ADD COLUMN "item" JSONB, ADD COLUMN "state" TEXT,
        ADD COLUMN "openNeeds" INTEGER NOT NULL DEFAULT 0,
        ADD COLUMN "liveNeeds" INTEGER NOT NULL DEFAULT 0, ADD COLUMN "items" INTEGER,
        ADD COLUMN "openItems" INTEGER, ADD COLUMN "nextItem" INTEGER,
        ADD COLUMN "attempt" INTEGER NOT NULL DEFAULT 0, ADD COLUMN "jobId" TEXT,
        ADD COLUMN "fence" BIGINT, ADD COLUMN "fingerprint" TEXT, ADD COLUMN "progress" REAL,
        ADD COLUMN "note" TEXT, SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
END $$;

CREATE TABLE IF NOT EXISTS "Workflow" (
    "id"          TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "name"        TEXT NOT NULL,
    "description" TEXT,
    "dag"         JSONB NOT NULL,
    "createdAt"   TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "updatedAt"   TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"    TEXT DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "version"     INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE IF NOT EXISTS "WorkflowRun" (
    "id"          TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "workflowId"  TEXT NOT NULL REFERENCES "Workflow" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "status"      "WorkflowStatus" NOT NULL,
    "input"       JSONB,
    "output"      JSONB,
    "error"       TEXT,
    "startedAt"   TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "completedAt" TIMESTAMP(3),
    -- ours, of the engine (chapter 9)
    "tenantId"       TEXT,
    "versionId"      TEXT,
    "state"          TEXT,
    "key"            TEXT,
    "concurrencyKey" TEXT,
    "parentStepId"   TEXT,
    "depth"          SMALLINT NOT NULL DEFAULT 0,
    "forkOf"         TEXT,
    "endsOpen"       INTEGER,
    "failedStepId"   TEXT,
    "fingerprint"    TEXT,
    "producer"       TEXT,
    "traceparent"    TEXT
) WITH (fillfactor = 70);

CREATE TABLE IF NOT EXISTS "WorkflowStep" (
    "id"          TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "runId"       TEXT NOT NULL REFERENCES "WorkflowRun" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "stepName"    TEXT NOT NULL,
    "status"      "WorkflowStatus" NOT NULL,
    "input"       JSONB,
    "output"      JSONB,
    "error"       TEXT,
    "startedAt"   TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "completedAt" TIMESTAMP(3),
    -- ours, of the engine (chapter 9)
    "tenantId"    TEXT,
    "position"    INTEGER,
    "itemIndex"   INTEGER,
    "item"        JSONB,
    "state"       TEXT,
    "openNeeds"   INTEGER NOT NULL DEFAULT 0,
    "liveNeeds"   INTEGER NOT NULL DEFAULT 0,
    "items"       INTEGER,
    "openItems"   INTEGER,
    "nextItem"    INTEGER,
    "attempt"     INTEGER NOT NULL DEFAULT 0,
    "jobId"       TEXT,
    "fence"       BIGINT,
    "fingerprint" TEXT,
    "progress"    REAL,
    "note"        TEXT
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);

CREATE TABLE IF NOT EXISTS "Incident" (
    "id"          TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "title"       TEXT NOT NULL,
    "description" TEXT NOT NULL,
    "severity"    "IncidentSeverity" NOT NULL,
    "status"      "IncidentStatus" NOT NULL,
    "detectedAt"  TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "resolvedAt"  TIMESTAMP(3),
    -- ours
    "tenantId"    TEXT DEFAULT nullif(current_setting('app.tenant_id', true), '')
);

CREATE TABLE IF NOT EXISTS "CRDTState" (
    "id"           TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "resourceType" TEXT NOT NULL,
    "resourceId"   TEXT NOT NULL,
    "nodeId"       TEXT NOT NULL,
    "hlc"          TEXT NOT NULL,
    "state"        JSONB NOT NULL,
    "updatedAt"    TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"     TEXT DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    UNIQUE ("resourceType", "resourceId", "nodeId")
);

CREATE TABLE IF NOT EXISTS "PlatformChange" (
    "tenantId"  TEXT NOT NULL,
    "id"        TEXT NOT NULL DEFAULT ailydian_new_id(),
    "tableName" TEXT NOT NULL,
    "rowId"     TEXT NOT NULL,
    "operation" TEXT NOT NULL,
    "changedAt" TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY ("tenantId", "id"),
    CONSTRAINT "PlatformChange_operation_check" CHECK ("operation" IN ('INSERT', 'UPDATE'))
);

CALL ailydian_build_index('Workflow', 'name');
CALL ailydian_build_index('Workflow', 'tenantId');
CALL ailydian_build_index('WorkflowRun', 'workflowId');
CALL ailydian_build_index('WorkflowRun', 'status');
CALL ailydian_build_index('WorkflowStep', 'runId');
CALL ailydian_build_index('Incident', 'status');
CALL ailydian_build_index('Incident', 'severity');
CALL ailydian_build_index('Incident', 'detectedAt');
CALL ailydian_build_index('CRDTState', 'resourceType', 'resourceId');
CALL ailydian_build_index('CRDTState', 'hlc');
CALL ailydian_build_index('PlatformChange', 'changedAt');

CALL ailydian_build_touch('Workflow');
CALL ailydian_build_touch('CRDTState');
CALL ailydian_build_child('WorkflowRun', 'workflowId', 'Workflow');
CALL ailydian_build_child('WorkflowStep', 'runId', 'WorkflowRun');

-- "ModerationResult" names its content by kind and id; its tenant is that of the content, where
-- the kind is one of ours and the content is in sight.
CREATE OR REPLACE FUNCTION public.ailydian_tenant_of_moderationresult() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    found_tenant text;
BEGIN
    CASE lower(NEW."contentType")
        WHEN 'message' THEN
            SELECT "tenantId" INTO found_tenant FROM public."Message" WHERE "id" = NEW."contentId";
        WHEN 'document' THEN
            SELECT "tenantId" INTO found_tenant FROM public."Document" WHERE "id" = NEW."contentId";
        WHEN 'feedback' THEN
            SELECT "tenantId" INTO found_tenant FROM public."Feedback" WHERE "id" = NEW."contentId";
        ELSE NULL;
    END CASE;
    IF found_tenant IS NULL THEN
        IF TG_OP = 'INSERT' THEN
            NEW."tenantId" := coalesce(NEW."tenantId",
                                       nullif(current_setting('app.tenant_id', true), ''));
        END IF;
    ELSIF NEW."tenantId" IS DISTINCT FROM found_tenant THEN
        IF NEW."tenantId" IS NOT NULL
           AND (TG_OP = 'INSERT' OR NEW."tenantId" IS DISTINCT FROM OLD."tenantId") THEN
            RAISE insufficient_privilege USING
                MESSAGE = 'the tenantId sent for "ModerationResult" is not that of its content';
        END IF;
        NEW."tenantId" := found_tenant;
    END IF;
    RETURN NEW;
END $$;
CALL ailydian_build_trigger('ModerationResult', 'tenant',
    'BEFORE INSERT OR UPDATE OF "contentId", "contentType", "tenantId" ON ROW '
    'EXECUTE FUNCTION public.ailydian_tenant_of_moderationresult()');

CREATE OR REPLACE FUNCTION public.ailydian_move_moderationresult() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    UPDATE public."ModerationResult" SET "tenantId" = NEW."tenantId"
    WHERE "contentId" = NEW."id" AND lower("contentType") = lower(TG_TABLE_NAME)
      AND "tenantId" IS DISTINCT FROM NEW."tenantId";
    RETURN NULL;
END $$;

-- The platform's changes. SECURITY DEFINER, because its role has no right on our tables.
CREATE OR REPLACE FUNCTION public.ailydian_note_change() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO public."PlatformChange" ("tenantId", "tableName", "rowId", "operation")
    VALUES (NEW."tenantId", TG_TABLE_NAME, NEW."id", TG_OP);
    RETURN NULL;
END $$;

DO $$
DECLARE
    -- Asked first in every WHEN: our own writers pay for one comparison of names, no more.
    not_ours constant text :=
        $w$current_user NOT IN ('ailydian_app', 'ailydian_owner', 'ailydian_relay')$w$;
    watched record;
BEGIN
    FOR watched IN SELECT * FROM (VALUES
        ('Document', 'OLD."content" IS DISTINCT FROM NEW."content" '
                     'OR OLD."title" IS DISTINCT FROM NEW."title"'),
        ('Message', 'OLD."content" IS DISTINCT FROM NEW."content"'),
        ('Feedback', 'OLD."rating" IS DISTINCT FROM NEW."rating" '
                     'OR OLD."comment" IS DISTINCT FROM NEW."comment"')
    ) AS tables(name, changed) LOOP
        CALL ailydian_build_trigger(watched.name, 'move_moderationresult',
            'AFTER UPDATE ON ROW WHEN (OLD."tenantId" IS DISTINCT FROM NEW."tenantId") '
            'EXECUTE FUNCTION public.ailydian_move_moderationresult()');
        CALL ailydian_build_trigger(watched.name, 'note_insert', format(
            'AFTER INSERT ON ROW WHEN (%s AND NEW."tenantId" IS NOT NULL) '
            'EXECUTE FUNCTION public.ailydian_note_change()', not_ours));
        CALL ailydian_build_trigger(watched.name, 'note_update', format(
            'AFTER UPDATE ON ROW WHEN (NEW."tenantId" IS NOT NULL '
            'AND (OLD."tenantId" IS DISTINCT FROM NEW."tenantId" OR (%s AND (%s)))) '
            'EXECUTE FUNCTION public.ailydian_note_change()', not_ours, watched.changed));
    END LOOP;
END $$;

CALL ailydian_build_security('Workflow');
CALL ailydian_build_security('WorkflowRun');
CALL ailydian_build_security('WorkflowStep');
CALL ailydian_build_security('Incident');
CALL ailydian_build_security('CRDTState');
CALL ailydian_build_security('PlatformChange', 'SELECT, DELETE', of_platform => false);
-- UPDATE is what FOR UPDATE SKIP LOCKED asks for.
CALL ailydian_build_policy('PlatformChange', 'ailydian_relay', 'true');
CALL ailydian_build_grant('PlatformChange', 'ailydian_relay', 'SELECT, UPDATE, DELETE');

CREATE TABLE IF NOT EXISTS "LiveModel" (
    "tenantId"  TEXT PRIMARY KEY DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "model"     TEXT NOT NULL,
    "flippedAt" TIMESTAMPTZ NOT NULL DEFAULT now()
);
COMMENT ON TABLE "LiveModel" IS
    'Whose vectors a tenant''s search reads, where that is not the settings'' model: one row.';
CALL ailydian_build_security('LiveModel', of_platform => false);

COMMENT ON TABLE "Workflow" IS 'A definition: a graph of steps, checked before it may run.';
COMMENT ON TABLE "WorkflowRun" IS 'One run of a workflow: its input, its state, its output.';
COMMENT ON TABLE "WorkflowStep" IS 'One step of a run; a mapped step has one row an item.';
COMMENT ON TABLE "Incident" IS 'Something is wrong: opened once a cause, closed when it is gone.';
COMMENT ON TABLE "CRDTState" IS 'State that regions merge, one row a node, by hybrid logical clock.';
COMMENT ON TABLE "PlatformChange" IS 'Rows the platform wrote that may need work; a sweep empties it.';


-- ============================================================================================
-- Chapter 8: the job ledger
--
-- One row of "Job" is one piece of accepted work; an INSERT into it is the whole contract for
-- whoever publishes, in Python or in SQL. Where a job is on its way is told by where its other
-- row lies, and each waiting or running job has exactly one:
--
--     "JobOutbox"   waiting: to be due, and for its turn          state PENDING
--     "JobFlight"   woken up in Redis, or running under a lease   state PENDING, then RUNNING
--     neither       ended                                         COMPLETED, DEAD, CANCELLED
--
-- "Job" has no index on a column that changes, so that its transitions stay HOT (fillfactor 50
-- leaves them room on the page); the two small tables carry the indexes that find work. `fence`
-- grows with each claim: an attempt may write only while the fence it was given still stands.
-- Times here are Postgres's own: no other clock decides a lease, a delay or a retry.
--
-- In the outbox a lane is what waits in one order: a queue, a tenant, a kind, a limit key and a
-- priority. Fair shares, holds and limits look at lanes, never at the rows behind their heads.
-- "JobEvent" notes every ending in the transaction that ends; batches, figures, followers and
-- retention read it by position, so that none of them needs an index on the ledger.
-- ============================================================================================

-- A ledger of an earlier version gets what it lacks.
DO $$
BEGIN
    IF to_regclass('public."Job"') IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = to_regclass('public."Job"') AND attname = 'timeLimitS') THEN
        ALTER TABLE "Job" ADD COLUMN "timeLimitS" REAL, ADD COLUMN "backoffS" REAL;
        ALTER TABLE "JobAttempt" ADD COLUMN "stepId" TEXT;
    END IF;
    IF to_regclass('public."Job"') IS NULL OR EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = to_regclass('public."Job"') AND attname = 'limitKey') THEN
        RETURN;
    END IF;
    ALTER TABLE "Job" ADD COLUMN "limitKey" TEXT NOT NULL DEFAULT '',
        ADD COLUMN "cost" INTEGER NOT NULL DEFAULT 1, ADD COLUMN "batchId" TEXT,
        ADD COLUMN "producer" TEXT, ADD COLUMN "traceparent" TEXT;
    ALTER TABLE "JobOutbox" ADD COLUMN "job" TEXT, ADD COLUMN "limitKey" TEXT NOT NULL DEFAULT '',
        ADD COLUMN "priority" SMALLINT NOT NULL DEFAULT 0,
        ADD COLUMN "cost" INTEGER NOT NULL DEFAULT 1;
    UPDATE "Job" SET "priority" = greatest(-9, least(9, "priority"))
    WHERE "priority" NOT BETWEEN -9 AND 9;
    UPDATE "JobOutbox" o SET "job" = j."job", "priority" = j."priority"
    FROM "Job" j WHERE j."id" = o."jobId";
    ALTER TABLE "JobOutbox" ALTER COLUMN "job" SET NOT NULL, DROP CONSTRAINT "JobOutbox_pkey",
        ADD PRIMARY KEY ("queue", "tenantId", "job", "limitKey", "priority", "dueAt", "seq");
    ALTER TABLE "JobFlight" ADD COLUMN "job" TEXT NOT NULL DEFAULT '',
        ADD COLUMN "limitKey" TEXT NOT NULL DEFAULT '';
    ALTER TABLE "JobAttempt" ADD COLUMN "signal" TEXT, ADD COLUMN "exitCode" INTEGER,
        ADD COLUMN "peakBytes" BIGINT, ADD COLUMN "fingerprint" TEXT;
    ALTER TABLE "DeadLetter" ADD COLUMN "edits" JSONB NOT NULL DEFAULT '[]';
    ALTER TABLE "Quarantine" ADD COLUMN "source" TEXT NOT NULL DEFAULT 'wakeup',
        ADD COLUMN "seen" BIGINT NOT NULL DEFAULT 1,
        ADD COLUMN "seenAt" TIMESTAMPTZ NOT NULL DEFAULT now(),
        ADD COLUMN "edits" JSONB NOT NULL DEFAULT '[]';
    ALTER TABLE "WorkerProcess" ADD COLUMN "role" TEXT NOT NULL DEFAULT 'worker',
        ADD COLUMN "figures" JSONB NOT NULL DEFAULT '{}';
    ALTER TABLE "QueueState" DROP COLUMN "paused",
        ADD COLUMN "keepDone" INTERVAL NOT NULL DEFAULT '30 days',
        ADD COLUMN "keepDead" INTERVAL NOT NULL DEFAULT '180 days',
        ADD COLUMN "keepQuarantined" INTERVAL NOT NULL DEFAULT '30 days';
END $$;

CREATE TABLE IF NOT EXISTS "SchemaMigration" (
    "version"   TEXT PRIMARY KEY,
    "sha256"    TEXT NOT NULL,
    "appliedAt" TIMESTAMPTZ NOT NULL DEFAULT now()
);
COMMENT ON TABLE "SchemaMigration" IS 'Which versions of the schema this database has received.';

CREATE TABLE IF NOT EXISTS "JobKind" (
    "job"           TEXT PRIMARY KEY,
    "queue"         TEXT NOT NULL,
    "schemaVersion" INTEGER NOT NULL,
    "attemptsMax"   INTEGER NOT NULL,
    CONSTRAINT "JobKind_attemptsMax_check" CHECK ("attemptsMax" > 0)
);
COMMENT ON TABLE "JobKind" IS
    'The contracts of shared/contracts.py, written by migrate: SQL publishers need name no queue.';

CREATE TABLE IF NOT EXISTS "QueueState" (
    "queue"           TEXT PRIMARY KEY,
    "depth"           BIGINT NOT NULL DEFAULT 0,
    "depthMax"        BIGINT NOT NULL DEFAULT 5000000,
    "measuredAt"      TIMESTAMPTZ NOT NULL DEFAULT now(),
    "keepDone"        INTERVAL NOT NULL DEFAULT '30 days',
    "keepDead"        INTERVAL NOT NULL DEFAULT '180 days',
    "keepQuarantined" INTERVAL NOT NULL DEFAULT '30 days'
);
COMMENT ON TABLE "QueueState" IS
    'The depth of a queue as the relay last counted it, and how long what has ended is kept.';

CREATE TABLE IF NOT EXISTS "JobHold" (
    "id"       TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "queue"    TEXT,
    "tenantId" TEXT,
    "job"      TEXT,
    "heldBy"   TEXT NOT NULL,
    "heldAt"   TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT "JobHold_scope_check" CHECK (num_nonnulls("queue", "tenantId", "job") > 0)
);
COMMENT ON TABLE "JobHold" IS
    'What is paused: a queue, a tenant, a kind of job, or where the named ones meet.';

CREATE TABLE IF NOT EXISTS "JobLimit" (
    "id"             TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "tenantId"       TEXT,
    "tier"           TEXT,
    "job"            TEXT,
    "perKey"         BOOLEAN NOT NULL DEFAULT false,
    "concurrencyMax" INTEGER,
    "ratePerS"       DOUBLE PRECISION,
    "burst"          DOUBLE PRECISION NOT NULL DEFAULT 1,
    "unit"           TEXT NOT NULL DEFAULT 'jobs',
    "setAt"          TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT "JobLimit_scope_check"
        CHECK (num_nonnulls("tenantId", "tier") < 2 AND num_nonnulls("tenantId", "tier", "job") > 0),
    CONSTRAINT "JobLimit_amount_check"
        CHECK (num_nonnulls("concurrencyMax", "ratePerS") > 0 AND "concurrencyMax" > 0
               AND "ratePerS" > 0 AND "burst" > 0),
    CONSTRAINT "JobLimit_unit_check" CHECK ("unit" IN ('jobs', 'cost'))
);
COMMENT ON TABLE "JobLimit" IS
    'How much may run at once or start a second: of a tenant, of each tenant of a tier, of a kind of '
    'job, or of each limit key among these. A tenant''s own takes the place of its tier''s.';

CREATE TABLE IF NOT EXISTS "JobLimitUse" (
    "limitId"    TEXT NOT NULL REFERENCES "JobLimit" ("id") ON DELETE CASCADE,
    "tenantId"   TEXT NOT NULL,
    "limitKey"   TEXT NOT NULL,
    "spentUntil" TIMESTAMPTZ NOT NULL,
    PRIMARY KEY ("limitId", "tenantId", "limitKey")
) WITH (fillfactor = 50);
COMMENT ON TABLE "JobLimitUse" IS 'Until when a rate is spent: one time per counter.';

DO $$
BEGIN
    IF to_regclass('public."JobHold_scope_key"') IS NULL THEN
        CREATE UNIQUE INDEX "JobHold_scope_key" ON "JobHold"
            (coalesce("tenantId", ''), coalesce("queue", ''), coalesce("job", ''));
        CREATE UNIQUE INDEX "JobLimit_scope_key" ON "JobLimit"
            (coalesce("tenantId", ''), coalesce("tier", ''), coalesce("job", ''), "perKey");
    END IF;
END $$;

-- A domain, so that the payload is looked at when it is written, and by no later transition.
DO $$
BEGIN
    IF to_regtype('public."JobPayload"') IS NULL THEN
        CREATE DOMAIN "JobPayload" AS JSONB
            CONSTRAINT "JobPayload_check"
            CHECK (jsonb_typeof(VALUE) = 'object' AND pg_column_size(VALUE) <= 131072);
        CREATE DOMAIN "JobPriority" AS SMALLINT
            CONSTRAINT "JobPriority_check" CHECK (VALUE BETWEEN -9 AND 9);
        CREATE DOMAIN "JobLimitKey" AS TEXT
            CONSTRAINT "JobLimitKey_check" CHECK (length(VALUE) <= 256);
        CREATE DOMAIN "JobCost" AS INTEGER CONSTRAINT "JobCost_check" CHECK (VALUE >= 0);
    END IF;
END $$;

CREATE TABLE IF NOT EXISTS "Job" (
    "id"            TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "tenantId"      TEXT NOT NULL DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "job"           TEXT NOT NULL,
    "queue"         TEXT NOT NULL,
    "payload"       "JobPayload" NOT NULL DEFAULT '{}',
    "schemaVersion" INTEGER NOT NULL DEFAULT 1,
    "key"           TEXT,
    "priority"      "JobPriority" NOT NULL DEFAULT 0,
    "limitKey"      "JobLimitKey" NOT NULL DEFAULT '',
    "cost"          "JobCost" NOT NULL DEFAULT 1,
    "parentId"      TEXT,
    "stepId"        TEXT,
    "batchId"       TEXT,
    "producer"      TEXT,
    "traceparent"   TEXT,
    "state"         TEXT NOT NULL DEFAULT 'PENDING',
    "waitingFor"    TEXT,
    "dueAt"         TIMESTAMPTZ NOT NULL DEFAULT now(),
    "attempt"       INTEGER NOT NULL DEFAULT 0,
    "attemptsMax"   INTEGER NOT NULL DEFAULT 8,
    "crashes"       INTEGER NOT NULL DEFAULT 0,
    "timeLimitS"    REAL,
    "backoffS"      REAL,
    "fence"         BIGINT NOT NULL DEFAULT 0,
    "worker"        TEXT,
    "leaseUntil"    TIMESTAMPTZ,
    "createdAt"     TIMESTAMPTZ NOT NULL DEFAULT now(),
    "startedAt"     TIMESTAMPTZ,
    "finishedAt"    TIMESTAMPTZ,
    "error"         TEXT,
    "outcome"       JSONB,
    -- One CHECK, not four: each is set up anew for every UPDATE, and a job has two.
    CONSTRAINT "Job_state_check" CHECK (CASE "state"
        WHEN 'PENDING' THEN "leaseUntil" IS NULL AND "finishedAt" IS NULL
        WHEN 'RUNNING' THEN "leaseUntil" IS NOT NULL AND "finishedAt" IS NULL
        WHEN 'COMPLETED' THEN "leaseUntil" IS NULL AND "finishedAt" IS NOT NULL
        WHEN 'DEAD' THEN "leaseUntil" IS NULL AND "finishedAt" IS NOT NULL
        WHEN 'CANCELLED' THEN "leaseUntil" IS NULL AND "finishedAt" IS NOT NULL
        ELSE false END)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
COMMENT ON TABLE "Job" IS 'The ledger: every accepted job, its state and its fence.';
CALL ailydian_build_index('Job', 'tenantId', 'createdAt');
DO $$
BEGIN
    IF to_regclass('public."Job_tenantId_job_key_key"') IS NULL THEN
        CREATE UNIQUE INDEX "Job_tenantId_job_key_key" ON "Job" ("tenantId", "job", "key")
            WHERE "key" IS NOT NULL;
    END IF;
END $$;

CREATE TABLE IF NOT EXISTS "JobOutbox" (
    "queue"    TEXT NOT NULL,
    "tenantId" TEXT NOT NULL,
    "job"      TEXT NOT NULL,
    "limitKey" TEXT NOT NULL DEFAULT '',
    "priority" SMALLINT NOT NULL DEFAULT 0,
    "dueAt"    TIMESTAMPTZ NOT NULL,
    "seq"      BIGINT GENERATED ALWAYS AS IDENTITY,
    "jobId"    TEXT NOT NULL,
    "attempt"  INTEGER NOT NULL,
    "cost"     INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY ("queue", "tenantId", "job", "limitKey", "priority", "dueAt", "seq")
) WITH (autovacuum_vacuum_scale_factor = 0.05);
COMMENT ON TABLE "JobOutbox" IS 'Jobs that wait for the relay: due ones and delayed ones.';

CREATE TABLE IF NOT EXISTS "JobFlight" (
    "jobId"    TEXT PRIMARY KEY,
    "tenantId" TEXT NOT NULL,
    "queue"    TEXT NOT NULL,
    "job"      TEXT NOT NULL DEFAULT '',
    "limitKey" TEXT NOT NULL DEFAULT '',
    "attempt"  INTEGER NOT NULL,
    "sentAt"   TIMESTAMPTZ NOT NULL DEFAULT now()
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
COMMENT ON TABLE "JobFlight" IS
    'Jobs woken up in Redis or running: small, so the sweep that finds lost ones stays cheap.';

CREATE TABLE IF NOT EXISTS "JobAttempt" (
    "tenantId"  TEXT NOT NULL,
    "jobId"     TEXT NOT NULL REFERENCES "Job" ("id") ON DELETE CASCADE,
    "fence"     BIGINT NOT NULL,
    "attempt"   INTEGER NOT NULL,
    "worker"    TEXT,
    "startedAt" TIMESTAMPTZ,
    "endedAt"   TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    "verdict"   TEXT NOT NULL,
    "errorType" TEXT,
    "error"     TEXT,
    "traceback" TEXT,
    "signal"    TEXT,
    "exitCode"  INTEGER,
    "peakBytes" BIGINT,
    "fingerprint" TEXT,
    "stepId"      TEXT,
    PRIMARY KEY ("jobId", "fence"),
    CONSTRAINT "JobAttempt_verdict_check"
        CHECK ("verdict" IN ('failed', 'refused', 'crashed', 'timed_out', 'lapsed'))
);
COMMENT ON TABLE "JobAttempt" IS 'Every attempt that did not end well: when, where and why.';

CREATE TABLE IF NOT EXISTS "DeadLetter" (
    "id"          TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "tenantId"    TEXT NOT NULL,
    "jobId"       TEXT NOT NULL REFERENCES "Job" ("id") ON DELETE CASCADE,
    "job"         TEXT NOT NULL,
    "queue"       TEXT NOT NULL,
    "attempts"    INTEGER NOT NULL,
    "reason"      TEXT NOT NULL,
    "error"       TEXT NOT NULL,
    "fingerprint" TEXT NOT NULL,
    "diedAt"      TIMESTAMPTZ NOT NULL DEFAULT now(),
    "edits"       JSONB NOT NULL DEFAULT '[]',
    CONSTRAINT "DeadLetter_tenantId_jobId_key" UNIQUE ("tenantId", "jobId"),
    CONSTRAINT "DeadLetter_reason_check"
        CHECK ("reason" IN ('permanent', 'exhausted', 'poison'))
);
COMMENT ON TABLE "DeadLetter" IS 'Jobs that wait for an operator.';
CALL ailydian_build_index('DeadLetter', 'tenantId', 'diedAt');
CALL ailydian_build_index('DeadLetter', 'queue', 'fingerprint');
CALL ailydian_build_index('DeadLetter', 'jobId');

CREATE TABLE IF NOT EXISTS "Quarantine" (
    "id"         TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "queue"      TEXT NOT NULL,
    "reason"     TEXT NOT NULL,
    "message"    BYTEA NOT NULL,
    "bytes"      BIGINT NOT NULL,
    "sha256"     TEXT NOT NULL,
    "receivedAt" TIMESTAMPTZ NOT NULL DEFAULT now(),
    "source"     TEXT NOT NULL DEFAULT 'wakeup',
    "seen"       BIGINT NOT NULL DEFAULT 1,
    "seenAt"     TIMESTAMPTZ NOT NULL DEFAULT now(),
    "edits"      JSONB NOT NULL DEFAULT '[]'
);
COMMENT ON TABLE "Quarantine" IS
    'What arrived in Redis and is no wake-up of ours: the reason, the bytes (the first 64 kB), and how '
    'often the same ones came.';
CALL ailydian_build_index('Quarantine', 'receivedAt');

CREATE TABLE IF NOT EXISTS "WorkerProcess" (
    "id"        TEXT PRIMARY KEY,
    "host"      TEXT NOT NULL,
    "pid"       INTEGER NOT NULL,
    "queues"    TEXT[] NOT NULL,
    "threads"   INTEGER NOT NULL,
    "role"      TEXT NOT NULL DEFAULT 'worker',
    "figures"   JSONB NOT NULL DEFAULT '{}',
    "startedAt" TIMESTAMPTZ NOT NULL DEFAULT now(),
    "seenAt"    TIMESTAMPTZ NOT NULL DEFAULT now()
);
COMMENT ON TABLE "WorkerProcess" IS
    'Workers, relays and schedulers: when each was last heard of, and how it is.';

CREATE TABLE IF NOT EXISTS "JobEvent" (
    "xid"      XID8 NOT NULL DEFAULT pg_current_xact_id(),
    "position" BIGINT GENERATED ALWAYS AS IDENTITY,
    "tenantId" TEXT NOT NULL,
    "jobId"    TEXT NOT NULL,
    "job"      TEXT NOT NULL,
    "queue"    TEXT NOT NULL,
    "what"     TEXT NOT NULL,
    "batchId"  TEXT,
    "waitedS"  REAL,
    "tookS"    REAL,
    "at"       TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY ("xid", "position")
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
COMMENT ON TABLE "JobEvent" IS
    'COMPLETED, DEAD, CANCELLED, RETRY, REPLAYED, DISCARDED, of a run RUN_COMPLETED, RUN_FAILED, '
    'RUN_CANCELLED under its own id: noted as it commits. In the order of '
    '("xid", "position"); rows below the oldest open transaction are all there.';

CREATE TABLE IF NOT EXISTS "EventCursor" (
    "reader"   TEXT PRIMARY KEY,
    "xid"      XID8 NOT NULL,
    "position" BIGINT NOT NULL,
    "movedAt"  TIMESTAMPTZ NOT NULL DEFAULT now()
);
COMMENT ON TABLE "EventCursor" IS 'How far each reader of "JobEvent" has come.';

CREATE TABLE IF NOT EXISTS "JobStat" (
    "job"           TEXT PRIMARY KEY,
    "queue"         TEXT NOT NULL,
    "completed"     BIGINT NOT NULL DEFAULT 0,
    "dead"          BIGINT NOT NULL DEFAULT 0,
    "cancelled"     BIGINT NOT NULL DEFAULT 0,
    "retried"       BIGINT NOT NULL DEFAULT 0,
    "tookS"         DOUBLE PRECISION NOT NULL DEFAULT 0,
    "waitedS"       DOUBLE PRECISION NOT NULL DEFAULT 0,
    "tookBuckets"   BIGINT[] NOT NULL,
    "waitedBuckets" BIGINT[] NOT NULL,
    "donePerS"      DOUBLE PRECISION NOT NULL DEFAULT 0,
    "foldedAt"      TIMESTAMPTZ NOT NULL DEFAULT now()
);
COMMENT ON TABLE "JobStat" IS
    'What became of all jobs of a kind, how long they waited and took: counters that only grow.';

CREATE TABLE IF NOT EXISTS "ModelUse" (
    "model"    TEXT NOT NULL,
    "hour"     TIMESTAMPTZ NOT NULL,
    "requests" BIGINT NOT NULL,
    "tokens"   BIGINT NOT NULL,
    "costUsd"  NUMERIC(20, 8) NOT NULL,
    PRIMARY KEY ("model", "hour")
);
COMMENT ON TABLE "ModelUse" IS 'Requests, tokens and dollars of each model by the hour, for figures.';

CREATE TABLE IF NOT EXISTS "JobBatch" (
    "tenantId"    TEXT NOT NULL DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "id"          TEXT NOT NULL DEFAULT ailydian_new_id(),
    "name"        TEXT NOT NULL,
    "total"       INTEGER NOT NULL DEFAULT 0,
    "completed"   INTEGER NOT NULL DEFAULT 0,
    "dead"        INTEGER NOT NULL DEFAULT 0,
    "cancelled"   INTEGER NOT NULL DEFAULT 0,
    "thenJob"     TEXT,
    "thenPayload" "JobPayload",
    "thenId"      TEXT,
    "createdAt"   TIMESTAMPTZ NOT NULL DEFAULT now(),
    "sealedAt"    TIMESTAMPTZ,
    "finishedAt"  TIMESTAMPTZ,
    PRIMARY KEY ("tenantId", "id"),
    CONSTRAINT "JobBatch_then_check" CHECK (("thenJob" IS NULL) = ("thenPayload" IS NULL)),
    CONSTRAINT "JobBatch_finished_check" CHECK ("finishedAt" IS NULL OR "sealedAt" IS NOT NULL)
) WITH (fillfactor = 50);
COMMENT ON TABLE "JobBatch" IS
    'Jobs published together: how many have ended and how, and what follows when all have.';

CREATE TABLE IF NOT EXISTS "Schedule" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "tenantId"  TEXT DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "name"      TEXT NOT NULL,
    "cron"      TEXT NOT NULL,
    "timeZone"  TEXT NOT NULL DEFAULT 'UTC',
    "jitterS"   INTEGER NOT NULL DEFAULT 0,
    "missed"    TEXT NOT NULL DEFAULT 'once',
    "job"       TEXT,
    "payload"   "JobPayload" NOT NULL DEFAULT '{}',
    "sweep"     TEXT,
    "enabled"   BOOLEAN NOT NULL DEFAULT true,
    "slotAt"    TIMESTAMPTZ NOT NULL,
    "nextAt"    TIMESTAMPTZ NOT NULL,
    "ranSlotAt" TIMESTAMPTZ,
    "ranAt"     TIMESTAMPTZ,
    "lastJobId" TEXT,
    "error"     TEXT,
    "createdAt" TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT "Schedule_missed_check" CHECK ("missed" IN ('once', 'skip', 'all')),
    CONSTRAINT "Schedule_jitterS_check" CHECK ("jitterS" BETWEEN 0 AND 86400),
    CONSTRAINT "Schedule_what_check" CHECK (CASE WHEN "tenantId" IS NULL
        THEN "sweep" IS NOT NULL AND "job" IS NULL
        ELSE "sweep" IS NULL AND "job" IS NOT NULL END)
);
COMMENT ON TABLE "Schedule" IS
    'What is done by the clock: a tenant''s job, or a sweep of the system. "slotAt" is the next slot, '
    '"nextAt" the same with its jitter.';
CALL ailydian_build_index('Schedule', 'nextAt');
DO $$
BEGIN
    IF to_regclass('public."Schedule_tenantId_name_key"') IS NULL THEN
        CREATE UNIQUE INDEX "Schedule_tenantId_name_key" ON "Schedule"
            (coalesce("tenantId", ''), "name");
        CREATE INDEX "JobBatch_unfinished_idx" ON "JobBatch" ("tenantId", "id")
            WHERE "finishedAt" IS NULL;
        CREATE UNIQUE INDEX "Quarantine_queue_sha256_key" ON "Quarantine" ("queue", "sha256");
    END IF;
END $$;

CREATE TABLE IF NOT EXISTS "Upload" (
    "id"        TEXT NOT NULL DEFAULT ailydian_new_id(),
    "tenantId"  TEXT NOT NULL DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "ingestKey" TEXT NOT NULL,
    "sha256"    TEXT NOT NULL,
    "content"   BYTEA NOT NULL,
    "createdAt" TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY ("tenantId", "id")
);
CALL ailydian_build_index('Upload', 'tenantId', 'ingestKey');
DO $$
BEGIN
    -- Uploads live for seconds: compressing them is not worth their while.
    IF (SELECT attstorage <> 'e' FROM pg_attribute
        WHERE attrelid = 'public."Upload"'::regclass AND attname = 'content') THEN
        ALTER TABLE "Upload" ALTER COLUMN "content" SET STORAGE EXTERNAL;
    END IF;
END $$;
COMMENT ON TABLE "Upload" IS
    'Bytes on their way to ingest: a job carries the id, the transaction that ingests deletes them.';

CREATE TABLE IF NOT EXISTS "ProbeEntry" (
    "id"       TEXT NOT NULL DEFAULT ailydian_new_id(),
    "tenantId" TEXT NOT NULL DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "jobId"    TEXT NOT NULL,
    "n"        INTEGER NOT NULL,
    "wroteAt"  TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY ("tenantId", "id")
);
COMMENT ON TABLE "ProbeEntry" IS
    'One row an effect of a probe job: exactly one a job, whatever happened on the way.';

-- A publisher who names no queue gets the contract's, or a refusal that names the job.
CREATE OR REPLACE FUNCTION ailydian_job_kind() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    kind "JobKind";
BEGIN
    SELECT * INTO kind FROM "JobKind" k WHERE k."job" = NEW."job";
    IF NOT FOUND THEN
        RAISE EXCEPTION 'unknown_job: no contract is named %', NEW."job" USING ERRCODE = 'AL002';
    END IF;
    NEW."queue" := kind."queue";
    NEW."attemptsMax" := kind."attemptsMax";
    RETURN NEW;
END $$;

-- Accept: the tenant exists, the queue has room, the outbox gets its row, the relay its wake-up.
-- Follow-ups are let through a full queue: refusing them would stop what would empty it.
CREATE OR REPLACE FUNCTION ailydian_job_accepted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    refused TEXT;
BEGIN
    SELECT a."tenantId" INTO refused FROM (SELECT DISTINCT "tenantId" FROM accepted) a
    WHERE NOT EXISTS (SELECT 1 FROM "Tenant" t WHERE t."id" = a."tenantId") LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'tenant_not_found: no tenant has the id %', refused USING ERRCODE = 'AL003';
    END IF;
    SELECT q."queue" INTO refused FROM "QueueState" q
    WHERE q."depth" >= q."depthMax"
      AND q."queue" IN (SELECT DISTINCT a."queue" FROM accepted a WHERE a."parentId" IS NULL) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'queue_full: the queue % holds as many jobs as it may', refused
            USING ERRCODE = 'AL004';
    END IF;
    INSERT INTO "JobOutbox" ("queue", "tenantId", "job", "limitKey", "priority", "dueAt", "jobId",
                             "attempt", "cost")
    SELECT a."queue", a."tenantId", a."job", a."limitKey", a."priority", a."dueAt", a."id",
           a."attempt", a."cost" FROM accepted a
    WHERE a."state" = 'PENDING' ORDER BY a."id";
    IF FOUND THEN
        PERFORM pg_notify('ailydian_outbox', '');
    END IF;
    RETURN NULL;
END $$;

-- The receipts: the effects of attempts count only where this stands in the same transaction. It
-- locks the jobs, so a sweep that would take a lease back waits or looks elsewhere. One that is no
-- longer ours refuses them all.
--
-- SECURITY DEFINER for its plan: under the tenant's policy the planner may read all the jobs of the
-- tenant to find these few. The owner's policy leaves it only the primary key, and the tenant is
-- compared afterwards. The plans are by index, and generic as `effects` asks for: made once, right
-- however the ledger grows.
CREATE OR REPLACE FUNCTION ailydian_claim_receipt(job_id TEXT, job_fence BIGINT) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET enable_seqscan = off AS $$
DECLARE
    done RECORD;
BEGIN
    UPDATE public."Job" SET "state" = 'COMPLETED', "finishedAt" = clock_timestamp(),
        "leaseUntil" = NULL, "error" = NULL
    WHERE "id" = job_id AND "fence" = job_fence AND "state" = 'RUNNING'
      AND "tenantId" = current_setting('app.tenant_id')
    RETURNING "tenantId", "job", "queue", "batchId", "dueAt", "startedAt", "finishedAt" INTO done;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'lease_lost: the job % is no longer ours', job_id USING ERRCODE = 'AL001';
    END IF;
    INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId",
                                   "waitedS", "tookS")
    VALUES (done."tenantId", job_id, done."job", done."queue", 'COMPLETED', done."batchId",
            extract(epoch FROM done."startedAt" - done."dueAt"),
            extract(epoch FROM done."finishedAt" - done."startedAt"));
    DELETE FROM public."JobFlight" WHERE "jobId" = job_id;
END $$;

CREATE OR REPLACE FUNCTION ailydian_claim_receipts(job_ids TEXT[], fences BIGINT[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    tenant CONSTANT TEXT := current_setting('app.tenant_id');
    claimed INTEGER;
BEGIN
    WITH held AS (
        SELECT j."id" FROM unnest(job_ids, fences) AS m("id", "fence")
        JOIN public."Job" j ON j."id" = m."id"
        WHERE j."fence" = m."fence" AND j."state" = 'RUNNING' AND j."tenantId" = tenant
        ORDER BY j."id" FOR UPDATE OF j
    ), done AS (
        UPDATE public."Job" j SET "state" = 'COMPLETED', "finishedAt" = clock_timestamp(),
            "leaseUntil" = NULL, "error" = NULL
        FROM held WHERE j."id" = held."id" RETURNING j.*
    )
    INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId",
                                   "waitedS", "tookS")
    SELECT "tenantId", "id", "job", "queue", 'COMPLETED', "batchId",
           extract(epoch FROM "startedAt" - "dueAt"),
           extract(epoch FROM "finishedAt" - "startedAt") FROM done;
    GET DIAGNOSTICS claimed = ROW_COUNT;
    IF claimed < cardinality(job_ids) THEN
        RAISE EXCEPTION 'lease_lost: % of % jobs are no longer ours (%)',
            cardinality(job_ids) - claimed, cardinality(job_ids), job_ids[1]
            USING ERRCODE = 'AL001';
    END IF;
    DELETE FROM public."JobFlight" WHERE "jobId" = ANY(job_ids);
END $$;

CREATE OR REPLACE FUNCTION ailydian_tenant_gone() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM "JobOutbox" WHERE "tenantId" = OLD."id";
    DELETE FROM "JobFlight" WHERE "tenantId" = OLD."id";
    DELETE FROM "Job" WHERE "tenantId" = OLD."id";
    DELETE FROM "JobEvent" WHERE "tenantId" = OLD."id";
    DELETE FROM "JobBatch" WHERE "tenantId" = OLD."id";
    DELETE FROM "JobHold" WHERE "tenantId" = OLD."id";
    DELETE FROM "JobLimit" WHERE "tenantId" = OLD."id";
    DELETE FROM "JobLimitUse" WHERE "tenantId" = OLD."id";
    DELETE FROM "Schedule" WHERE "tenantId" = OLD."id";
    DELETE FROM "Upload" WHERE "tenantId" = OLD."id";
    DELETE FROM "LiveModel" WHERE "tenantId" = OLD."id";
    DELETE FROM "ProbeEntry" WHERE "tenantId" = OLD."id";
    RETURN OLD;
END $$;

CALL ailydian_build_trigger('Job', 'kind', 'BEFORE INSERT ON ROW WHEN (NEW."queue" IS NULL) EXECUTE FUNCTION public.ailydian_job_kind()');
CALL ailydian_build_trigger('Job', 'accepted', 'AFTER INSERT ON public."Job" REFERENCING NEW TABLE AS accepted FOR EACH STATEMENT EXECUTE FUNCTION public.ailydian_job_accepted()');
CALL ailydian_build_trigger('Tenant', 'gone', 'AFTER DELETE ON ROW EXECUTE FUNCTION public.ailydian_tenant_gone()');

-- Who may what. The relay and the workers' plumbing see the ledger of all tenants and nothing
-- else; the application role sees its tenant's part of it. Publishers in SQL insert and look.
CALL ailydian_build_security('Job', 'SELECT, INSERT, UPDATE', of_platform => false);
CALL ailydian_build_security('JobOutbox', 'SELECT, INSERT', of_platform => false);
CALL ailydian_build_security('JobFlight', 'SELECT, DELETE', of_platform => false);
CALL ailydian_build_security('JobAttempt', 'SELECT', of_platform => false);
CALL ailydian_build_security('DeadLetter', 'SELECT', of_platform => false);
CALL ailydian_build_security('Upload', 'SELECT, INSERT, DELETE', of_platform => false);
CALL ailydian_build_security('ProbeEntry', 'SELECT, INSERT', of_platform => false);
CALL ailydian_build_security('JobKind', 'SELECT', 'true', of_platform => false);
CALL ailydian_build_security('QueueState', 'SELECT', 'true', of_platform => false);
CALL ailydian_build_security('Quarantine', '', 'false', of_platform => false);
CALL ailydian_build_security('WorkerProcess', '', 'false', of_platform => false);
CALL ailydian_build_security('SchemaMigration', '', 'false', of_platform => false);
CALL ailydian_build_security('JobEvent', 'SELECT, INSERT', of_platform => false);
CALL ailydian_build_security('JobBatch', 'SELECT, INSERT, UPDATE', of_platform => false);
CALL ailydian_build_security('Schedule', 'SELECT, INSERT, UPDATE, DELETE', of_platform => false);
CALL ailydian_build_security('JobHold', '', 'false', of_platform => false);
CALL ailydian_build_security('JobLimit', '', 'false', of_platform => false);
CALL ailydian_build_security('JobLimitUse', '', 'false', of_platform => false);
CALL ailydian_build_security('EventCursor', '', 'false', of_platform => false);
CALL ailydian_build_security('JobStat', '', 'false', of_platform => false);
CALL ailydian_build_security('ModelUse', '', 'false', of_platform => false);

-- Operators act on many tenants at once, in the relay's role: each act is noted beside it.
CALL ailydian_build_policy('AuditLog', 'ailydian_relay', 'true');
CALL ailydian_build_grant('AuditLog', 'ailydian_relay', 'INSERT');

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


-- ============================================================================================
-- Chapter 9: the workflow engine
--
-- A run is data: one row a step, each with a counter of the needs that are still open. Finishing a
-- step is one call: it proves its fence, keeps the output, counts down what depends on it, hands
-- the worker one step that became ready and the ledger the others, and ends the run with its last
-- step, all in the caller's transaction. Nothing is replayed and nothing polls, so a step costs the
-- same in a run of ten and of a hundred thousand.
--
-- Ids are made of places: a step is RUN/POSITION, an item of a mapped step is RUN/POSITION/INDEX,
-- so that a step's neighbours are found by primary key.
--
-- A *walker* is a job `run_step`: its row moves along the graph with its worker ("stepId", with a new
-- fence and its own count of attempts at each step). A step that is a job of another kind is that
-- job: whatever ends it, a receipt, a dead letter, a cancellation, finishes the step as that
-- transaction commits ("step" trigger below).
--
--     pending -> ready -> running -> completed | skipped | failed | cancelled
--                            `-> waiting (for a row of "WorkflowWait") -> ...
--
-- Lock order: "Job", then steps from upstream to downstream (by id where there are several), then the
-- run. Who acts on a whole run locks the run first and never waits for a step: one that is locked is
-- just being finished, and whoever begins what it opened looks at the run again.
-- ============================================================================================

CREATE TABLE IF NOT EXISTS "WorkflowVersion" (
    "id"         TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "tenantId"   TEXT NOT NULL,
    "workflowId" TEXT NOT NULL REFERENCES "Workflow" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "version"    INTEGER NOT NULL,
    "definition" JSONB NOT NULL,
    "digest"     TEXT NOT NULL,
    "steps"      INTEGER NOT NULL,
    "ends"       INTEGER NOT NULL,
    "timeoutS"   DOUBLE PRECISION NOT NULL,
    "createdBy"  TEXT,
    "createdAt"  TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT "WorkflowVersion_workflowId_version_key" UNIQUE ("workflowId", "version"),
    CONSTRAINT "WorkflowVersion_steps_check" CHECK ("steps" > 0 AND "ends" > 0)
);
COMMENT ON TABLE "WorkflowVersion" IS
    'A definition as it was put: a run keeps the version it started with.';

CREATE TABLE IF NOT EXISTS "WorkflowNode" (
    "tenantId"    TEXT NOT NULL,
    "versionId"   TEXT NOT NULL REFERENCES "WorkflowVersion" ("id") ON DELETE CASCADE,
    "position"    INTEGER NOT NULL,
    "name"        TEXT NOT NULL,
    "uses"        TEXT NOT NULL,
    "spec"        JSONB NOT NULL,
    "needs"       INTEGER NOT NULL,
    "dependents"  INTEGER[] NOT NULL,
    "reads"       INTEGER[] NOT NULL,
    "listReads"   INTEGER[] NOT NULL,
    "compensates" INTEGER,
    "mapped"      BOOLEAN NOT NULL,
    "onError"     TEXT NOT NULL,
    "attemptsMax" INTEGER NOT NULL,
    "backoffS"    REAL,
    "timeoutS"    REAL,
    PRIMARY KEY ("versionId", "position"),
    CONSTRAINT "WorkflowNode_onError_check" CHECK ("onError" IN ('fail', 'continue', 'compensate'))
);
COMMENT ON TABLE "WorkflowNode" IS
    'A step of a version, compiled: positions in topological order, and who depends on it.';

CREATE TABLE IF NOT EXISTS "WorkflowWait" (
    "id"        TEXT PRIMARY KEY,
    "tenantId"  TEXT NOT NULL,
    "runId"     TEXT NOT NULL REFERENCES "WorkflowRun" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "what"      TEXT NOT NULL,
    "name"      TEXT NOT NULL DEFAULT '',
    "dueAt"     TIMESTAMPTZ,
    "createdAt" TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT "WorkflowWait_what_check"
        CHECK ("what" IN ('timer', 'signal', 'approval', 'run', 'slot', 'deadline')),
    CONSTRAINT "WorkflowWait_timer_check" CHECK ("what" NOT IN ('timer', 'deadline')
                                                 OR "dueAt" IS NOT NULL)
);
COMMENT ON TABLE "WorkflowWait" IS
    'What a waiting step waits for, under the step''s id; under the run''s id, its deadline.';
CALL ailydian_build_index('WorkflowWait', 'runId');

CREATE TABLE IF NOT EXISTS "WorkflowSignal" (
    "tenantId" TEXT NOT NULL,
    "runId"    TEXT NOT NULL REFERENCES "WorkflowRun" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "seq"      BIGINT GENERATED ALWAYS AS IDENTITY,
    "name"     TEXT NOT NULL,
    "payload"  JSONB,
    "sentBy"   TEXT,
    "sentAt"   TIMESTAMPTZ NOT NULL DEFAULT now(),
    "takenBy"  TEXT,
    PRIMARY KEY ("runId", "seq")
);
COMMENT ON TABLE "WorkflowSignal" IS
    'Signals sent to a run, in order; one that came before its step waits here.';

CREATE TABLE IF NOT EXISTS "WorkflowSlot" (
    "tenantId" TEXT NOT NULL,
    "key"      TEXT NOT NULL,
    "seq"      BIGINT GENERATED ALWAYS AS IDENTITY,
    "holder"   TEXT NOT NULL,
    "runId"    TEXT NOT NULL REFERENCES "WorkflowRun" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    PRIMARY KEY ("tenantId", "key", "seq")
);
COMMENT ON TABLE "WorkflowSlot" IS
    'Concurrency keys: the first row of a key goes (holder: a run or a step), the others wait.';
CALL ailydian_build_index('WorkflowSlot', 'runId');

CREATE TABLE IF NOT EXISTS "WorkflowOutput" (
    "stepId"   TEXT PRIMARY KEY REFERENCES "WorkflowStep" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "tenantId" TEXT NOT NULL,
    "output"   JSONB NOT NULL
);
COMMENT ON TABLE "WorkflowOutput" IS
    'Outputs too large for their step''s row, which then says only how large.';

DO $$
BEGIN
    IF to_regclass('public."WorkflowWait_dueAt_idx"') IS NULL THEN
        CREATE INDEX "WorkflowWait_dueAt_idx" ON "WorkflowWait" ("dueAt") WHERE "dueAt" IS NOT NULL;
        CREATE UNIQUE INDEX "WorkflowRun_workflowId_key_key" ON "WorkflowRun" ("workflowId", "key")
            WHERE "key" IS NOT NULL;
        -- Runs as people look for them; none names a column that changes with each step.
        CREATE INDEX "WorkflowRun_workflowId_startedAt_idx"
            ON "WorkflowRun" ("workflowId", "startedAt");
        CREATE INDEX "WorkflowRun_workflowId_state_startedAt_idx"
            ON "WorkflowRun" ("workflowId", "state", "startedAt") WHERE "state" <> 'completed';
        CREATE INDEX "WorkflowRun_workflowId_fingerprint_startedAt_idx"
            ON "WorkflowRun" ("workflowId", "fingerprint", "startedAt")
            WHERE "fingerprint" IS NOT NULL;
        CREATE INDEX "WorkflowRun_parentStepId_idx" ON "WorkflowRun" ("parentStepId")
            WHERE "parentStepId" IS NOT NULL;
        CREATE INDEX "WorkflowRun_failed_idx" ON "WorkflowRun" ("completedAt")
            WHERE "state" = 'failed';
    END IF;
END $$;

-- What a step's worker needs: its node, what its expressions may read, its item. A worker that
-- comes from another step of the run knows the inputs (`known_run`); from another item of the same
-- step, also the node and what it reads (`known_position`).
CREATE OR REPLACE FUNCTION ailydian_step_context(
    step_id TEXT, known_run TEXT, known_position INTEGER
) RETURNS JSONB LANGUAGE plpgsql STABLE AS $$
DECLARE
    at RECORD;
    context JSONB;
BEGIN
    SELECT s."runId", s."position", s."itemIndex", s."item", s."liveNeeds", n."name", n."uses",
           n."spec", n."needs", n."mapped", n."timeoutS", n."attemptsMax", r."versionId",
           CASE WHEN n."mapped" AND s."itemIndex" < 0 THEN n."listReads" ELSE n."reads" END AS "reads"
    INTO STRICT at
    FROM public."WorkflowStep" s JOIN public."WorkflowRun" r ON r."id" = s."runId"
    JOIN public."WorkflowNode" n ON n."versionId" = r."versionId" AND n."position" = s."position"
    WHERE s."id" = step_id;
    context := jsonb_build_object('stepId', step_id, 'runId', at."runId", 'position', at."position",
        'index', at."itemIndex", 'item', at."item");
    IF at."runId" IS DISTINCT FROM known_run THEN
        context := context || (
            SELECT jsonb_build_object('inputs', r."input", 'startedAt', r."startedAt",
                                      'depth', r."depth", 'workflow', w."name", 'tenantId', r."tenantId")
            FROM public."WorkflowRun" r JOIN public."Workflow" w ON w."id" = r."workflowId"
            WHERE r."id" = at."runId");
        known_position := NULL;
    END IF;
    IF at."position" IS DISTINCT FROM known_position OR at."itemIndex" < 0 THEN
        context := context || jsonb_build_object(
            'name', at."name", 'uses', at."uses", 'spec', at."spec", 'timeoutS', at."timeoutS",
            'expand', at."mapped" AND at."itemIndex" < 0,
            'skip', at."needs" > 0 AND at."liveNeeds" = 0 AND at."itemIndex" < 0,
            'steps', CASE WHEN at."reads" = '{}' THEN '{}'::jsonb ELSE (
                SELECT coalesce(jsonb_object_agg(t."stepName", jsonb_build_object(
                    'output', coalesce(o."output", t."output"), 'state', t."state",
                    'error', t."error")), '{}')
                FROM unnest(at."reads") AS p("position")
                JOIN public."WorkflowStep" t ON t."id" = at."runId" || '/' || p."position"
                LEFT JOIN public."WorkflowOutput" o ON o."stepId" = t."id") END);
    END IF;
    RETURN context;
END $$;

-- Give steps that are ready a job each. `parent` is the job that made them ready, if one did.
CREATE OR REPLACE FUNCTION ailydian_enqueue_steps(step_ids TEXT[], parent TEXT) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(step_ids) = 0 THEN
        RETURN;
    END IF;
    WITH marked AS (
        UPDATE public."WorkflowStep" s SET "state" = 'ready', "status" = 'PENDING',
            "jobId" = public.ailydian_new_id(), "completedAt" = NULL
        FROM unnest(step_ids) AS m("id")
        WHERE s."id" = m."id" AND s."state" IN ('pending', 'ready', 'running', 'waiting')
        RETURNING s."id", s."jobId", s."runId", s."position", s."tenantId"
    )
    INSERT INTO public."Job" ("id", "tenantId", "job", "queue", "payload", "stepId", "attemptsMax",
                              "backoffS", "timeLimitS", "parentId", "producer", "traceparent")
    SELECT m."jobId", m."tenantId", 'run_step', 'workflow',
           jsonb_build_object('run_id', m."runId"), m."id", n."attemptsMax", n."backoffS",
           n."timeoutS", parent, 'workflow', r."traceparent"
    FROM marked m JOIN public."WorkflowRun" r ON r."id" = m."runId"
    JOIN public."WorkflowNode" n ON n."versionId" = r."versionId" AND n."position" = m."position";
END $$;

-- Stop jobs that wait or run; the fence of one that runs is raised, so nothing it still does counts.
CREATE OR REPLACE FUNCTION ailydian_stop_jobs(job_ids TEXT[], why TEXT) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    WITH held AS (
        SELECT j."id", j."dueAt", j."state" FROM unnest(job_ids) AS m("id")
        JOIN public."Job" j ON j."id" = m."id"
        WHERE j."state" IN ('PENDING', 'RUNNING') ORDER BY j."id" FOR UPDATE OF j SKIP LOCKED
    ), landed AS (
        DELETE FROM public."JobFlight" f USING held WHERE f."jobId" = held."id"
    ), stopped AS (
        UPDATE public."Job" j SET "state" = 'CANCELLED', "finishedAt" = clock_timestamp(),
            "leaseUntil" = NULL, "waitingFor" = NULL, "fence" = j."fence" + 1, "error" = why
        FROM held WHERE j."id" = held."id" RETURNING j.*
    ), withdrawn AS (
        DELETE FROM public."JobOutbox" o USING stopped s
        WHERE o."queue" = s."queue" AND o."tenantId" = s."tenantId" AND o."job" = s."job"
          AND o."limitKey" = s."limitKey" AND o."priority" = s."priority"
          AND o."dueAt" = s."dueAt" AND o."jobId" = s."id"
    )
    INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId")
    SELECT "tenantId", "id", "job", "queue", 'CANCELLED', "batchId" FROM stopped;
END $$;

-- Stop what is left of a run: its steps, their jobs and waits, the runs it waits for.
CREATE OR REPLACE FUNCTION ailydian_stop_steps(of_run TEXT, why TEXT) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    jobs TEXT[];
    child RECORD;
BEGIN
    WITH live AS (
        SELECT s."id" FROM public."WorkflowStep" s
        WHERE s."runId" = of_run AND s."state" IN ('pending', 'ready', 'running', 'waiting')
        ORDER BY s."id" FOR UPDATE SKIP LOCKED
    ), stopped AS (
        UPDATE public."WorkflowStep" s SET "state" = 'cancelled', "status" = 'CANCELLED',
            "completedAt" = clock_timestamp() AT TIME ZONE 'UTC'
        FROM live WHERE s."id" = live."id" RETURNING s."jobId"
    )
    SELECT array_agg(s."jobId") INTO jobs FROM stopped s WHERE s."jobId" IS NOT NULL;
    FOR child IN
        DELETE FROM public."WorkflowWait" w WHERE w."id" IN (
            SELECT x."id" FROM public."WorkflowWait" x WHERE x."runId" = of_run FOR UPDATE SKIP LOCKED)
        RETURNING w."what", w."name"
    LOOP
        IF child."what" = 'run' THEN
            PERFORM public.ailydian_end_run(child."name", 'cancelled', why, NULL, NULL);
        END IF;
    END LOOP;
    PERFORM public.ailydian_leave_slot(g."tenantId", g."key", g."holder")
    FROM public."WorkflowSlot" g WHERE g."runId" = of_run AND g."holder" <> of_run;
    IF jobs IS NOT NULL THEN
        PERFORM public.ailydian_stop_jobs(jobs, why);
    END IF;
END $$;

-- Take a place behind a concurrency key. Returns whether it is the first.
CREATE OR REPLACE FUNCTION ailydian_enter_slot(
    of_tenant TEXT, slot_key TEXT, wanted_by TEXT, of_run TEXT
) RETURNS BOOLEAN LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('slot/' || of_tenant || '/' || slot_key, 0));
    IF NOT EXISTS (SELECT FROM public."WorkflowSlot" s
                   WHERE s."tenantId" = of_tenant AND s."key" = slot_key
                     AND s."holder" = wanted_by) THEN
        INSERT INTO public."WorkflowSlot" ("tenantId", "key", "holder", "runId")
        VALUES (of_tenant, slot_key, wanted_by, of_run);
    END IF;
    RETURN wanted_by = (
        SELECT s."holder" FROM public."WorkflowSlot" s
        WHERE s."tenantId" = of_tenant AND s."key" = slot_key ORDER BY s."seq" LIMIT 1);
END $$;

-- Leave a concurrency key; the next in line goes.
CREATE OR REPLACE FUNCTION ailydian_leave_slot(of_tenant TEXT, slot_key TEXT, held_by TEXT)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    next RECORD;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('slot/' || of_tenant || '/' || slot_key, 0));
    DELETE FROM public."WorkflowSlot" s
    WHERE s."tenantId" = of_tenant AND s."key" = slot_key AND s."holder" = held_by;
    SELECT s."holder", s."runId" INTO next FROM public."WorkflowSlot" s
    WHERE s."tenantId" = of_tenant AND s."key" = slot_key ORDER BY s."seq" LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    ELSIF next."holder" = next."runId" THEN
        UPDATE public."WorkflowRun" r SET "state" = 'running', "status" = 'RUNNING'
        WHERE r."id" = next."runId" AND r."state" = 'queued';
        IF FOUND THEN
            PERFORM public.ailydian_launch_run(next."runId");
        END IF;
    ELSE
        DELETE FROM public."WorkflowWait" w WHERE w."id" = next."holder" AND w."what" = 'slot';
        IF FOUND THEN
            PERFORM public.ailydian_enqueue_steps(ARRAY[next."holder"], next."runId");
        END IF;
    END IF;
END $$;

-- Begin a run's first steps, and its clock.
CREATE OR REPLACE FUNCTION ailydian_launch_run(of_run TEXT) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    run RECORD;
BEGIN
    SELECT r."versionId", r."tenantId", v."timeoutS", r."parentStepId" INTO STRICT run
    FROM public."WorkflowRun" r JOIN public."WorkflowVersion" v ON v."id" = r."versionId"
    WHERE r."id" = of_run;
    IF run."timeoutS" > 0 THEN
        INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "dueAt")
        VALUES (of_run, run."tenantId", of_run, 'deadline',
                now() + run."timeoutS" * interval '1 second') ON CONFLICT DO NOTHING;
    END IF;
    PERFORM public.ailydian_enqueue_steps(ARRAY(
        SELECT of_run || '/' || n."position" FROM public."WorkflowNode" n
        WHERE n."versionId" = run."versionId" AND n."needs" = 0 AND n."compensates" IS NULL
        ORDER BY n."position"), run."parentStepId");
END $$;

-- Start a run. `on_conflict` says what becomes of others with its concurrency key. Returns the run
-- under this key, which may be an older one.
CREATE OR REPLACE FUNCTION ailydian_start_run(
    run_id TEXT, of_version TEXT, given JSONB, run_key TEXT, slot_key TEXT, on_conflict TEXT,
    parent_step TEXT, parent_depth INTEGER, published_by TEXT, trace TEXT
) RETURNS TABLE ("id" TEXT, "state" TEXT, "duplicate" BOOLEAN) LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    tenant CONSTANT TEXT := current_setting('app.tenant_id');
    version RECORD;
    earlier RECORD;
    state_now TEXT := 'running';
BEGIN
    SELECT v."workflowId", v."ends" INTO version FROM public."WorkflowVersion" v
    WHERE v."id" = of_version AND v."tenantId" = tenant;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'version_not_found: no version of a workflow has the id %', of_version
            USING ERRCODE = 'AL005';
    END IF;
    run_id := coalesce(run_id, public.ailydian_new_id());
    INSERT INTO public."WorkflowRun" ("id", "workflowId", "status", "input", "tenantId", "versionId",
        "state", "key", "concurrencyKey", "parentStepId", "depth", "endsOpen", "producer",
        "traceparent")
    VALUES (run_id, version."workflowId", 'RUNNING', given, tenant, of_version, 'running', run_key,
            slot_key, parent_step, parent_depth, version."ends", published_by, trace)
    ON CONFLICT ("workflowId", "key") WHERE "key" IS NOT NULL DO NOTHING;
    IF NOT FOUND THEN
        RETURN QUERY SELECT r."id", r."state", true FROM public."WorkflowRun" r
                     WHERE r."workflowId" = version."workflowId" AND r."key" = run_key;
        RETURN;
    END IF;
    INSERT INTO public."WorkflowStep" ("id", "runId", "stepName", "status", "tenantId", "position",
                                       "itemIndex", "state", "openNeeds")
    SELECT run_id || '/' || n."position", run_id, n."name", 'PENDING', tenant, n."position", -1,
           'pending', n."needs"
    FROM public."WorkflowNode" n
    WHERE n."versionId" = of_version AND n."compensates" IS NULL ORDER BY n."position";
    IF slot_key IS NOT NULL AND NOT public.ailydian_enter_slot(tenant, slot_key, run_id, run_id) THEN
        IF on_conflict = 'reject' THEN
            RAISE EXCEPTION 'run_rejected: another run holds the concurrency key %', slot_key
                USING ERRCODE = 'AL006';
        END IF;
        state_now := 'queued';
        UPDATE public."WorkflowRun" r SET "state" = 'queued', "status" = 'PENDING'
        WHERE r."id" = run_id;
        IF on_conflict = 'cancel_previous' THEN
            FOR earlier IN
                SELECT s."runId" FROM public."WorkflowSlot" s
                WHERE s."tenantId" = tenant AND s."key" = slot_key AND s."runId" <> run_id
                ORDER BY s."seq" DESC
            LOOP
                PERFORM public.ailydian_end_run(earlier."runId", 'cancelled',
                    'a newer run with its concurrency key took its place', NULL, NULL);
            END LOOP;
            state_now := (SELECT r."state" FROM public."WorkflowRun" r WHERE r."id" = run_id);
        END IF;
    ELSE
        PERFORM public.ailydian_launch_run(run_id);
    END IF;
    RETURN QUERY SELECT run_id, state_now, false;
END $$;

-- End a run, once: what is left of it stops, whoever waits for it hears of it.
CREATE OR REPLACE FUNCTION ailydian_end_run(
    of_run TEXT, new_state TEXT, why TEXT, result JSONB, print TEXT
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    run RECORD;
BEGIN
    UPDATE public."WorkflowRun" r SET "state" = new_state,
        "status" = upper(new_state)::public."WorkflowStatus", "error" = why, "output" = result,
        "fingerprint" = print, "completedAt" = clock_timestamp() AT TIME ZONE 'UTC'
    WHERE r."id" = of_run AND r."state" IN ('queued', 'running', 'paused', 'compensating')
    RETURNING r."tenantId", r."concurrencyKey", r."parentStepId" INTO run;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- Whoever asks for the outcome may act on it: this commit waits for the disk.
    PERFORM set_config('synchronous_commit', 'on', true);
    IF new_state <> 'completed' THEN
        PERFORM public.ailydian_stop_steps(of_run, why);
    ELSE
        DELETE FROM public."WorkflowWait" w WHERE w."id" = of_run;
    END IF;
    IF run."concurrencyKey" IS NOT NULL THEN
        PERFORM public.ailydian_leave_slot(run."tenantId", run."concurrencyKey", of_run);
    END IF;
    INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what")
    VALUES (run."tenantId", of_run, 'run_step', 'workflow', 'RUN_' || upper(new_state));
    IF run."parentStepId" IS NOT NULL THEN
        DELETE FROM public."WorkflowWait" w WHERE w."id" = run."parentStepId";
        PERFORM public.ailydian_step_over(run."parentStepId",
            CASE new_state WHEN 'completed' THEN 'completed' ELSE 'failed' END, result,
            'its run ' || of_run || ' ' || CASE new_state WHEN 'cancelled' THEN 'was cancelled'
                ELSE 'failed: ' || coalesce(why, '') END, print);
    END IF;
END $$;

-- The next step that undoes, in reverse order of completion. Returns its id, or ends the run.
CREATE OR REPLACE FUNCTION ailydian_compensate(of_run TEXT) RETURNS TEXT[]
LANGUAGE plpgsql AS $$
DECLARE
    undo RECORD;
    run RECORD;
BEGIN
    SELECT r."versionId", r."tenantId", r."error", r."fingerprint" INTO STRICT run
    FROM public."WorkflowRun" r WHERE r."id" = of_run;
    SELECT n."position", n."name" INTO undo
    FROM public."WorkflowStep" s
    JOIN public."WorkflowNode" n
      ON n."versionId" = run."versionId" AND n."compensates" = s."position"
    WHERE s."runId" = of_run AND s."itemIndex" = -1 AND s."state" = 'completed'
      AND NOT EXISTS (SELECT FROM public."WorkflowStep" u
                      WHERE u."id" = of_run || '/' || n."position")
    ORDER BY s."completedAt" DESC, s."position" DESC LIMIT 1;
    IF NOT FOUND THEN
        PERFORM public.ailydian_end_run(of_run, 'failed', run."error", NULL, run."fingerprint");
        RETURN '{}';
    END IF;
    INSERT INTO public."WorkflowStep" ("id", "runId", "stepName", "status", "tenantId", "position",
                                       "itemIndex", "state")
    VALUES (of_run || '/' || undo."position", of_run, undo."name", 'PENDING', run."tenantId",
            undo."position", -1, 'pending');
    RETURN ARRAY[of_run || '/' || undo."position"];
END $$;

-- A step is over: keep what came of it, count down what depends on it. Returns the steps that may
-- begin, which nobody has been given yet. One that was over before changes nothing.
CREATE OR REPLACE FUNCTION ailydian_settle_step(
    step_id TEXT, verdict TEXT, result JSONB, given JSONB, why TEXT, print TEXT
) RETURNS TEXT[] LANGUAGE plpgsql AS $$
DECLARE
    step RECORD;
    node RECORD;
    run RECORD;
    mapped RECORD;
    kept JSONB := result;
    opened TEXT[] := '{}';
BEGIN
    IF pg_column_size(result) > 65536 THEN
        kept := jsonb_build_object('$bytes', pg_column_size(result));
    END IF;
    UPDATE public."WorkflowStep" s SET "state" = verdict,
        "status" = CASE verdict WHEN 'failed' THEN 'FAILED' ELSE 'COMPLETED' END::public."WorkflowStatus",
        "output" = kept, "input" = coalesce(given, s."input"), "error" = why, "fingerprint" = print,
        "completedAt" = clock_timestamp() AT TIME ZONE 'UTC',
        "progress" = CASE verdict WHEN 'completed' THEN 1 ELSE s."progress" END
    WHERE s."id" = step_id AND s."state" IN ('pending', 'ready', 'running', 'waiting')
    RETURNING s."runId", s."position", s."itemIndex", s."tenantId" INTO step;
    IF NOT FOUND THEN
        RETURN '{}';
    END IF;
    IF kept IS DISTINCT FROM result THEN
        INSERT INTO public."WorkflowOutput" ("stepId", "tenantId", "output")
        VALUES (step_id, step."tenantId", result)
        ON CONFLICT ("stepId") DO UPDATE SET "output" = excluded."output";
    END IF;
    SELECT r."state", n."dependents", n."onError", n."compensates", n."spec" ? 'concurrency' AS "slot"
    INTO STRICT run
    FROM public."WorkflowRun" r JOIN public."WorkflowNode" n
      ON n."versionId" = r."versionId" AND n."position" = step."position"
    WHERE r."id" = step."runId";
    IF run."slot" THEN
        PERFORM public.ailydian_leave_slot(s."tenantId", s."key", step_id)
        FROM public."WorkflowSlot" s WHERE s."runId" = step."runId" AND s."holder" = step_id;
    END IF;
    IF run."state" NOT IN ('running', 'paused', 'compensating') THEN
        RETURN '{}';
    END IF;
    IF run."compensates" IS NOT NULL THEN
        IF verdict = 'failed' THEN
            UPDATE public."WorkflowRun" r SET "error" = concat(r."error", '; not undone: ', why)
            WHERE r."id" = step."runId";
        END IF;
        RETURN public.ailydian_compensate(step."runId");
    ELSIF run."state" = 'compensating' THEN
        RETURN '{}';
    END IF;
    IF verdict = 'failed' AND run."onError" <> 'continue' THEN
        IF step."itemIndex" >= 0 THEN
            UPDATE public."WorkflowStep" s SET "state" = 'failed', "status" = 'FAILED',
                "error" = format('item %s: %s', step."itemIndex", why), "fingerprint" = print,
                "completedAt" = clock_timestamp() AT TIME ZONE 'UTC'
            WHERE s."id" = step."runId" || '/' || step."position" AND s."state" = 'running';
        END IF;
        UPDATE public."WorkflowRun" r SET "failedStepId" = step_id, "error" = why, "fingerprint" = print,
            "state" = CASE run."onError" WHEN 'compensate' THEN 'compensating' ELSE r."state" END
        WHERE r."id" = step."runId" AND r."state" IN ('running', 'paused');
        IF NOT FOUND THEN
            RETURN '{}';
        ELSIF run."onError" = 'compensate' THEN
            PERFORM public.ailydian_stop_steps(step."runId", 'another step failed');
            RETURN public.ailydian_compensate(step."runId");
        END IF;
        PERFORM public.ailydian_end_run(step."runId", 'failed', why, NULL, print);
        RETURN '{}';
    END IF;
    IF step."itemIndex" >= 0 THEN
        UPDATE public."WorkflowStep" s SET "openItems" = s."openItems" - 1,
            "nextItem" = least(s."nextItem" + 1, s."items"),
            "progress" = 1 - (s."openItems" - 1)::real / s."items"
        WHERE s."id" = step."runId" || '/' || step."position" AND s."state" = 'running'
        RETURNING s."openItems", s."items", s."nextItem", s."id" INTO mapped;
        IF NOT FOUND THEN
            RETURN '{}';
        ELSIF mapped."openItems" = 0 THEN
            RETURN public.ailydian_settle_step(mapped."id", 'completed', (
                SELECT jsonb_agg(coalesce(o."output", s."output", 'null') ORDER BY s."itemIndex")
                FROM public."WorkflowStep" s
                LEFT JOIN public."WorkflowOutput" o ON o."stepId" = s."id"
                WHERE s."runId" = step."runId" AND s."position" = step."position"
                  AND s."itemIndex" >= 0), NULL, NULL, NULL);
        END IF;
        -- The item whose turn it is, if one waits for its turn.
        SELECT ARRAY[s."id"] INTO opened FROM public."WorkflowStep" s
        WHERE s."id" = mapped."id" || '/' || (mapped."nextItem" - 1) AND s."state" = 'pending';
        opened := coalesce(opened, '{}');
    ELSIF run."dependents" = '{}' THEN
        UPDATE public."WorkflowRun" r SET "endsOpen" = r."endsOpen" - 1
        WHERE r."id" = step."runId" RETURNING r."endsOpen", r."versionId" INTO mapped;
        IF mapped."endsOpen" = 0 THEN
            PERFORM public.ailydian_end_run(step."runId", 'completed', NULL,
                CASE WHEN (SELECT v."ends" FROM public."WorkflowVersion" v
                           WHERE v."id" = mapped."versionId") = 1 THEN result END, NULL);
        END IF;
    ELSIF cardinality(run."dependents") = 1 THEN
        UPDATE public."WorkflowStep" s SET "openNeeds" = s."openNeeds" - 1,
            "liveNeeds" = s."liveNeeds" + (verdict <> 'skipped')::int
        WHERE s."id" = step."runId" || '/' || run."dependents"[1] AND s."openNeeds" > 0
        RETURNING CASE WHEN s."openNeeds" = 0 AND s."state" = 'pending' THEN ARRAY[s."id"]
                       ELSE '{}' END INTO opened;
        opened := coalesce(opened, '{}');
    ELSE
        WITH after AS (
            SELECT s."id" FROM unnest(run."dependents") AS d("position")
            JOIN public."WorkflowStep" s ON s."id" = step."runId" || '/' || d."position"
            ORDER BY s."id" FOR UPDATE OF s
        ), counted AS (
            UPDATE public."WorkflowStep" s SET "openNeeds" = s."openNeeds" - 1,
                "liveNeeds" = s."liveNeeds" + (verdict <> 'skipped')::int
            FROM after WHERE s."id" = after."id" AND s."openNeeds" > 0
            RETURNING s."id", s."position", s."openNeeds", s."state"
        )
        SELECT coalesce(array_agg(c."id" ORDER BY c."position"), '{}') INTO opened FROM counted c
        WHERE c."openNeeds" = 0 AND c."state" = 'pending';
    END IF;
    IF run."state" = 'paused' AND opened <> '{}' THEN
        -- Looked at once more and held so: whoever resumes the run sees what we park, or we go on.
        PERFORM FROM public."WorkflowRun" r WHERE r."id" = step."runId" FOR SHARE;
        IF 'paused' <> (SELECT r."state" FROM public."WorkflowRun" r WHERE r."id" = step."runId") THEN
            RETURN opened;
        END IF;
        UPDATE public."WorkflowStep" s SET "state" = 'ready', "jobId" = NULL
        WHERE s."id" = ANY(opened);
        RETURN '{}';
    END IF;
    RETURN opened;
END $$;

-- A step is over that no walker finished: a job of another kind, a timer, a signal, a run.
CREATE OR REPLACE FUNCTION ailydian_step_over(
    step_id TEXT, verdict TEXT, result JSONB, why TEXT, print TEXT
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.ailydian_enqueue_steps(public.ailydian_settle_step(step_id, verdict, result,
        NULL, CASE verdict WHEN 'failed' THEN why END, print), step_id);
END $$;

-- A walker goes on with one of the steps that may begin, or its job is done. The others get jobs.
-- Returns what it needs to know of its next step.
CREATE OR REPLACE FUNCTION ailydian_walk_on(
    job_id TEXT, opened TEXT[], left_run TEXT, left_position INTEGER, lease_s DOUBLE PRECISION
) RETURNS JSONB LANGUAGE plpgsql AS $$
DECLARE
    mine TEXT;
    job RECORD;
    node RECORD;
BEGIN
    IF opened <> '{}' AND lease_s > 0 AND NOT EXISTS (
        SELECT FROM public."JobHold" h JOIN public."Job" j ON j."id" = job_id
        WHERE (h."queue" IS NULL OR h."queue" = 'workflow')
          AND (h."tenantId" IS NULL OR h."tenantId" = j."tenantId")
          AND (h."job" IS NULL OR h."job" = 'run_step')
    ) AND NOT EXISTS (
        SELECT FROM public."JobLimit" l WHERE l."ratePerS" IS NOT NULL
          AND (l."job" IS NULL OR l."job" = 'run_step')
    ) THEN
        mine := opened[1];
        opened := opened[2:];
    END IF;
    PERFORM public.ailydian_enqueue_steps(opened, job_id);
    IF mine IS NULL THEN
        UPDATE public."Job" j SET "state" = 'COMPLETED', "finishedAt" = clock_timestamp(),
            "leaseUntil" = NULL, "error" = NULL
        WHERE j."id" = job_id
        RETURNING j."tenantId", j."dueAt", j."startedAt", j."finishedAt" INTO job;
        DELETE FROM public."JobFlight" f WHERE f."jobId" = job_id;
        INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what", "waitedS", "tookS")
        VALUES (job."tenantId", job_id, 'run_step', 'workflow', 'COMPLETED',
                extract(epoch FROM job."startedAt" - job."dueAt"),
                extract(epoch FROM job."finishedAt" - job."startedAt"));
        RETURN NULL;
    END IF;
    SELECT n."attemptsMax", n."backoffS", n."timeoutS" INTO STRICT node
    FROM public."WorkflowStep" s JOIN public."WorkflowRun" r ON r."id" = s."runId"
    JOIN public."WorkflowNode" n ON n."versionId" = r."versionId" AND n."position" = s."position"
    WHERE s."id" = mine;
    UPDATE public."Job" j SET "stepId" = mine, "fence" = j."fence" + 1, "attempt" = 1,
        "attemptsMax" = node."attemptsMax", "backoffS" = node."backoffS",
        "timeLimitS" = node."timeoutS", "crashes" = 0, "error" = NULL,
        "leaseUntil" = now() + lease_s * interval '1 second'
    WHERE j."id" = job_id RETURNING j."fence" INTO job;
    UPDATE public."WorkflowStep" s SET "state" = 'running', "status" = 'RUNNING', "jobId" = job_id,
        "attempt" = 1, "startedAt" = clock_timestamp() AT TIME ZONE 'UTC'
    WHERE s."id" = mine;
    RETURN public.ailydian_step_context(mine, left_run, left_position)
        || jsonb_build_object('fence', job."fence", 'attempt', 1, 'attemptsMax', node."attemptsMax");
END $$;

-- A walker's first call: its step begins, or, when its run is paused or over, the job is done.
CREATE OR REPLACE FUNCTION ailydian_begin_step(job_id TEXT, job_fence BIGINT) RETURNS JSONB
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
DECLARE
    job RECORD;
    run RECORD;
BEGIN
    SELECT j."stepId", j."attempt", j."attemptsMax" INTO job FROM public."Job" j
    WHERE j."id" = job_id AND j."fence" = job_fence AND j."state" = 'RUNNING'
      AND j."tenantId" = current_setting('app.tenant_id') FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'lease_lost: the job % is no longer ours', job_id USING ERRCODE = 'AL001';
    END IF;
    SELECT r."state" = 'running' OR (r."state" = 'compensating' AND n."compensates" IS NOT NULL)
           AS "goes", r."state" INTO run FROM public."WorkflowStep" s
    JOIN public."WorkflowRun" r ON r."id" = s."runId"
    JOIN public."WorkflowNode" n ON n."versionId" = r."versionId" AND n."position" = s."position"
    WHERE s."id" = job."stepId";
    UPDATE public."WorkflowStep" s SET "state" = 'running', "status" = 'RUNNING',
        "attempt" = job."attempt", "jobId" = job_id,
        "startedAt" = clock_timestamp() AT TIME ZONE 'UTC'
    WHERE s."id" = job."stepId" AND s."jobId" = job_id AND s."state" IN ('ready', 'running')
      AND run."goes";
    IF FOUND THEN
        RETURN public.ailydian_step_context(job."stepId", NULL, NULL)
            || jsonb_build_object('fence', job_fence, 'attempt', job."attempt",
                                  'attemptsMax', job."attemptsMax");
    END IF;
    IF run."state" = 'paused' THEN
        UPDATE public."WorkflowStep" s SET "state" = 'ready', "status" = 'PENDING', "jobId" = NULL
        WHERE s."id" = job."stepId" AND s."jobId" = job_id AND s."state" IN ('ready', 'running');
    ELSE
        UPDATE public."WorkflowStep" s SET "state" = 'cancelled', "status" = 'CANCELLED',
            "completedAt" = clock_timestamp() AT TIME ZONE 'UTC'
        WHERE s."id" = job."stepId" AND s."jobId" = job_id AND s."state" IN ('ready', 'running');
    END IF;
    RETURN public.ailydian_walk_on(job_id, '{}', NULL, NULL, 0);
END $$;

-- Whether this attempt still owns its step; every call of a walker begins so. A call that is
-- repeated, because its answer was lost, finds its step moved on by itself.
CREATE OR REPLACE FUNCTION ailydian_own_step(job_id TEXT, job_fence BIGINT, step_id TEXT)
RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
    job RECORD;
BEGIN
    SELECT j."stepId", j."fence", j."state" INTO job FROM public."Job" j
    WHERE j."id" = job_id AND j."tenantId" = current_setting('app.tenant_id') FOR UPDATE;
    IF FOUND AND job."fence" = job_fence AND job."state" = 'RUNNING' AND job."stepId" = step_id THEN
        UPDATE public."WorkflowStep" s SET "fence" = job_fence
        WHERE s."id" = step_id AND s."jobId" = job_id AND s."state" = 'running';
        RETURN CASE WHEN FOUND THEN 'held' ELSE 'stopped' END;
    ELSIF job."fence" = job_fence + 1 AND job."state" = 'RUNNING' AND EXISTS (
        SELECT FROM public."WorkflowStep" s WHERE s."id" = step_id AND s."jobId" = job_id
          AND s."fence" = job_fence AND s."state" <> 'running') THEN
        RETURN 'moved';
    END IF;
    RAISE EXCEPTION 'lease_lost: the job % is no longer ours', job_id USING ERRCODE = 'AL001';
END $$;

-- What a walker needs to know of the step that its job is at.
CREATE OR REPLACE FUNCTION ailydian_step_at(job_id TEXT) RETURNS JSONB LANGUAGE sql STABLE AS $$
    SELECT public.ailydian_step_context(j."stepId", NULL, NULL) || jsonb_build_object(
        'fence', j."fence", 'attempt', j."attempt", 'attemptsMax', j."attemptsMax")
    FROM public."Job" j WHERE j."id" = job_id
$$;

CREATE OR REPLACE FUNCTION ailydian_hold_step(job_id TEXT, job_fence BIGINT, step_id TEXT)
RETURNS TEXT LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
BEGIN
    RETURN public.ailydian_own_step(job_id, job_fence, step_id);
END $$;

-- The one round trip of a step: finished, and the next begun. `lease_s` 0: the walker stops here.
CREATE OR REPLACE FUNCTION ailydian_finish_step(
    job_id TEXT, job_fence BIGINT, step_id TEXT, verdict TEXT, result JSONB, given JSONB, why TEXT,
    print TEXT, lease_s DOUBLE PRECISION
) RETURNS JSONB LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    held CONSTANT TEXT := public.ailydian_own_step(job_id, job_fence, step_id);
BEGIN
    IF held = 'moved' THEN
        RETURN public.ailydian_step_at(job_id);
    ELSIF held = 'stopped' THEN
        RETURN public.ailydian_walk_on(job_id, '{}', NULL, NULL, 0);
    END IF;
    RETURN public.ailydian_walk_on(job_id,
        public.ailydian_settle_step(step_id, verdict, result, given, why, print),
        split_part(step_id, '/', 1), split_part(step_id, '/', 2)::int, lease_s);
END $$;

-- A mapped step becomes its items, all rows in one statement; as many as may begin at once.
CREATE OR REPLACE FUNCTION ailydian_expand_step(
    job_id TEXT, job_fence BIGINT, step_id TEXT, list JSONB, parallel INTEGER,
    lease_s DOUBLE PRECISION
) RETURNS JSONB LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    count CONSTANT INTEGER := jsonb_array_length(list);
    step RECORD;
BEGIN
    IF count = 0 THEN
        RETURN public.ailydian_finish_step(job_id, job_fence, step_id, 'completed', '[]', NULL, NULL,
                                           NULL, lease_s);
    ELSIF public.ailydian_own_step(job_id, job_fence, step_id) <> 'held' THEN
        RETURN public.ailydian_walk_on(job_id, '{}', NULL, NULL, 0);
    END IF;
    UPDATE public."WorkflowStep" s SET "items" = count, "openItems" = count,
        "nextItem" = least(parallel, count), "jobId" = NULL, "progress" = 0
    WHERE s."id" = step_id RETURNING s."runId", s."stepName", s."tenantId", s."position" INTO step;
    INSERT INTO public."WorkflowStep" ("id", "runId", "stepName", "status", "tenantId", "position",
                                       "itemIndex", "item", "state")
    SELECT step_id || '/' || (i."n" - 1), step."runId", format('%s[%s]', step."stepName", i."n" - 1),
           'PENDING', step."tenantId", step."position", i."n" - 1, i."value", 'pending'
    FROM jsonb_array_elements(list) WITH ORDINALITY AS i("value", "n")
    ON CONFLICT ("id") DO NOTHING;
    RETURN public.ailydian_walk_on(job_id, ARRAY(
        SELECT step_id || '/' || n FROM generate_series(0, least(parallel, count) - 1) n),
        step."runId", NULL, CASE WHEN 'running' = (
            SELECT r."state" FROM public."WorkflowRun" r WHERE r."id" = step."runId")
            THEN lease_s ELSE 0 END);
END $$;

-- A step becomes a job of another kind, which finishes it when it ends.
CREATE OR REPLACE FUNCTION ailydian_delegate_step(
    job_id TEXT, job_fence BIGINT, step_id TEXT, given JSONB, kind TEXT, kind_queue TEXT,
    version INTEGER, attempts INTEGER, limit_key TEXT, job_cost INTEGER, lease_s DOUBLE PRECISION
) RETURNS JSONB LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    new_id CONSTANT TEXT := public.ailydian_new_id();
    walker RECORD;
BEGIN
    IF public.ailydian_own_step(job_id, job_fence, step_id) = 'held' THEN
        SELECT j."tenantId", j."timeLimitS", j."backoffS", j."traceparent" INTO walker
        FROM public."Job" j WHERE j."id" = job_id;
        UPDATE public."WorkflowStep" s SET "jobId" = new_id, "input" = given WHERE s."id" = step_id;
        INSERT INTO public."Job" ("id", "tenantId", "job", "queue", "payload", "schemaVersion",
            "stepId", "attemptsMax", "limitKey", "cost", "timeLimitS", "backoffS", "parentId",
            "producer", "traceparent")
        VALUES (new_id, walker."tenantId", kind, kind_queue, given, version, step_id, attempts,
                limit_key, job_cost, walker."timeLimitS", walker."backoffS", job_id, 'workflow',
                walker."traceparent");
    END IF;
    RETURN public.ailydian_walk_on(job_id, '{}', NULL, NULL, 0);
END $$;

-- A step waits: for a time, a signal, an approval, a run that was just started. A signal that came
-- before is taken at once.
CREATE OR REPLACE FUNCTION ailydian_suspend_step(
    job_id TEXT, job_fence BIGINT, step_id TEXT, awaited TEXT, wait_name TEXT, wait_s DOUBLE PRECISION,
    wait_until TIMESTAMPTZ, given JSONB, lease_s DOUBLE PRECISION
) RETURNS JSONB LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    run TEXT := split_part(step_id, '/', 1);
    held CONSTANT TEXT := public.ailydian_own_step(job_id, job_fence, step_id);
    earlier RECORD;
BEGIN
    IF held = 'moved' THEN
        RETURN public.ailydian_step_at(job_id);
    ELSIF held = 'stopped' THEN
        RETURN public.ailydian_walk_on(job_id, '{}', NULL, NULL, 0);
    END IF;
    -- Whoever sends a signal has the run locked: it comes before, or finds us waiting. Whoever stops
    -- the run as well: the run that was started for the step ends with it.
    PERFORM FROM public."WorkflowRun" r WHERE r."id" = run FOR UPDATE;
    IF awaited = 'run' AND (SELECT r."state" FROM public."WorkflowRun" r WHERE r."id" = run)
                           NOT IN ('running', 'paused', 'compensating') THEN
        PERFORM public.ailydian_end_run(wait_name, 'cancelled', 'its run had ended', NULL, NULL);
    END IF;
    IF awaited = 'signal' THEN
        UPDATE public."WorkflowSignal" g SET "takenBy" = step_id
        WHERE g."runId" = run AND g."seq" = (
            SELECT min(x."seq") FROM public."WorkflowSignal" x
            WHERE x."runId" = run AND x."name" = wait_name AND x."takenBy" IS NULL)
        RETURNING g."payload" INTO earlier;
        IF FOUND THEN
            RETURN public.ailydian_walk_on(job_id, public.ailydian_answer_step(
                step_id, awaited, earlier."payload", given), run, NULL, lease_s);
        END IF;
    END IF;
    UPDATE public."WorkflowStep" s SET "state" = 'waiting', "jobId" = NULL, "input" = given
    WHERE s."id" = step_id;
    INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "name", "dueAt")
    SELECT step_id, r."tenantId", run, awaited, wait_name,
           coalesce(wait_until, now() + wait_s * interval '1 second')
    FROM public."WorkflowRun" r WHERE r."id" = run;
    RETURN public.ailydian_walk_on(job_id, '{}', NULL, NULL, 0);
END $$;

-- What a signal or an approval makes of the step that waits for it.
CREATE OR REPLACE FUNCTION ailydian_answer_step(
    step_id TEXT, awaited TEXT, payload JSONB, given JSONB
) RETURNS TEXT[] LANGUAGE plpgsql AS $$
BEGIN
    IF awaited = 'approval' AND payload ->> 'approved' IS DISTINCT FROM 'true' THEN
        RETURN public.ailydian_settle_step(step_id, 'failed', payload, given,
            concat('rejected by ', payload ->> 'by', ': ' || nullif(payload ->> 'comment', '')),
            'rejected');
    END IF;
    RETURN public.ailydian_settle_step(step_id, 'completed', CASE awaited WHEN 'approval' THEN payload
        ELSE jsonb_build_object('payload', payload) END, given, NULL, NULL);
END $$;

-- A step waits for its turn behind a concurrency key. Returns whether it may go on now.
CREATE OR REPLACE FUNCTION ailydian_queue_step(
    job_id TEXT, job_fence BIGINT, step_id TEXT, slot_key TEXT
) RETURNS BOOLEAN LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    run TEXT := split_part(step_id, '/', 1);
    tenant CONSTANT TEXT := current_setting('app.tenant_id');
BEGIN
    IF public.ailydian_own_step(job_id, job_fence, step_id) = 'held' THEN
        IF public.ailydian_enter_slot(tenant, slot_key, step_id, run) THEN
            RETURN true;
        END IF;
        UPDATE public."WorkflowStep" s SET "state" = 'waiting', "jobId" = NULL WHERE s."id" = step_id;
        INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "name")
        VALUES (step_id, tenant, run, 'slot', slot_key);
    END IF;
    PERFORM public.ailydian_walk_on(job_id, '{}', NULL, NULL, 0);
    RETURN false;
END $$;

-- Due waits: timers are over, whoever waited for something else has waited too long.
CREATE OR REPLACE FUNCTION ailydian_fire_waits(most INTEGER) RETURNS INTEGER
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
DECLARE
    due RECORD;
    opened TEXT[] := '{}';
    fired INTEGER := 0;
BEGIN
    FOR due IN
        WITH fired AS (
            DELETE FROM public."WorkflowWait" w USING (
                SELECT x."id" FROM public."WorkflowWait" x WHERE x."dueAt" <= now()
                ORDER BY x."dueAt" LIMIT most FOR UPDATE SKIP LOCKED) x
            WHERE w."id" = x."id" RETURNING w."id", w."runId", w."what", w."name", w."dueAt"
        )
        SELECT f."id", f."runId", f."what", f."name" FROM fired f ORDER BY f."dueAt", f."id"
    LOOP
        fired := fired + 1;
        IF due."what" = 'timer' THEN
            opened := opened || public.ailydian_settle_step(due."id", 'completed', NULL, NULL, NULL, NULL);
        ELSIF due."what" = 'deadline' THEN
            PERFORM public.ailydian_end_run(due."runId", 'failed',
                'timed out: the run took longer than its timeout', NULL, 'timed_out');
        ELSE
            -- The step first: the end of the run it waited for finds it over.
            opened := opened || public.ailydian_settle_step(due."id", 'failed', NULL, NULL,
                format('timed out: waited too long for the %s %s', due."what", due."name"),
                'timed_out');
            IF due."what" = 'run' THEN
                PERFORM public.ailydian_end_run(due."name", 'cancelled',
                    'the step that waited for it timed out', NULL, NULL);
            END IF;
        END IF;
    END LOOP;
    PERFORM public.ailydian_enqueue_steps(opened, 'timer');
    RETURN fired;
END $$;

-- Whatever ends the job of a step ends the step, as that transaction commits.
CREATE OR REPLACE FUNCTION ailydian_step_of_job() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    job RECORD;
    letter RECORD;
    refused TEXT;
BEGIN
    SELECT j."stepId", j."state", j."outcome", j."error" INTO job FROM public."Job" j
    WHERE j."id" = NEW."id";
    IF job."state" = 'PENDING' AND NEW."state" = 'PENDING' THEN  -- a dead letter was replayed
        SELECT r."id", s."jobId" = NEW."id" AND s."state" = 'failed'
               AND r."state" IN ('failed', 'cancelled') AS "failed" INTO letter
        FROM public."WorkflowStep" s JOIN public."WorkflowRun" r ON r."id" = s."runId"
        WHERE s."id" = job."stepId" FOR UPDATE OF r;
        refused := CASE WHEN letter."failed" THEN public.ailydian_revive_run(letter."id", NEW."id", NULL)
                        ELSE 'the step it was has gone on without it' END;
        IF refused IS NOT NULL THEN
            PERFORM public.ailydian_stop_jobs(ARRAY[NEW."id"], 'not replayed: ' || refused);
        END IF;
        RETURN NULL;
    END IF;
    -- Looked at once more: a walker has moved on, a stopped step needs nothing.
    IF job."state" IS DISTINCT FROM NEW."state" OR NOT EXISTS (
        SELECT FROM public."WorkflowStep" s WHERE s."id" = job."stepId" AND s."jobId" = NEW."id"
          AND s."state" IN ('ready', 'running')) THEN
        RETURN NULL;
    END IF;
    IF job."state" = 'COMPLETED' THEN
        PERFORM public.ailydian_step_over(job."stepId", 'completed', job."outcome", NULL, NULL);
    ELSIF job."state" = 'CANCELLED' THEN
        PERFORM public.ailydian_step_over(job."stepId", 'failed', NULL, 'its job was cancelled',
                                          'cancelled');
    ELSE
        SELECT d."fingerprint", n."onError" INTO letter
        FROM public."WorkflowStep" s JOIN public."WorkflowRun" r ON r."id" = s."runId"
        JOIN public."WorkflowNode" n
          ON n."versionId" = r."versionId" AND n."position" = s."position"
        LEFT JOIN public."DeadLetter" d ON d."jobId" = NEW."id"
        WHERE s."id" = job."stepId";
        -- A failure that the definition answers waits for no operator.
        IF letter."onError" <> 'fail' THEN
            DELETE FROM public."DeadLetter" d WHERE d."jobId" = NEW."id";
        END IF;
        PERFORM public.ailydian_step_over(job."stepId", 'failed', NULL, job."error",
                                          letter."fingerprint");
    END IF;
    RETURN NULL;
END $$;

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

-- Acts on whole runs. Each locks the run before it looks; a run of another tenant is as good as none.
-- What goes on to finish a step waits for others' steps as a walker does, so its lock is one that no
-- walker waits for (`whole` false): only a step that begins to wait for a signal, and other acts, do.

CREATE OR REPLACE FUNCTION ailydian_lock_run(run_id TEXT, whole BOOLEAN, VARIADIC wanted TEXT[])
RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
    found_state TEXT;
BEGIN
    IF whole THEN
        PERFORM FROM public."WorkflowRun" r WHERE r."id" = run_id
            AND r."tenantId" = current_setting('app.tenant_id') FOR UPDATE;
    ELSE
        PERFORM FROM public."WorkflowRun" r WHERE r."id" = run_id
            AND r."tenantId" = current_setting('app.tenant_id') FOR KEY SHARE;
    END IF;
    SELECT r."state" INTO found_state FROM public."WorkflowRun" r
    WHERE r."id" = run_id AND r."tenantId" = current_setting('app.tenant_id')
      AND r."state" IS NOT NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run_not_found: no run has the id %', run_id USING ERRCODE = 'AL007';
    ELSIF found_state <> ALL(wanted) THEN
        RAISE EXCEPTION 'run_refused: the run % is %', run_id, found_state USING ERRCODE = 'AL008';
    END IF;
    RETURN found_state;
END $$;

CREATE OR REPLACE FUNCTION ailydian_cancel_run(run_id TEXT, why TEXT) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
BEGIN
    PERFORM public.ailydian_lock_run(run_id, true, 'queued', 'running', 'paused', 'compensating');
    PERFORM public.ailydian_end_run(run_id, 'cancelled', why, NULL, NULL);
END $$;

CREATE OR REPLACE FUNCTION ailydian_pause_run(run_id TEXT) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM public.ailydian_lock_run(run_id, true, 'running');
    UPDATE public."WorkflowRun" r SET "state" = 'paused' WHERE r."id" = run_id;
END $$;

CREATE OR REPLACE FUNCTION ailydian_resume_run(run_id TEXT) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET enable_seqscan = off AS $$
BEGIN
    PERFORM public.ailydian_lock_run(run_id, true, 'paused');
    UPDATE public."WorkflowRun" r SET "state" = 'running' WHERE r."id" = run_id;
    PERFORM public.ailydian_enqueue_steps(ARRAY(
        SELECT s."id" FROM public."WorkflowStep" s
        WHERE s."runId" = run_id AND s."state" = 'ready' AND s."jobId" IS NULL
        ORDER BY s."position", s."itemIndex"), run_id);
END $$;

-- Answers the step that has waited longest; without one, a signal is kept, an approval refused.
CREATE OR REPLACE FUNCTION ailydian_signal_run(
    run_id TEXT, sort TEXT, signal_name TEXT, item INTEGER, payload JSONB, sender TEXT
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET enable_seqscan = off AS $$
DECLARE
    waiting TEXT;
BEGIN
    IF sort = 'signal' AND EXISTS (
        SELECT FROM public."WorkflowRun" r JOIN public."WorkflowNode" n ON n."versionId" = r."versionId"
        WHERE r."id" = run_id AND r."tenantId" = current_setting('app.tenant_id')
          AND n."name" = signal_name AND n."uses" = 'approval') THEN
        RAISE EXCEPTION 'signal_refused: % is an approval; answer it as one', signal_name
            USING ERRCODE = 'AL009';
    END IF;
    PERFORM public.ailydian_lock_run(run_id, false, 'queued', 'running', 'paused', 'compensating');
    DELETE FROM public."WorkflowWait" w WHERE w."id" = (
        SELECT x."id" FROM public."WorkflowWait" x
        WHERE x."runId" = run_id AND x."what" = sort AND x."name" = signal_name
          AND (item IS NULL OR split_part(x."id", '/', 3) = item::text)
        ORDER BY x."createdAt", x."id" LIMIT 1 FOR UPDATE)
    RETURNING w."id" INTO waiting;
    IF FOUND THEN
        PERFORM public.ailydian_enqueue_steps(
            public.ailydian_answer_step(waiting, sort, payload, NULL), waiting);
    ELSIF sort = 'approval' THEN
        RAISE EXCEPTION 'run_refused: no step % of the run % waits for an approval', signal_name,
            run_id USING ERRCODE = 'AL008';
    ELSIF 1000 <= (SELECT count(*) FROM public."WorkflowSignal" g
                   WHERE g."runId" = run_id AND g."takenBy" IS NULL) THEN
        RAISE EXCEPTION 'signal_refused: 1,000 signals wait at the run % already', run_id
            USING ERRCODE = 'AL009';
    ELSE
        INSERT INTO public."WorkflowSignal" ("tenantId", "runId", "name", "payload", "sentBy")
        SELECT r."tenantId", run_id, signal_name, payload, sender
        FROM public."WorkflowRun" r WHERE r."id" = run_id;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION ailydian_skip_step(run_id TEXT, step_name TEXT) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET enable_seqscan = off AS $$
DECLARE
    step RECORD;
    waited RECORD;
    jobs TEXT[];
BEGIN
    PERFORM public.ailydian_lock_run(run_id, false, 'running', 'paused');
    SELECT s."id", s."state", s."jobId", s."position", s."itemIndex", s."openNeeds" INTO step
    FROM public."WorkflowStep" s WHERE s."runId" = run_id AND s."stepName" = step_name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run_refused: the run % has no step %', run_id, step_name
            USING ERRCODE = 'AL008';
    ELSIF step."openNeeds" > 0 THEN  -- otherwise the run might end while what it needs still runs
        RAISE EXCEPTION 'run_refused: what the step % needs is not over yet: skip that', step_name
            USING ERRCODE = 'AL008';
    END IF;
    PERFORM FROM public."WorkflowStep" s WHERE s."id" = step."id"
        AND s."state" IN ('pending', 'ready', 'running', 'waiting') FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run_refused: the step % is over, or just being finished', step_name
            USING ERRCODE = 'AL008';
    END IF;
    jobs := ARRAY[step."jobId"];
    IF step."itemIndex" < 0 THEN
        WITH items AS (
            UPDATE public."WorkflowStep" s SET "state" = 'cancelled', "status" = 'CANCELLED',
                "completedAt" = clock_timestamp() AT TIME ZONE 'UTC'
            WHERE s."id" IN (
                SELECT i."id" FROM public."WorkflowStep" i
                WHERE i."runId" = run_id AND i."position" = step."position" AND i."itemIndex" >= 0
                  AND i."state" IN ('pending', 'ready', 'running', 'waiting')
                FOR UPDATE SKIP LOCKED) RETURNING s."jobId"
        )
        SELECT jobs || coalesce(array_agg(i."jobId"), '{}') INTO jobs FROM items i;
    END IF;
    PERFORM public.ailydian_step_over(step."id", 'skipped', NULL, NULL, NULL);
    FOR waited IN
        DELETE FROM public."WorkflowWait" w
        WHERE w."runId" = run_id
          AND (w."id" = step."id" OR starts_with(w."id", step."id" || '/'))
        RETURNING w."id", w."what", w."name"
    LOOP
        IF waited."what" = 'run' THEN
            PERFORM public.ailydian_end_run(waited."name", 'cancelled', 'its step was skipped', NULL,
                                            NULL);
        END IF;
    END LOOP;
    PERFORM public.ailydian_leave_slot(g."tenantId", g."key", g."holder")
    FROM public."WorkflowSlot" g
    WHERE g."runId" = run_id AND starts_with(g."holder", step."id" || '/');
    PERFORM public.ailydian_stop_jobs(array_remove(jobs, NULL), 'its step was skipped');
END $$;

-- Count again what a run's rows tell of one another, and give jobs to what may begin. Returns how
-- many steps that are.
CREATE OR REPLACE FUNCTION ailydian_recount_run(run_id TEXT) RETURNS INTEGER
LANGUAGE plpgsql AS $$
DECLARE
    run RECORD;
    mapped RECORD;
    opened TEXT[];
BEGIN
    WITH over AS MATERIALIZED (
        SELECT s."position", s."state", n."dependents", s."state" IN ('completed', 'skipped')
               OR (s."state" = 'failed' AND n."onError" = 'continue') AS "done"
        FROM public."WorkflowNode" n JOIN public."WorkflowRun" r ON r."versionId" = n."versionId"
        LEFT JOIN public."WorkflowStep" s ON s."id" = run_id || '/' || n."position"
        WHERE r."id" = run_id AND n."compensates" IS NULL
    ), ends AS (
        UPDATE public."WorkflowRun" r SET "endsOpen" = (
            SELECT count(*) FROM over o WHERE o."dependents" = '{}' AND o."done" IS NOT TRUE)
        WHERE r."id" = run_id
    )
    UPDATE public."WorkflowStep" s SET "openNeeds" = c."open", "liveNeeds" = c."live"
    FROM (SELECT d."position", count(*) FILTER (WHERE o."done" IS NOT TRUE) AS "open",
                 count(*) FILTER (WHERE o."done" AND o."state" <> 'skipped') AS "live"
          FROM over o CROSS JOIN unnest(o."dependents") AS d("position") GROUP BY 1) c
    WHERE s."id" = run_id || '/' || c."position" AND s."state" = 'pending'
      AND (s."openNeeds", s."liveNeeds") IS DISTINCT FROM (c."open", c."live");
    -- A mapped step that has its items goes on with those that are left. Items begin in their order,
    -- so all but a few of those that have not begun lie behind those that have.
    FOR mapped IN
        SELECT s."id", s."items", s."nextItem",
               coalesce((n."spec" ->> 'max_parallel')::int, 32) AS "parallel"
        FROM public."WorkflowStep" s JOIN public."WorkflowRun" r ON r."id" = s."runId"
        JOIN public."WorkflowNode" n
          ON n."versionId" = r."versionId" AND n."position" = s."position"
        WHERE s."runId" = run_id AND s."itemIndex" = -1 AND s."items" IS NOT NULL
          AND (s."state" = 'running' OR (s."state" = 'pending' AND s."openNeeds" = 0))
    LOOP
        WITH counted AS (
            SELECT count(*) FILTER (WHERE i."state" IN ('pending', 'ready', 'running', 'waiting'))
                       AS "open",
                   greatest(max(i."itemIndex") FILTER (WHERE i."state" <> 'pending') + 1,
                            least(mapped."nextItem", mapped."items"), 0) AS "begun"
            FROM generate_series(0, mapped."items" - 1) g
            JOIN public."WorkflowStep" i ON i."id" = mapped."id" || '/' || g
        ), owed AS (
            SELECT c."open", c."begun", (
                SELECT count(*) FROM generate_series(0, c."begun" - 1) g
                JOIN public."WorkflowStep" i ON i."id" = mapped."id" || '/' || g
                WHERE i."state" IN ('pending', 'ready', 'running', 'waiting')) AS "under_way"
            FROM counted c
        )
        UPDATE public."WorkflowStep" s SET "state" = 'running', "status" = 'RUNNING', "jobId" = NULL,
            "openItems" = o."open",
            "nextItem" = least(s."items", o."begun" + greatest(0, mapped."parallel" - o."under_way"))
        FROM owed o WHERE s."id" = mapped."id";
    END LOOP;
    opened := ARRAY(
        SELECT s."id" FROM public."WorkflowStep" s
        WHERE s."runId" = run_id AND s."state" = 'pending' AND s."itemIndex" = -1
          AND s."openNeeds" = 0
        UNION ALL
        SELECT i."id" FROM public."WorkflowStep" i JOIN public."WorkflowStep" s
          ON s."id" = run_id || '/' || i."position"
        WHERE i."runId" = run_id AND i."state" = 'pending' AND i."itemIndex" >= 0
          AND s."state" = 'running' AND i."itemIndex" < s."nextItem");
    SELECT r."state", r."endsOpen", v."ends" INTO STRICT run
    FROM public."WorkflowRun" r JOIN public."WorkflowVersion" v ON v."id" = r."versionId"
    WHERE r."id" = run_id;
    IF run."state" = 'paused' THEN
        UPDATE public."WorkflowStep" s SET "state" = 'ready', "jobId" = NULL
        WHERE s."id" = ANY(opened);
    ELSE
        PERFORM public.ailydian_enqueue_steps(opened, run_id);
    END IF;
    -- What is over, and nobody has said so.
    FOR mapped IN
        SELECT s."id", s."position" FROM public."WorkflowStep" s
        WHERE s."runId" = run_id AND s."itemIndex" = -1 AND s."state" = 'running'
          AND s."items" IS NOT NULL AND s."openItems" = 0
          AND s."items" = (SELECT count(*) FROM generate_series(0, s."items" - 1) g
                           JOIN public."WorkflowStep" i ON i."id" = s."id" || '/' || g)
    LOOP
        PERFORM public.ailydian_step_over(mapped."id", 'completed', (
            SELECT jsonb_agg(coalesce(o."output", i."output", 'null') ORDER BY i."itemIndex")
            FROM public."WorkflowStep" i LEFT JOIN public."WorkflowOutput" o ON o."stepId" = i."id"
            WHERE i."runId" = run_id AND i."position" = mapped."position" AND i."itemIndex" >= 0),
            NULL, NULL);
    END LOOP;
    IF run."endsOpen" = 0 AND run."state" IN ('running', 'paused') THEN
        PERFORM public.ailydian_end_run(run_id, 'completed', NULL, CASE WHEN run."ends" = 1 THEN (
            SELECT coalesce(o."output", s."output") FROM public."WorkflowRun" r
            JOIN public."WorkflowNode" n ON n."versionId" = r."versionId"
             AND n."compensates" IS NULL AND n."dependents" = '{}'
            JOIN public."WorkflowStep" s ON s."id" = run_id || '/' || n."position"
            LEFT JOIN public."WorkflowOutput" o ON o."stepId" = s."id" WHERE r."id" = run_id) END, NULL);
    END IF;
    RETURN cardinality(opened);
END $$;

-- A run that failed or was cancelled goes on where it stopped, with a new deadline; the run that
-- waits for it too. `kept_job` is a dead letter's job that was replayed: it does its step itself.
-- `kept_run` is a run that goes on: the step that started it waits for it. Returns why not, if not.
CREATE OR REPLACE FUNCTION ailydian_revive_run(run_id TEXT, kept_job TEXT, kept_run TEXT) RETURNS TEXT
LANGUAGE plpgsql AS $$
DECLARE
    run RECORD;
    starter RECORD;
    refused TEXT;
BEGIN
    SELECT r."tenantId", r."concurrencyKey", r."parentStepId", v."timeoutS" INTO STRICT run
    FROM public."WorkflowRun" r JOIN public."WorkflowVersion" v ON v."id" = r."versionId"
    WHERE r."id" = run_id;
    IF EXISTS (SELECT FROM public."WorkflowStep" s JOIN public."WorkflowRun" r ON r."id" = s."runId"
               JOIN public."WorkflowNode" n
                 ON n."versionId" = r."versionId" AND n."position" = s."position"
               WHERE s."runId" = run_id AND n."compensates" IS NOT NULL) THEN
        RETURN format('what the run %s did was undone; begin again from a step', run_id);
    ELSIF EXISTS (SELECT FROM public."WorkflowStep" s WHERE s."runId" = run_id
                  AND s."state" IN ('failed', 'cancelled')
                  AND s."id" NOT IN (SELECT x."id" FROM public."WorkflowStep" x
                                     WHERE x."runId" = run_id AND x."state" IN ('failed', 'cancelled')
                                     FOR UPDATE SKIP LOCKED)) THEN
        RETURN format('a step of the run %s is just being finished', run_id);
    END IF;
    -- The step that started the run waits for it again, in a run that goes on too.
    IF run."parentStepId" IS NOT NULL THEN
        SELECT p."id", s."state" IN ('failed', 'cancelled') AND p."state" IN ('failed', 'cancelled')
            AS "over" INTO starter
        FROM public."WorkflowStep" s JOIN public."WorkflowRun" p ON p."id" = s."runId"
        WHERE s."id" = run."parentStepId" FOR UPDATE OF p;
        IF starter."over" IS NOT TRUE THEN
            RETURN format('the step %s, which started the run %s, has gone on without it',
                          run."parentStepId", run_id);
        END IF;
    END IF;
    IF run."concurrencyKey" IS NOT NULL AND NOT public.ailydian_enter_slot(
            run."tenantId", run."concurrencyKey", run_id, run_id) THEN
        DELETE FROM public."WorkflowSlot" g
        WHERE g."tenantId" = run."tenantId" AND g."key" = run."concurrencyKey"
          AND g."holder" = run_id;
        RETURN format('another run holds the concurrency key of the run %s', run_id);
    END IF;
    IF run."parentStepId" IS NOT NULL THEN
        refused := public.ailydian_revive_run(starter."id", NULL, run_id);
        IF refused IS NOT NULL THEN
            RETURN refused;
        END IF;
    END IF;
    UPDATE public."WorkflowRun" r SET "state" = 'running', "status" = 'RUNNING', "error" = NULL,
        "fingerprint" = NULL, "failedStepId" = NULL, "completedAt" = NULL
    WHERE r."id" = run_id;
    WITH again AS (
        UPDATE public."WorkflowStep" s SET "state" = 'pending', "status" = 'PENDING', "error" = NULL,
            "output" = NULL, "fingerprint" = NULL, "completedAt" = NULL
        FROM public."WorkflowRun" r, public."WorkflowNode" n
        WHERE s."runId" = run_id AND r."id" = run_id AND n."versionId" = r."versionId"
          AND n."position" = s."position"
          AND (s."state" = 'cancelled' OR (s."state" = 'failed' AND n."onError" <> 'continue'))
        RETURNING s."jobId"
    ), letters AS (
        DELETE FROM public."DeadLetter" d USING again a
        WHERE d."jobId" = a."jobId" AND a."jobId" IS DISTINCT FROM kept_job
        RETURNING d."jobId"
    ), discarded AS (
        UPDATE public."Job" j SET "state" = 'CANCELLED' FROM letters l
        WHERE j."id" = l."jobId" AND j."state" = 'DEAD'
        RETURNING j."tenantId", j."id", j."job", j."queue", j."batchId"
    )
    INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId")
    SELECT d."tenantId", d."id", d."job", d."queue", 'DISCARDED', d."batchId" FROM discarded d;
    UPDATE public."WorkflowStep" s SET "state" = 'ready'
    WHERE s."runId" = run_id AND s."jobId" = kept_job AND s."state" = 'pending';
    IF kept_run IS NOT NULL THEN
        WITH starter AS (
            UPDATE public."WorkflowStep" s SET "state" = 'waiting', "status" = 'RUNNING'
            FROM public."WorkflowRun" c
            WHERE c."id" = kept_run AND s."id" = c."parentStepId" RETURNING s."id"
        )
        INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "name")
        SELECT s."id", run."tenantId", run_id, 'run', kept_run FROM starter s;
    END IF;
    IF run."timeoutS" > 0 THEN
        INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "dueAt")
        VALUES (run_id, run."tenantId", run_id, 'deadline',
                now() + run."timeoutS" * interval '1 second') ON CONFLICT DO NOTHING;
    END IF;
    PERFORM public.ailydian_recount_run(run_id);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION ailydian_retry_run(run_id TEXT) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET enable_seqscan = off AS $$
DECLARE
    refused TEXT;
BEGIN
    PERFORM public.ailydian_lock_run(run_id, true, 'failed', 'cancelled');
    refused := public.ailydian_revive_run(run_id, NULL, NULL);
    IF refused IS NOT NULL THEN
        RAISE EXCEPTION 'run_refused: %', refused USING ERRCODE = 'AL008';
    END IF;
END $$;

-- A new run from a step on: what does not depend on that step is taken over from the old run, which
-- stays as it is. It stands in no line of a concurrency key.
CREATE OR REPLACE FUNCTION ailydian_fork_run(run_id TEXT, step_name TEXT, sender TEXT) RETURNS TEXT
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
DECLARE
    fork CONSTANT TEXT := public.ailydian_new_id();
    run RECORD;
    begin_at INTEGER;
BEGIN
    PERFORM public.ailydian_lock_run(run_id, true, 'completed', 'failed', 'cancelled');
    SELECT * INTO run FROM public."WorkflowRun" r WHERE r."id" = run_id;
    SELECT n."position" INTO begin_at FROM public."WorkflowNode" n
    WHERE n."versionId" = run."versionId" AND n."name" = step_name AND n."compensates" IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run_refused: the run % has no step %', run_id, step_name
            USING ERRCODE = 'AL008';
    END IF;
    INSERT INTO public."WorkflowRun" ("id", "workflowId", "status", "input", "tenantId", "versionId",
        "state", "forkOf", "endsOpen", "producer", "traceparent")
    VALUES (fork, run."workflowId", 'RUNNING', run."input", run."tenantId", run."versionId",
            'running', run_id, 0, sender, run."traceparent");
    WITH RECURSIVE after("position") AS (
        VALUES (begin_at)
        UNION
        SELECT d."position" FROM after a JOIN public."WorkflowNode" n
          ON n."versionId" = run."versionId" AND n."position" = a."position"
        CROSS JOIN unnest(n."dependents") AS d("position")
    ), kept AS MATERIALIZED (
        SELECT s."position" FROM public."WorkflowStep" s JOIN public."WorkflowNode" n
          ON n."versionId" = run."versionId" AND n."position" = s."position"
        WHERE s."runId" = run_id AND s."itemIndex" = -1
          AND (s."state" IN ('completed', 'skipped')
               OR (s."state" = 'failed' AND n."onError" = 'continue'))
          AND s."position" NOT IN (SELECT a."position" FROM after a)
    )
    INSERT INTO public."WorkflowStep" ("id", "runId", "stepName", "status", "input", "output", "error",
        "startedAt", "completedAt", "tenantId", "position", "itemIndex", "item", "state", "items",
        "openItems", "nextItem", "attempt", "fingerprint", "progress")
    SELECT fork || substr(s."id", length(run_id) + 1), fork, s."stepName", s."status", s."input",
           s."output", s."error", s."startedAt", s."completedAt", s."tenantId", s."position",
           s."itemIndex", s."item", s."state", s."items", s."openItems", s."nextItem", s."attempt",
           s."fingerprint", s."progress"
    FROM public."WorkflowStep" s
    WHERE s."runId" = run_id AND s."position" IN (SELECT k."position" FROM kept k)
    UNION ALL
    SELECT fork || '/' || n."position", fork, n."name", 'PENDING', NULL, NULL, NULL,
           now() AT TIME ZONE 'UTC', NULL, run."tenantId", n."position", -1, NULL, 'pending', NULL,
           NULL, NULL, 0, NULL, NULL
    FROM public."WorkflowNode" n
    WHERE n."versionId" = run."versionId" AND n."compensates" IS NULL
      AND n."position" NOT IN (SELECT k."position" FROM kept k);
    INSERT INTO public."WorkflowOutput" ("stepId", "tenantId", "output")
    SELECT fork || substr(o."stepId", length(run_id) + 1), o."tenantId", o."output"
    FROM public."WorkflowStep" s JOIN public."WorkflowOutput" o ON o."stepId" = s."id"
    WHERE s."runId" = run_id AND EXISTS (
        SELECT FROM public."WorkflowStep" f WHERE f."id" = fork || substr(s."id", length(run_id) + 1)
          AND f."state" <> 'pending');
    INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "dueAt")
    SELECT fork, run."tenantId", fork, 'deadline', now() + v."timeoutS" * interval '1 second'
    FROM public."WorkflowVersion" v WHERE v."id" = run."versionId" AND v."timeoutS" > 0;
    PERFORM public.ailydian_recount_run(fork);
    RETURN fork;
END $$;

-- Runs that have not ended, in the order of their ids: what the sweep walks along.
DO $$
BEGIN
    IF to_regclass('public."WorkflowRun_live_idx"') IS NULL THEN
        CREATE INDEX "WorkflowRun_live_idx" ON "WorkflowRun" ("id")
            WHERE "status" IN ('PENDING', 'RUNNING');
    END IF;
END $$;

-- How much of a run nothing carries, in one snapshot: each live step has a job that is at it, or a
-- wait for something that will come; a mapped step has such an item; a run that waits for its key
-- has another before it. 0 for a sound run, and for one that has ended.
CREATE OR REPLACE FUNCTION ailydian_lost_steps(of_run TEXT) RETURNS INTEGER
LANGUAGE plpgsql AS $$
BEGIN
    RETURN (
        WITH run AS (
            SELECT r."id", r."tenantId", r."state", r."concurrencyKey", r."parentStepId", v."timeoutS"
            FROM public."WorkflowRun" r JOIN public."WorkflowVersion" v ON v."id" = r."versionId"
            WHERE r."id" = of_run
        ), live AS MATERIALIZED (
            SELECT s."id", s."position", s."itemIndex", s."state", s."openNeeds", s."items", s."jobId"
            FROM public."WorkflowStep" s WHERE s."runId" = of_run
              AND s."state" IN ('pending', 'ready', 'running', 'waiting')
        ), carried AS MATERIALIZED (
            SELECT DISTINCT l."position" FROM live l WHERE l."itemIndex" >= 0 AND l."state" <> 'pending'
        ), judged AS (
            SELECT l."state", CASE
                WHEN l."state" = 'pending' THEN l."itemIndex" >= 0 OR l."openNeeds" > 0
                WHEN l."state" = 'waiting' THEN EXISTS (
                    SELECT FROM public."WorkflowWait" w WHERE w."id" = l."id" AND CASE w."what"
                        WHEN 'run' THEN EXISTS (
                            SELECT FROM public."WorkflowRun" c WHERE c."id" = w."name"
                              AND c."state" IN ('queued', 'running', 'paused', 'compensating'))
                        WHEN 'slot' THEN l."id" <> (
                            SELECT g."holder" FROM public."WorkflowSlot" g
                            WHERE g."tenantId" = w."tenantId" AND g."key" = w."name"
                            ORDER BY g."seq" LIMIT 1)
                          AND EXISTS (
                            SELECT FROM public."WorkflowSlot" g
                            WHERE g."runId" = of_run AND g."holder" = l."id")
                        ELSE true END)
                WHEN l."itemIndex" = -1 AND l."items" IS NOT NULL AND l."state" = 'running'
                    THEN l."position" IN (SELECT c."position" FROM carried c)
                WHEN l."state" = 'ready' AND l."jobId" IS NULL THEN run."state" = 'paused'
                ELSE EXISTS (SELECT FROM public."Job" j WHERE j."id" = l."jobId"
                             AND j."stepId" = l."id" AND j."state" IN ('PENDING', 'RUNNING'))
                END AS "sound"
            FROM live l CROSS JOIN run
        )
        SELECT CASE
            WHEN run."state" = 'queued' THEN (coalesce((
                SELECT g."holder" FROM public."WorkflowSlot" g
                WHERE g."tenantId" = run."tenantId" AND g."key" = run."concurrencyKey"
                ORDER BY g."seq" LIMIT 1), of_run) = of_run OR NOT EXISTS (
                SELECT FROM public."WorkflowSlot" g
                WHERE g."runId" = of_run AND g."holder" = of_run))::int
            WHEN run."state" NOT IN ('running', 'paused', 'compensating') THEN 0
            ELSE (SELECT count(*) FILTER (WHERE j."sound" IS NOT TRUE)
                         + (count(*) FILTER (WHERE j."state" <> 'pending') = 0)::int FROM judged j)
                + (run."timeoutS" > 0 AND NOT EXISTS (
                    SELECT FROM public."WorkflowWait" w WHERE w."id" = of_run))::int
                + (run."parentStepId" IS NOT NULL AND NOT EXISTS (
                    SELECT FROM public."WorkflowWait" w
                    WHERE w."id" = run."parentStepId" AND w."name" = of_run))::int
            END
        FROM run);
END $$;

-- Give a run what it lacks. Whoever finishes a step of it now is left alone: it is looked at again.
-- Returns whether all is well now; NULL where nothing is wrong, or could be told.
CREATE OR REPLACE FUNCTION ailydian_mend_run(of_run TEXT) RETURNS BOOLEAN
LANGUAGE plpgsql AS $$
DECLARE
    run RECORD;
    waited RECORD;
    held INTEGER;
BEGIN
    SELECT r."tenantId", r."state", r."concurrencyKey", r."parentStepId", v."timeoutS",
           r."startedAt" AT TIME ZONE 'UTC' + v."timeoutS" * interval '1 second' AS "until" INTO run
    FROM public."WorkflowRun" r JOIN public."WorkflowVersion" v ON v."id" = r."versionId"
    WHERE r."id" = of_run AND r."status" IN ('PENDING', 'RUNNING')
    FOR NO KEY UPDATE OF r SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT count(*) INTO held FROM (
        SELECT FROM public."WorkflowStep" s
        WHERE s."runId" = of_run AND s."state" IN ('pending', 'ready', 'running', 'waiting')
        FOR UPDATE SKIP LOCKED) x;
    IF public.ailydian_lost_steps(of_run) = 0 OR held <> (
        SELECT count(*) FROM public."WorkflowStep" s
        WHERE s."runId" = of_run AND s."state" IN ('pending', 'ready', 'running', 'waiting')) THEN
        RETURN NULL;
    ELSIF run."parentStepId" IS NOT NULL AND NOT EXISTS (
        SELECT FROM public."WorkflowWait" w
        WHERE w."id" = run."parentStepId" AND w."name" = of_run) THEN
        PERFORM public.ailydian_end_run(of_run, 'cancelled', 'the step that started it went on without it',
                                        NULL, NULL);
        RETURN true;
    ELSIF run."state" = 'queued' THEN
        IF public.ailydian_enter_slot(run."tenantId", run."concurrencyKey", of_run, of_run) THEN
            UPDATE public."WorkflowRun" r SET "state" = 'running', "status" = 'RUNNING'
            WHERE r."id" = of_run;
            PERFORM public.ailydian_launch_run(of_run);
        END IF;
        RETURN public.ailydian_lost_steps(of_run) = 0;
    ELSIF run."timeoutS" > 0 THEN
        INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "dueAt")
        VALUES (of_run, run."tenantId", of_run, 'deadline', run."until") ON CONFLICT DO NOTHING;
    END IF;
    -- Runs that ended unheard, turns that came unnoticed.
    FOR waited IN
        DELETE FROM public."WorkflowWait" w
        WHERE w."runId" = of_run AND w."what" IN ('run', 'slot') AND CASE w."what"
            WHEN 'run' THEN NOT EXISTS (
                SELECT FROM public."WorkflowRun" c WHERE c."id" = w."name"
                  AND c."state" IN ('queued', 'running', 'paused', 'compensating'))
            ELSE w."id" IS NOT DISTINCT FROM coalesce((
                SELECT g."holder" FROM public."WorkflowSlot" g
                WHERE g."tenantId" = w."tenantId" AND g."key" = w."name"
                ORDER BY g."seq" LIMIT 1), w."id") OR NOT EXISTS (
                SELECT FROM public."WorkflowSlot" g
                WHERE g."runId" = of_run AND g."holder" = w."id") END
        RETURNING w."id", w."what", w."name"
    LOOP
        IF waited."what" = 'run' THEN
            PERFORM public.ailydian_step_over(waited."id",
                CASE c."state" WHEN 'completed' THEN 'completed' ELSE 'failed' END, c."output",
                concat('its run ', c."id", ' ', c."state", ': ' || c."error"), c."fingerprint")
            FROM public."WorkflowRun" c WHERE c."id" = waited."name";
        END IF;
    END LOOP;
    UPDATE public."WorkflowStep" s SET "state" = 'pending', "status" = 'PENDING', "jobId" = NULL
    WHERE s."runId" = of_run AND CASE s."state"
        WHEN 'waiting' THEN NOT EXISTS (SELECT FROM public."WorkflowWait" w WHERE w."id" = s."id")
        WHEN 'ready' THEN run."state" <> 'paused' OR s."jobId" IS NOT NULL
        ELSE s."state" = 'running' AND (s."items" IS NULL OR s."itemIndex" >= 0) END
      AND (s."state" = 'waiting' OR NOT EXISTS (
          SELECT FROM public."Job" j WHERE j."id" = s."jobId" AND j."stepId" = s."id"
            AND j."state" IN ('PENDING', 'RUNNING')));
    IF run."state" <> 'compensating' THEN
        PERFORM public.ailydian_recount_run(of_run);
    ELSE
        PERFORM public.ailydian_enqueue_steps(ARRAY(
            SELECT s."id" FROM public."WorkflowStep" s
            WHERE s."runId" = of_run AND s."state" = 'pending' AND s."itemIndex" = -1), of_run);
        IF NOT EXISTS (SELECT FROM public."WorkflowStep" s
                       WHERE s."runId" = of_run AND s."state" IN ('ready', 'running', 'waiting')) THEN
            PERFORM public.ailydian_enqueue_steps(public.ailydian_compensate(of_run), of_run);
        END IF;
    END IF;
    RETURN public.ailydian_lost_steps(of_run) = 0;
END $$;

-- The next of the runs that have not ended, after an id: those that had to be mended, whether that
-- helped, and, in a last row, how far it has come.
CREATE OR REPLACE FUNCTION ailydian_mend_runs(after_id TEXT, most INTEGER)
RETURNS TABLE ("id" TEXT, "tenantId" TEXT, "lost" INTEGER, "mended" BOOLEAN, "last" TEXT)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET enable_sort = off AS $$
#variable_conflict use_column
DECLARE
    run RECORD;
BEGIN
    FOR run IN
        SELECT r."id", r."tenantId", r."state",
               r."startedAt" < now() AT TIME ZONE 'UTC' - interval '30 seconds' AS "old"
        FROM public."WorkflowRun" r
        WHERE r."status" IN ('PENDING', 'RUNNING') AND r."id" > after_id ORDER BY r."id" LIMIT most
    LOOP
        last := run."id";
        CONTINUE WHEN run."state" IS NULL OR NOT run."old";
        lost := public.ailydian_lost_steps(run."id");
        CONTINUE WHEN coalesce(lost, 0) = 0;
        mended := public.ailydian_mend_run(run."id");
        CONTINUE WHEN mended IS NULL;
        id := run."id";
        "tenantId" := run."tenantId";
        RETURN NEXT;
    END LOOP;
    IF last IS NOT NULL THEN
        id := NULL;
        RETURN NEXT;
    END IF;
END $$;

-- Incidents of stuck runs, and how many runs there are: the relay's role has no sight of the rows.
CREATE OR REPLACE FUNCTION ailydian_note_stuck_run(run_id TEXT, of_tenant TEXT) RETURNS BOOLEAN
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO public."Incident" ("id", "title", "description", "severity", "status", "tenantId")
    VALUES ('stuck-run:' || run_id, 'A workflow run is stuck: ' || run_id,
            'Nothing carries it and nothing is left to begin. Look at it with `ailydian workflow '
            'show`, then retry it from a step or cancel it.', 'HIGH', 'OPEN', of_tenant)
    ON CONFLICT ("id") DO NOTHING;
    RETURN FOUND;
END $$;

CREATE OR REPLACE FUNCTION ailydian_resolve_stuck_runs() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    UPDATE public."Incident" i SET "status" = 'RESOLVED', "resolvedAt" = now() AT TIME ZONE 'UTC'
    FROM public."WorkflowRun" r
    WHERE i."status" = 'OPEN' AND i."id" LIKE 'stuck-run:%'
      AND r."id" = substr(i."id", length('stuck-run:') + 1) AND r."completedAt" IS NOT NULL
$$;

CREATE OR REPLACE FUNCTION ailydian_count_runs(most INTEGER)
RETURNS TABLE ("state" TEXT, "runs" BIGINT) LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET enable_seqscan = off AS $$
    SELECT r."state", count(*) FROM (
        SELECT x."state" FROM public."WorkflowRun" x
        WHERE x."status" IN ('PENDING', 'RUNNING') AND x."state" IS NOT NULL LIMIT most
    ) r GROUP BY r."state"
    UNION ALL
    SELECT 'failed', count(*) FROM (
        SELECT FROM public."WorkflowRun" x
        WHERE x."state" = 'failed'
          AND x."completedAt" >= (now() - interval '1 hour') AT TIME ZONE 'UTC' LIMIT most
    ) f
$$;

-- What the engine calls itself is nobody's to call; the rest, whoever walks, starts or sweeps.
DO $$
DECLARE
    engine regprocedure;
BEGIN
    FOR engine IN
        SELECT p.oid FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace
          AND p.proname IN ('ailydian_note_stuck_run', 'ailydian_resolve_stuck_runs',
              'ailydian_count_runs', 'ailydian_own_step', 'ailydian_step_at', 'ailydian_step_context', 'ailydian_enqueue_steps', 'ailydian_stop_jobs',
              'ailydian_stop_steps', 'ailydian_enter_slot', 'ailydian_leave_slot',
              'ailydian_launch_run', 'ailydian_end_run', 'ailydian_compensate',
              'ailydian_settle_step', 'ailydian_step_over', 'ailydian_walk_on',
              'ailydian_answer_step', 'ailydian_fire_waits', 'ailydian_lock_run',
              'ailydian_recount_run', 'ailydian_revive_run', 'ailydian_lost_steps',
              'ailydian_mend_run', 'ailydian_mend_runs')
          AND has_function_privilege('ailydian_app', p.oid, 'EXECUTE')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', engine);
    END LOOP;
    IF NOT has_function_privilege('ailydian_relay', 'ailydian_fire_waits(integer)', 'EXECUTE') THEN
        GRANT EXECUTE ON FUNCTION ailydian_fire_waits(integer) TO ailydian_relay;
        GRANT EXECUTE ON FUNCTION ailydian_mend_runs(text, integer) TO ailydian_relay;
        GRANT EXECUTE ON FUNCTION ailydian_note_stuck_run(text, text) TO ailydian_relay;
        GRANT EXECUTE ON FUNCTION ailydian_resolve_stuck_runs() TO ailydian_relay;
        GRANT EXECUTE ON FUNCTION ailydian_count_runs(integer) TO ailydian_relay;
    END IF;
END $$;

CALL ailydian_build_security('WorkflowVersion', 'SELECT, INSERT', of_platform => false);
CALL ailydian_build_security('WorkflowNode', 'SELECT, INSERT', of_platform => false);
CALL ailydian_build_security('WorkflowWait', 'SELECT', of_platform => false);
CALL ailydian_build_security('WorkflowSignal', 'SELECT, INSERT', of_platform => false);
CALL ailydian_build_security('WorkflowSlot', 'SELECT', of_platform => false);
CALL ailydian_build_security('WorkflowOutput', 'SELECT', of_platform => false);
CALL ailydian_build_policy('WorkflowWait', 'ailydian_relay', 'true');
CALL ailydian_build_grant('WorkflowWait', 'ailydian_relay', 'SELECT');


-- ============================================================================================
-- Chapter 10: judgement
--
-- What is decided about messages, people, models and answers, beside the platform's tables of the
-- chapters above: the columns that are ours in them, and our own tables. Three rules hold for all.
-- A score is computed from rows that are kept, so that it can be computed again: trust from
-- "TrustEvent", a bandit's arms from "ArmReward", a calibration from pairs of scores. What may come
-- twice, late or in another order is keyed by the fact it is about, and the last word about a fact
-- replaces the one before it. And what was withdrawn (an appeal granted, a document changed, a
-- rating taken back) is undone by the same statement that would have done it.
-- ============================================================================================

-- What is ours in the platform's tables; in a new database and in an old one.
CALL ailydian_build_column('Conversation', 'analysis', 'INTEGER NOT NULL DEFAULT 0');
CALL ailydian_build_column('ConversationMetadata', 'messages', 'INTEGER');
CALL ailydian_build_column('ConversationMetadata', 'language', 'TEXT');
CALL ailydian_build_column('ConversationMetadata', 'analysedAt', 'TIMESTAMPTZ');
CALL ailydian_build_column('ModerationResult', 'userId', 'TEXT');
CALL ailydian_build_column('ModerationResult', 'engine', 'TEXT');
CALL ailydian_build_column('ModerationResult', 'contentSha256', 'TEXT');
CALL ailydian_build_column('ModerationResult', 'policyVersion', 'INTEGER');
CALL ailydian_build_column('ModerationResult', 'superseded', 'BOOLEAN NOT NULL DEFAULT false');
CALL ailydian_build_column('Message', 'intent', 'TEXT');
CALL ailydian_build_column('MessageEmbedding', 'bits', 'bit(1536)');
CALL ailydian_build_column('Provenance', 'questionId', 'TEXT');
CALL ailydian_build_column('Provenance', 'questionSha256', 'TEXT');
CALL ailydian_build_column('Provenance', 'inputs', 'JSONB');
CALL ailydian_build_column('Provenance', 'keyId', 'TEXT');
CALL ailydian_build_column('ExplainabilityLog', 'subject', 'TEXT');
CALL ailydian_build_column('ExplainabilityLog', 'subjectId', 'TEXT');
CALL ailydian_build_column('TrainingExample', 'messageId', 'TEXT');
CALL ailydian_build_column('TrainingExample', 'rejectedId', 'TEXT');
CALL ailydian_build_column('TrainingExample', 'userId', 'TEXT');
CALL ailydian_build_column('TrainingExample', 'rejected', 'TEXT');
CALL ailydian_build_column('TrainingExample', 'digest', 'TEXT');
CALL ailydian_build_column('TrainingExample', 'withdrawnAt', 'TIMESTAMPTZ');
CALL ailydian_build_column('RoutingScore', 'factors', 'JSONB');
CALL ailydian_build_column('AIModel', 'calls', 'BIGINT NOT NULL DEFAULT 0');
CALL ailydian_build_column('AIModel', 'latencyEwmaMs', 'DOUBLE PRECISION');
CALL ailydian_build_column('SemanticCache', 'scope', 'TEXT');
CALL ailydian_build_column('SemanticCache', 'guard', 'TEXT');
CALL ailydian_build_column('SemanticCache', 'question', 'TEXT');
CALL ailydian_build_column('SemanticCache', 'citations', 'JSONB');
CALL ailydian_build_column('SemanticCache', 'costUsd', 'NUMERIC(20, 8)');
CALL ailydian_build_column('SemanticCache', 'bits', 'bit(1536)');
CALL ailydian_build_column('Incident', 'cause', 'TEXT');
CALL ailydian_build_column('Incident', 'escalations', 'INTEGER NOT NULL DEFAULT 0');
CALL ailydian_build_column('Incident', 'lastSeenAt', 'TIMESTAMPTZ');

CALL ailydian_build_index('ModerationResult', 'tenantId', 'contentId');
CALL ailydian_build_index('MessageEmbedding', 'tenantId', 'model');
CALL ailydian_build_index('ExplainabilityLog', 'subjectId');
CALL ailydian_build_index('Provenance', 'tenantId', 'questionSha256');
CALL ailydian_build_index('TrainingExample', 'messageId');
CALL ailydian_build_index('TrainingExample', 'rejectedId');
DO $$
BEGIN
    IF to_regclass('public."TrainingExample_digest_key"') IS NULL THEN
        CREATE UNIQUE INDEX "TrainingExample_digest_key" ON "TrainingExample" ("tenantId", "digest");
        -- One open incident a cause; those of no tenant are the system's.
        CREATE UNIQUE INDEX "Incident_cause_key" ON "Incident" (coalesce("tenantId", ''), "cause")
            WHERE "cause" IS NOT NULL AND "status" IN ('OPEN', 'INVESTIGATING');
        CREATE INDEX "QualityScore_rated_idx" ON "QualityScore" ("tenantId")
            WHERE "actualScore" IS NOT NULL;
    END IF;
END $$;

-- moderation

CREATE TABLE IF NOT EXISTS "ModerationPolicy" (
    "tenantId"  TEXT NOT NULL DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "version"   INTEGER NOT NULL CHECK ("version" > 0),
    "policy"    JSONB NOT NULL,
    "createdBy" TEXT NOT NULL,
    "createdAt" TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY ("tenantId", "version")
);

CREATE TABLE IF NOT EXISTS "ModerationAppeal" (
    "tenantId"  TEXT NOT NULL DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "id"        TEXT NOT NULL DEFAULT ailydian_new_id(),
    "resultId"  TEXT NOT NULL,
    "reason"    TEXT NOT NULL,
    "state"     TEXT NOT NULL DEFAULT 'open',
    "openedBy"  TEXT NOT NULL,
    "openedAt"  TIMESTAMPTZ NOT NULL DEFAULT now(),
    "decidedBy" TEXT,
    "decidedAt" TIMESTAMPTZ,
    PRIMARY KEY ("tenantId", "id"),
    UNIQUE ("tenantId", "resultId"),
    CONSTRAINT "ModerationAppeal_state_check" CHECK ("state" IN ('open', 'granted', 'rejected')),
    CONSTRAINT "ModerationAppeal_decided_check"
        CHECK (("state" = 'open') = ("decidedAt" IS NULL AND "decidedBy" IS NULL))
);

-- trust

CREATE TABLE IF NOT EXISTS "TrustEvent" (
    "tenantId"   TEXT NOT NULL DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "userId"     TEXT NOT NULL,
    "kind"       TEXT NOT NULL,
    "sourceId"   TEXT NOT NULL,
    "value"      DOUBLE PRECISION NOT NULL,
    "occurredAt" TIMESTAMPTZ NOT NULL,
    -- Of two words about one fact the one with the greater revision holds, in whatever order they
    -- come.
    "revision"   TIMESTAMPTZ NOT NULL,
    "withdrawn"  BOOLEAN NOT NULL DEFAULT false,
    PRIMARY KEY ("tenantId", "userId", "kind", "sourceId")
);

-- Note events and compute the trust of those they are about at an instant: with no events, that of
-- `people`. The factors are rows of workers/domain/trust.py, in columns; "age" is the one without
-- events. A person's lock comes first, in the order of the ids, so that workers wait for each other
-- and each sees all that was noted before. Numbers are summed in one order: the same events give
-- the same score to the last bit. What has faded by 64 halves fades no more, and a value that is all
-- but 0 is none: smaller numbers than the type holds are an error here.
CREATE OR REPLACE FUNCTION ailydian_update_trust(
    people TEXT[], kinds TEXT[], sources TEXT[], "values" DOUBLE PRECISION[],
    occurred TIMESTAMPTZ[], revisions TIMESTAMPTZ[], withdrawals BOOLEAN[],
    factors TEXT[], weights DOUBLE PRECISION[], half_lives_s DOUBLE PRECISION[],
    lows DOUBLE PRECISION[], highs DOUBLE PRECISION[], base DOUBLE PRECISION,
    instant TIMESTAMPTZ
) RETURNS TABLE ("userId" TEXT, "score" DOUBLE PRECISION) LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant TEXT := current_setting('app.tenant_id');
    -- The tenant's own people alone: "userId" is unique over all tenants, and nobody's to occupy.
    concerned TEXT[] := ARRAY(SELECT u."id" FROM "User" u WHERE u."id" = ANY(people) ORDER BY u."id");
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('trust' || chr(1) || tenant || chr(1) || p, 0))
    FROM unnest(concerned) p;
    INSERT INTO "TrustEvent" AS e ("tenantId", "userId", "kind", "sourceId", "value", "occurredAt",
                                   "revision", "withdrawn")
    SELECT DISTINCT ON (n."userId", n."kind", n."sourceId") tenant, n.*
    FROM unnest(people, kinds, sources, "values", occurred, revisions, withdrawals)
         AS n ("userId", "kind", "sourceId", "value", "occurredAt", "revision", "withdrawn")
    WHERE n."kind" IS NOT NULL AND n."userId" = ANY(concerned)
    ORDER BY n."userId", n."kind", n."sourceId", n."revision" DESC, n."withdrawn" DESC,
             n."value" DESC, n."occurredAt" DESC
    ON CONFLICT ("tenantId", "userId", "kind", "sourceId") DO UPDATE
    SET "value" = excluded."value", "occurredAt" = excluded."occurredAt",
        "revision" = excluded."revision", "withdrawn" = excluded."withdrawn"
    WHERE (excluded."revision", excluded."withdrawn", excluded."value", excluded."occurredAt")
        > (e."revision", e."withdrawn", e."value", e."occurredAt");
    RETURN QUERY
    WITH factor AS MATERIALIZED (
        SELECT f.* FROM unnest(factors, weights, half_lives_s, lows, highs) WITH ORDINALITY
             AS f ("kind", "weight", "halfLifeS", "low", "high", "at")
    ), part AS (
        SELECT p AS "userId", f."kind", f."at",
               round(greatest(f."low", least(f."high", CASE f."kind" WHEN 'age'
                   THEN f."weight" * (1 - power(2.0::float8,
                       -least(coalesce(u."ageS", 0) / f."halfLifeS", 64)))
                   ELSE f."weight" * coalesce(s."total", 0) END))::numeric, 12)::float8 AS "part"
        FROM unnest(concerned) p CROSS JOIN factor f
        LEFT JOIN LATERAL (
            SELECT greatest(extract(epoch FROM instant - u."createdAt" AT TIME ZONE 'UTC'), 0)::float8
                   AS "ageS"
            FROM "User" u WHERE u."id" = p
        ) u ON f."kind" = 'age'
        LEFT JOIN LATERAL (
            SELECT sum(e."value" * power(2.0::float8, -least(greatest(
                       extract(epoch FROM instant - e."occurredAt"), 0)::float8 / f."halfLifeS", 64))
                       ORDER BY e."sourceId" COLLATE "C") AS "total"
            FROM "TrustEvent" e
            WHERE e."tenantId" = tenant AND e."userId" = p AND e."kind" = f."kind"
              AND NOT e."withdrawn" AND abs(e."value") > 1e-15
        ) s ON f."kind" <> 'age'
    ), whole AS (
        SELECT p."userId", base + sum(p."part" ORDER BY p."at") AS "score",
               jsonb_object_agg(p."kind", p."part") || jsonb_build_object('base', base) AS "factors"
        FROM part p GROUP BY p."userId"
    )
    INSERT INTO "TrustScore" AS t ("userId", "score", "factors", "tenantId")
    SELECT w."userId", w."score", w."factors", tenant FROM whole w ORDER BY w."userId"
    ON CONFLICT ("userId") DO UPDATE
    SET "score" = excluded."score", "factors" = excluded."factors"
    RETURNING t."userId", t."score";
END $$;

-- quality, bandit, routing

CREATE TABLE IF NOT EXISTS "QualityCalibration" (
    "tenantId"  TEXT NOT NULL DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "version"   INTEGER NOT NULL CHECK ("version" > 0),
    "method"    TEXT NOT NULL CHECK ("method" IN ('identity', 'platt', 'isotonic')),
    "curve"     JSONB NOT NULL,
    "pairs"     INTEGER NOT NULL CHECK ("pairs" >= 0),
    "errorRaw"  DOUBLE PRECISION NOT NULL,
    "error"     DOUBLE PRECISION NOT NULL,
    "createdAt" TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY ("tenantId", "version")
);

CREATE TABLE IF NOT EXISTS "TenantArm" (
    "tenantId"  TEXT NOT NULL DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "modelId"   TEXT NOT NULL,
    "intent"    TEXT NOT NULL,
    "alpha"     DOUBLE PRECISION NOT NULL CHECK ("alpha" >= 0),
    "beta"      DOUBLE PRECISION NOT NULL CHECK ("beta" >= 0),
    "pulls"     BIGINT NOT NULL DEFAULT 0,
    "rewards"   DOUBLE PRECISION NOT NULL DEFAULT 0,
    "updatedAt" TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY ("tenantId", "modelId", "intent")
) WITH (fillfactor = 70);

-- One reward a message: a later or repeated word about it moves the arm by the difference.
CREATE TABLE IF NOT EXISTS "ArmReward" (
    "tenantId"  TEXT NOT NULL DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "messageId" TEXT NOT NULL,
    "modelId"   TEXT NOT NULL,
    "intent"    TEXT NOT NULL,
    "reward"    DOUBLE PRECISION NOT NULL,
    "weight"    DOUBLE PRECISION NOT NULL DEFAULT 1,
    "rewardedAt" TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY ("tenantId", "messageId"),
    CONSTRAINT "ArmReward_reward_check" CHECK ("reward" BETWEEN 0 AND 1),
    CONSTRAINT "ArmReward_weight_check" CHECK ("weight" BETWEEN 0 AND 1)
);

CREATE TABLE IF NOT EXISTS "ProviderHealth" (
    "providerId" TEXT PRIMARY KEY REFERENCES "AIProvider" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "state"      TEXT NOT NULL DEFAULT 'closed',
    "failures"   INTEGER NOT NULL DEFAULT 0,
    "openedAt"   TIMESTAMPTZ,
    "openUntil"  TIMESTAMPTZ,
    "updatedAt"  TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT "ProviderHealth_state_check" CHECK ("state" IN ('closed', 'open', 'half_open')),
    CONSTRAINT "ProviderHealth_open_check" CHECK (("state" = 'closed') = ("openUntil" IS NULL))
);

-- What answers earned their models. A message's reward is one row: the word with the greater weight
-- holds, of equal ones the later, and the arms move by the difference, so a repeated or late word
-- is harmless. Old rewards fade by `discount` a day (gamma): an arm is brought up to now before it
-- moves, and a correction weighs what the reward it corrects weighs by now, so that an arm is always
-- 1 + the sum of what is in "ArmReward", each faded by its age (forward decay). A tenant's arm
-- begins with the global one, worth at most `prior_pulls` pulls. Locks are taken in one order: the
-- messages, the tenant's arms, and last, for they are everybody's, the global arms and scores.
CREATE OR REPLACE FUNCTION ailydian_faded(mass DOUBLE PRECISION, since TIMESTAMPTZ,
                                          discount DOUBLE PRECISION)
RETURNS DOUBLE PRECISION LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT mass * power(discount, greatest(extract(epoch FROM now() - since), 0)::float8 / 86400)
$$;

CREATE OR REPLACE FUNCTION ailydian_reward(
    messages TEXT[], "values" DOUBLE PRECISION[], weights DOUBLE PRECISION[],
    discount DOUBLE PRECISION, prior_pulls DOUBLE PRECISION
) RETURNS INTEGER LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant TEXT := current_setting('app.tenant_id');
    moved INTEGER;
BEGIN
    INSERT INTO "ArmReward" ("tenantId", "messageId", "modelId", "intent", "reward", "weight")
    SELECT tenant, m."id", m."modelId", m."intent", 0, 0
    FROM (SELECT DISTINCT unnest(messages) AS "id") g JOIN "Message" m ON m."id" = g."id"
    WHERE m."modelId" IS NOT NULL AND m."intent" IS NOT NULL AND m."role" = 'ASSISTANT'
    ORDER BY m."id"
    ON CONFLICT ("tenantId", "messageId") DO NOTHING;

    WITH given AS MATERIALIZED (
        SELECT DISTINCT ON (g."id") g."id", g."value", g."weight"
        FROM unnest(messages, "values", weights) WITH ORDINALITY AS g ("id", "value", "weight", "at")
        ORDER BY g."id", g."weight" DESC, g."at" DESC
    ), held AS MATERIALIZED (
        SELECT r.* FROM "ArmReward" r
        WHERE r."tenantId" = tenant AND r."messageId" = ANY(messages)
        ORDER BY r."messageId" FOR UPDATE
    ), kept AS (
        UPDATE "ArmReward" r SET "reward" = g."value", "weight" = g."weight"
        FROM held h JOIN given g ON g."id" = h."messageId"
        WHERE r."tenantId" = tenant AND r."messageId" = h."messageId" AND g."weight" >= h."weight"
        RETURNING h."modelId", h."intent",
            ailydian_faded(g."weight" * g."value" - h."weight" * h."reward",
                           h."rewardedAt", discount) AS "won",
            ailydian_faded(g."weight" * (1 - g."value") - h."weight" * (1 - h."reward"),
                           h."rewardedAt", discount) AS "lost",
            g."value" - CASE WHEN h."weight" > 0 THEN h."reward" ELSE 0 END AS "rewards",
            (h."weight" = 0)::int AS "pulls",
            (g."value" >= 0.5)::int - (h."weight" > 0 AND h."reward" >= 0.5)::int AS "wins"
    ), change AS MATERIALIZED (
        SELECT k."modelId", k."intent", sum(k."won") AS "won", sum(k."lost") AS "lost",
               sum(k."rewards") AS "rewards", sum(k."pulls") AS "pulls", sum(k."wins") AS "wins"
        FROM kept k GROUP BY k."modelId", k."intent"
    ), prior AS (
        SELECT c.*, coalesce(p."alpha", 1) AS "alpha", coalesce(p."beta", 1) AS "beta"
        FROM change c LEFT JOIN LATERAL (
            SELECT 1 + f."won" * f."share" AS "alpha", 1 + f."lost" * f."share" AS "beta"
            FROM "BanditArm" b, LATERAL (
                SELECT ailydian_faded(b."alpha" - 1, b."updatedAt" AT TIME ZONE 'UTC', discount) AS "won",
                       ailydian_faded(b."beta" - 1, b."updatedAt" AT TIME ZONE 'UTC', discount) AS "lost"
            ) n, LATERAL (
                SELECT greatest(n."won", 0) AS "won", greatest(n."lost", 0) AS "lost",
                       least(1, prior_pulls / nullif(greatest(n."won", 0) + greatest(n."lost", 0), 0)) AS "share"
            ) f
            WHERE b."modelId" = c."modelId" AND b."intent" = c."intent" AND f."share" IS NOT NULL
        ) p ON true
    ), own AS (
        INSERT INTO "TenantArm" AS t ("tenantId", "modelId", "intent", "alpha", "beta", "pulls", "rewards")
        SELECT tenant, p."modelId", p."intent", greatest(p."alpha" + p."won", 0),
               greatest(p."beta" + p."lost", 0), p."pulls", p."rewards"
        FROM prior p ORDER BY p."modelId", p."intent"
        ON CONFLICT ("tenantId", "modelId", "intent") DO UPDATE
        SET "alpha" = greatest(1 + ailydian_faded(t."alpha" - 1, t."updatedAt", discount)
                + (SELECT c."won" FROM change c WHERE c."modelId" = t."modelId" AND c."intent" = t."intent"), 0),
            "beta" = greatest(1 + ailydian_faded(t."beta" - 1, t."updatedAt", discount)
                + (SELECT c."lost" FROM change c WHERE c."modelId" = t."modelId" AND c."intent" = t."intent"), 0),
            "pulls" = t."pulls" + excluded."pulls", "rewards" = t."rewards" + excluded."rewards",
            "updatedAt" = greatest(now(), t."updatedAt")
        RETURNING t."modelId", t."intent"
    ), everybodys AS (
        INSERT INTO "BanditArm" AS b ("modelId", "intent", "alpha", "beta", "pulls", "rewards")
        SELECT c."modelId", c."intent", greatest(1 + c."won", 0), greatest(1 + c."lost", 0),
               c."pulls", c."rewards"
        FROM change c WHERE (SELECT count(*) FROM own) > 0 ORDER BY c."modelId", c."intent"
        ON CONFLICT ("modelId", "intent") DO UPDATE
        SET "alpha" = greatest(1 + ailydian_faded(b."alpha" - 1, b."updatedAt" AT TIME ZONE 'UTC', discount)
                + (SELECT c."won" FROM change c WHERE c."modelId" = b."modelId" AND c."intent" = b."intent"), 0),
            "beta" = greatest(1 + ailydian_faded(b."beta" - 1, b."updatedAt" AT TIME ZONE 'UTC', discount)
                + (SELECT c."lost" FROM change c WHERE c."modelId" = b."modelId" AND c."intent" = b."intent"), 0),
            "pulls" = b."pulls" + excluded."pulls", "rewards" = b."rewards" + excluded."rewards",
            "updatedAt" = greatest(now() AT TIME ZONE 'UTC', b."updatedAt" + interval '1 ms')
        RETURNING b."modelId", b."intent", b."alpha", b."beta"
    ), scored AS (
        INSERT INTO "RoutingScore" AS r ("modelId", "intent", "score", "pulls", "wins")
        SELECT e."modelId", e."intent", e."alpha" / (e."alpha" + e."beta"), c."pulls", c."wins"
        FROM everybodys e JOIN change c ON c."modelId" = e."modelId" AND c."intent" = e."intent"
        ORDER BY e."modelId", e."intent"
        ON CONFLICT ("modelId", "intent") DO UPDATE
        SET "pulls" = r."pulls" + excluded."pulls", "wins" = r."wins" + excluded."wins"
        RETURNING 1
    )
    SELECT count(*) INTO moved FROM kept, LATERAL (SELECT count(*) FROM scored) s;
    RETURN moved;
END $$;

-- cache

CREATE TABLE IF NOT EXISTS "CacheSource" (
    "tenantId"   TEXT NOT NULL DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "entryId"    TEXT NOT NULL REFERENCES "SemanticCache" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "documentId" TEXT NOT NULL,
    PRIMARY KEY ("tenantId", "entryId", "documentId")
);
CALL ailydian_build_index('CacheSource', 'tenantId', 'documentId');
CALL ailydian_build_index('CacheSource', 'entryId');
CALL ailydian_build_column('SemanticCache', 'tokensIn', 'INTEGER');
CALL ailydian_build_column('SemanticCache', 'tokensOut', 'INTEGER');
CALL ailydian_build_index('SemanticCache', 'tenantId', 'scope', 'guard');
DO $$
BEGIN
    IF to_regclass('public."SemanticCache_response_idx"') IS NULL THEN
        -- A hit writes its count into the page the entry is in, and touches no index.
        ALTER TABLE "SemanticCache" SET (fillfactor = 80);
        CREATE INDEX "SemanticCache_response_idx" ON "SemanticCache" ("tenantId", md5("response"));
    END IF;
END $$;

-- A document that is written anew, or goes, takes the answers along that rest on it, and so does one
-- of its chunks. An answer that is being stored meanwhile holds the document's lock: either it is
-- found here, or it sees the change and is not kept. SECURITY DEFINER: the platform has no rights
-- to "CacheSource".
CREATE OR REPLACE FUNCTION ailydian_forget_answers() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM "SemanticCache" WHERE "id" IN (
        SELECT s."entryId" FROM "CacheSource" s
        WHERE s."tenantId" = OLD."tenantId" AND s."documentId" = OLD."id");
    RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION ailydian_forget_answers_of_chunks() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM "SemanticCache" WHERE "id" IN (
        SELECT s."entryId" FROM "CacheSource" s
        WHERE (s."tenantId", s."documentId") IN (
            SELECT g."tenantId", g."documentId" FROM gone g));
    RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION ailydian_forget_answers_of_chunk() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM "SemanticCache" WHERE "id" IN (
        SELECT s."entryId" FROM "CacheSource" s
        WHERE s."tenantId" = OLD."tenantId" AND s."documentId" = OLD."documentId");
    RETURN NULL;
END $$;
CALL ailydian_build_trigger('Document', 'forget_answers',
    'AFTER UPDATE OF "id", "tenantId", "content", "ingestVersion" ON ROW '
    'EXECUTE FUNCTION public.ailydian_forget_answers()');
CALL ailydian_build_trigger('Document', 'forget_answers_of_gone',
    'AFTER DELETE ON ROW EXECUTE FUNCTION public.ailydian_forget_answers()');
CALL ailydian_build_trigger('DocumentChunk', 'forget_answers_of_gone',
    'AFTER DELETE ON public."DocumentChunk" REFERENCING OLD TABLE AS gone '
    'FOR EACH STATEMENT EXECUTE FUNCTION public.ailydian_forget_answers_of_chunks()');
CALL ailydian_build_trigger('DocumentChunk', 'forget_answers',
    'AFTER UPDATE OF "content" ON ROW EXECUTE FUNCTION public.ailydian_forget_answers_of_chunk()');

-- incidents

CREATE TABLE IF NOT EXISTS "IncidentNotice" (
    "id"         TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "tenantId"   TEXT,
    "incidentId" TEXT NOT NULL REFERENCES "Incident" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "event"      TEXT NOT NULL,
    "body"       JSONB NOT NULL,
    "attempts"   INTEGER NOT NULL DEFAULT 0,
    "nextAt"     TIMESTAMPTZ NOT NULL DEFAULT now(),
    "sentAt"     TIMESTAMPTZ,
    "error"      TEXT,
    "createdAt"  TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT "IncidentNotice_event_check" CHECK ("event" IN ('opened', 'escalated', 'resolved'))
);
CALL ailydian_build_index('IncidentNotice', 'incidentId');
CALL ailydian_build_index('IncidentNotice', 'nextAt');
CALL ailydian_build_column('Incident', 'figure', 'DOUBLE PRECISION');
CALL ailydian_build_column('Incident', 'escalatedAt', 'TIMESTAMPTZ');
CALL ailydian_build_column('Incident', 'handledBy', 'TEXT');
CALL ailydian_build_column('Incident', 'reason', 'TEXT');
CALL ailydian_build_index('Incident', 'cause');
DO $$
BEGIN
    IF to_regclass('public."ModerationResult_flagged_newest_idx"') IS NULL THEN
        CREATE INDEX "ModerationResult_flagged_newest_idx" ON "ModerationResult" ("createdAt")
            WHERE "flagged" AND NOT "superseded";
        CREATE INDEX "QualityScore_rated_newest_idx" ON "QualityScore" ("tenantId", "createdAt")
            WHERE "actualScore" IS NOT NULL;
    END IF;
END $$;

-- Whoever writes an incident, a sweep, a person or the platform: what on-call is told stands in the
-- same transaction. A stuck run's is named by its id.
CREATE OR REPLACE FUNCTION ailydian_incident_begins() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NEW."cause" IS NULL AND NEW."id" LIKE 'stuck-run:%' THEN
        NEW."cause" := NEW."id";
    END IF;
    NEW."lastSeenAt" := coalesce(NEW."lastSeenAt", now());
    RETURN NEW;
END $$;
CALL ailydian_build_trigger('Incident', 'begins',
    'BEFORE INSERT ON ROW EXECUTE FUNCTION public.ailydian_incident_begins()');

CREATE OR REPLACE FUNCTION ailydian_incident_noticed() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    open CONSTANT "IncidentStatus"[] := ARRAY['OPEN', 'INVESTIGATING'];
    happened TEXT;
BEGIN
    IF TG_OP = 'INSERT' THEN
        happened := CASE WHEN NEW."status" = ANY(open) THEN 'opened' END;
    ELSIF OLD."status" = ANY(open) AND NOT NEW."status" = ANY(open) THEN
        happened := 'resolved';
    ELSIF NEW."status" = ANY(open) AND NOT OLD."status" = ANY(open) THEN
        happened := 'opened';
    ELSIF NEW."status" = ANY(open) AND NEW."severity" > OLD."severity" THEN
        happened := 'escalated';
    END IF;
    IF happened IS NOT NULL THEN
        INSERT INTO "IncidentNotice" ("tenantId", "incidentId", "event", "body")
        VALUES (NEW."tenantId", NEW."id", happened, jsonb_build_object(
            'event', 'incident.' || happened,
            'incident', jsonb_build_object(
                'id', NEW."id", 'title', NEW."title", 'description', NEW."description",
                'severity', NEW."severity", 'status', NEW."status", 'cause', NEW."cause",
                'tenant', (SELECT t."slug" FROM "Tenant" t WHERE t."id" = NEW."tenantId"),
                'escalations', NEW."escalations",
                'detectedAt', to_char(NEW."detectedAt", 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
                'resolvedAt', to_char(NEW."resolvedAt", 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
                'reason', NEW."reason")));
    END IF;
    RETURN NULL;
END $$;
CALL ailydian_build_trigger('Incident', 'noticed',
    'AFTER INSERT OR UPDATE ON ROW EXECUTE FUNCTION public.ailydian_incident_noticed()');

-- A cause was seen: open its incident, or note it in the one that is open. That grows by a degree
-- after a quarter of an hour, then every hour, unless somebody works on it; and at once when its
-- figure has doubled since it last grew, or the cause itself is worse. What people have closed
-- stays closed for an hour, unless it gets worse by that measure.
CREATE OR REPLACE FUNCTION ailydian_raise_incident(
    of_tenant TEXT, of_cause TEXT, says TEXT, tells TEXT, degree "IncidentSeverity",
    measured DOUBLE PRECISION
) RETURNS TEXT LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    held "Incident";
    grown "IncidentSeverity";
BEGIN
    SELECT * INTO held FROM "Incident" i
    WHERE i."cause" = of_cause AND coalesce(i."tenantId", '') = coalesce(of_tenant, '')
      AND i."status" IN ('OPEN', 'INVESTIGATING') FOR UPDATE;
    IF NOT FOUND THEN
        IF EXISTS (
            SELECT FROM "Incident" i
            WHERE i."cause" = of_cause AND coalesce(i."tenantId", '') = coalesce(of_tenant, '')
              AND i."status" = 'CLOSED'
              AND i."resolvedAt" > (now() - interval '1 hour') AT TIME ZONE 'UTC'
              AND i."severity" >= degree AND measured < 2 * i."figure") THEN
            RETURN NULL;
        END IF;
        INSERT INTO "Incident" ("tenantId", "cause", "title", "description", "severity", "status",
                                "figure")
        VALUES (of_tenant, of_cause, says, tells, degree, 'OPEN', measured)
        ON CONFLICT DO NOTHING;
        RETURN CASE WHEN FOUND THEN 'opened' END;
    END IF;
    grown := greatest(held."severity", degree);
    IF grown = held."severity" AND grown < 'CRITICAL' AND (
        (held."figure" > 0 AND measured >= 2 * held."figure")
        OR (held."status" = 'OPEN' AND now() >= coalesce(
                held."escalatedAt" + interval '1 hour',
                held."detectedAt" AT TIME ZONE 'UTC' + interval '15 minutes'))) THEN
        grown := (enum_range(held."severity", NULL))[2];
    END IF;
    UPDATE "Incident" i SET "lastSeenAt" = now(), "description" = tells, "severity" = grown,
        "figure" = CASE WHEN grown > held."severity" THEN measured ELSE i."figure" END,
        "escalatedAt" = CASE WHEN grown > held."severity" THEN now() ELSE i."escalatedAt" END,
        "escalations" = i."escalations" + (grown > held."severity")::int
    WHERE i."id" = held."id";
    RETURN CASE WHEN grown > held."severity" THEN 'escalated' END;
END $$;

CREATE OR REPLACE FUNCTION ailydian_settle_incidents(kinds TEXT[], quiet INTERVAL) RETURNS INTEGER
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    settled INTEGER;
BEGIN
    UPDATE "Incident" i SET "status" = 'RESOLVED', "resolvedAt" = now() AT TIME ZONE 'UTC'
    WHERE i."status" IN ('OPEN', 'INVESTIGATING') AND i."lastSeenAt" < now() - quiet
      AND split_part(i."cause", ':', 1) = ANY(kinds);
    GET DIAGNOSTICS settled = ROW_COUNT;
    RETURN settled;
END $$;

-- A person takes an incident, or closes it. Yields what it was; nothing where it is not open.
CREATE OR REPLACE FUNCTION ailydian_answer_incident(
    incident_id TEXT, answer "IncidentStatus", by_whom TEXT, why TEXT
) RETURNS TABLE ("tenantId" TEXT, "status" TEXT) LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    was "IncidentStatus";
BEGIN
    SELECT i."status" INTO was FROM "Incident" i
    WHERE i."id" = incident_id AND i."status" IN ('OPEN', 'INVESTIGATING') FOR UPDATE;
    RETURN QUERY
    UPDATE "Incident" i SET "status" = answer, "handledBy" = by_whom,
        "reason" = coalesce(why, i."reason"),
        "resolvedAt" = CASE WHEN answer = 'CLOSED' THEN now() AT TIME ZONE 'UTC' END
    WHERE i."id" = incident_id AND was IS NOT NULL RETURNING i."tenantId", was::text;
END $$;

-- What operators see of incidents, and what the detectors see of tenants' tables: the relay's role
-- has no sight of the rows.
CREATE OR REPLACE FUNCTION ailydian_list_incidents(
    incident_id TEXT, of_tenant TEXT, of_system BOOLEAN, only_open BOOLEAN, most INTEGER
) RETURNS SETOF "Incident" LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT i.* FROM "Incident" i
    WHERE (incident_id IS NULL OR i."id" = incident_id)
      AND (of_tenant IS NULL OR i."tenantId" = of_tenant)
      AND (NOT of_system OR i."tenantId" IS NULL)
      AND (NOT only_open OR i."status" IN ('OPEN', 'INVESTIGATING'))
    ORDER BY i."detectedAt" DESC, i."id" DESC LIMIT most
$$;

CREATE OR REPLACE FUNCTION ailydian_count_incidents()
RETURNS TABLE ("severity" TEXT, "incidents" BIGINT) LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT i."severity"::text, count(*) FROM "Incident" i
    WHERE i."status" IN ('OPEN', 'INVESTIGATING') GROUP BY i."severity"
$$;

CREATE OR REPLACE FUNCTION ailydian_failing_providers()
RETURNS TABLE ("slug" TEXT, "failures" INTEGER, "openedAt" TIMESTAMPTZ) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT p."slug", h."failures", h."openedAt" FROM "ProviderHealth" h
    JOIN "AIProvider" p ON p."id" = h."providerId"
    WHERE h."state" <> 'closed' AND p."enabled"
$$;

-- The expected calibration error of the newest rated estimates that each tenant's last calibration
-- has made: ten bins of equal mass, as workers/domain/calibration.py has computed its own.
CREATE OR REPLACE FUNCTION ailydian_calibration_errors(pairs_max INTEGER)
RETURNS TABLE ("tenantId" TEXT, "version" INTEGER, "promised" DOUBLE PRECISION,
               "found" DOUBLE PRECISION, "pairs" BIGINT) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT c."tenantId", c."version", c."error", e."found", e."pairs"
    FROM (SELECT DISTINCT ON (q."tenantId") q.* FROM "QualityCalibration" q
          ORDER BY q."tenantId", q."version" DESC) c
    CROSS JOIN LATERAL (
        SELECT sum(b."n" * abs(b."said" - b."was")) / sum(b."n") AS "found",
               sum(b."n")::bigint AS "pairs"
        FROM (
            SELECT count(*) AS "n", avg(s."estimatedScore") AS "said", avg(s."actualScore") AS "was"
            FROM (
                SELECT r.*, ntile(10) OVER (ORDER BY r."estimatedScore") AS "bin" FROM (
                    SELECT s."estimatedScore", s."actualScore" FROM "QualityScore" s
                    WHERE s."tenantId" = c."tenantId" AND s."actualScore" IS NOT NULL
                      AND s."createdAt" >= c."createdAt" AT TIME ZONE 'UTC'
                    ORDER BY s."createdAt" DESC LIMIT pairs_max
                ) r
            ) s GROUP BY s."bin"
        ) b
    ) e WHERE e."pairs" > 0
$$;

-- Of tenants with that many flagged verdicts in the window: those, all in it, and the same of the
-- day before it.
CREATE OR REPLACE FUNCTION ailydian_flagged_shares(since INTERVAL, flagged_min INTEGER)
RETURNS TABLE ("tenantId" TEXT, "flagged" BIGINT, "judged" BIGINT, "flaggedBefore" BIGINT,
               "judgedBefore" BIGINT) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT n."tenantId", n."flagged", w."judged", w."flaggedBefore", w."judgedBefore"
    FROM (SELECT m."tenantId", count(*) AS "flagged" FROM "ModerationResult" m
          WHERE m."flagged" AND NOT m."superseded" AND m."tenantId" IS NOT NULL
            AND m."createdAt" >= (now() - since) AT TIME ZONE 'UTC'
          GROUP BY m."tenantId" HAVING count(*) >= flagged_min) n
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE m."createdAt" >= (now() - since) AT TIME ZONE 'UTC') AS "judged",
               count(*) FILTER (WHERE m."flagged"
                   AND m."createdAt" < (now() - since) AT TIME ZONE 'UTC') AS "flaggedBefore",
               count(*) FILTER (WHERE m."createdAt" < (now() - since) AT TIME ZONE 'UTC')
                   AS "judgedBefore"
        FROM "ModerationResult" m
        WHERE m."tenantId" = n."tenantId" AND NOT m."superseded"
          AND m."createdAt" >= (now() - since - interval '1 day') AT TIME ZONE 'UTC'
    ) w
$$;

CREATE OR REPLACE FUNCTION ailydian_spent_budgets()
RETURNS TABLE ("tenantId" TEXT, "id" TEXT, "name" TEXT, "spentUsd" NUMERIC, "limitUsd" NUMERIC,
               "resetAt" TIMESTAMPTZ) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT b."tenantId", b."id", b."name", b."spentUsd", b."limitUsd", b."resetAt" AT TIME ZONE 'UTC'
    FROM "Budget" b
    WHERE b."limitUsd" > 0 AND b."spentUsd" >= b."limitUsd"
      AND b."resetAt" > now() AT TIME ZONE 'UTC'
$$;

DO $$
DECLARE
    ours regprocedure;
BEGIN
    FOR ours IN
        SELECT p.oid FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace
          AND p.proname IN ('ailydian_raise_incident', 'ailydian_settle_incidents',
              'ailydian_answer_incident', 'ailydian_list_incidents', 'ailydian_count_incidents',
              'ailydian_failing_providers', 'ailydian_calibration_errors',
              'ailydian_flagged_shares', 'ailydian_spent_budgets')
          AND (has_function_privilege('ailydian_app', p.oid, 'EXECUTE')
               OR NOT has_function_privilege('ailydian_relay', p.oid, 'EXECUTE'))
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', ours);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO ailydian_relay', ours);
    END LOOP;
END $$;

COMMENT ON TABLE "ModerationPolicy" IS 'What a tenant allows, flags and blocks; the last version holds.';
COMMENT ON TABLE "ModerationAppeal" IS 'An objection to a verdict; granted, its consequences are undone.';
COMMENT ON TABLE "TrustEvent" IS 'What speaks for or against a person; trust is computed from these.';
COMMENT ON TABLE "QualityCalibration" IS 'How estimates become probabilities; the last version holds.';
COMMENT ON TABLE "TenantArm" IS 'A tenant''s own arm of a bandit, grown out of the global prior.';
COMMENT ON TABLE "ArmReward" IS 'What an answer earned its model; one row a message, the last counts.';
COMMENT ON TABLE "ProviderHealth" IS 'A provider''s circuit breaker.';
COMMENT ON TABLE "CacheSource" IS 'The documents a cached answer rests on; one changes, it goes.';
COMMENT ON TABLE "IncidentNotice" IS 'What on-call is told about an incident, until it was heard.';

CALL ailydian_build_security('ModerationPolicy', 'SELECT, INSERT', of_platform => false);
CALL ailydian_build_security('ModerationAppeal', 'SELECT, INSERT, UPDATE', of_platform => false);
CALL ailydian_build_security('TrustEvent', of_platform => false);
CALL ailydian_build_security('QualityCalibration', 'SELECT, INSERT', of_platform => false);
CALL ailydian_build_security('TenantArm', of_platform => false);
CALL ailydian_build_security('ArmReward', of_platform => false);
CALL ailydian_build_security('ProviderHealth', 'SELECT, INSERT, UPDATE', 'true', of_platform => false);
CALL ailydian_build_security('CacheSource', of_platform => false);
CALL ailydian_build_security('IncidentNotice', 'SELECT', of_platform => false);
CALL ailydian_build_policy('IncidentNotice', 'ailydian_relay', 'true');
CALL ailydian_build_grant('IncidentNotice', 'ailydian_relay', 'SELECT, UPDATE, DELETE');

CREATE OR REPLACE FUNCTION ailydian_judgement_gone() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM "ModerationPolicy" WHERE "tenantId" = OLD."id";
    DELETE FROM "ModerationAppeal" WHERE "tenantId" = OLD."id";
    DELETE FROM "TrustEvent" WHERE "tenantId" = OLD."id";
    DELETE FROM "QualityCalibration" WHERE "tenantId" = OLD."id";
    DELETE FROM "TenantArm" WHERE "tenantId" = OLD."id";
    DELETE FROM "ArmReward" WHERE "tenantId" = OLD."id";
    DELETE FROM "CacheSource" WHERE "tenantId" = OLD."id";
    DELETE FROM "SemanticCache" WHERE "tenantId" = OLD."id";
    DELETE FROM "TrainingExample" WHERE "tenantId" = OLD."id";
    DELETE FROM "Incident" WHERE "tenantId" = OLD."id";
    DELETE FROM "IncidentNotice" WHERE "tenantId" = OLD."id";
    RETURN OLD;
END $$;
CALL ailydian_build_trigger('Tenant', 'judgement_gone',
    'AFTER DELETE ON ROW EXECUTE FUNCTION public.ailydian_judgement_gone()');


-- ============================================================================================
-- The end: nobody but a trigger calls a trigger function, and the tools of this file go.
-- ============================================================================================

DO $$
DECLARE
    trigger_function regprocedure;
BEGIN
    FOR trigger_function IN
        SELECT p.oid FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'ailydian\_%'
          AND p.prorettype = 'trigger'::regtype AND has_function_privilege('ailydian_app', p.oid, 'EXECUTE')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', trigger_function);
    END LOOP;
END $$;

DROP PROCEDURE ailydian_build_child;
DROP PROCEDURE ailydian_build_touch;
DROP PROCEDURE ailydian_build_security;
DROP PROCEDURE ailydian_build_grant;
DROP PROCEDURE ailydian_build_policy;
DROP PROCEDURE ailydian_build_trigger;
DROP PROCEDURE ailydian_build_index;
DROP PROCEDURE ailydian_build_column;

RESET ROLE;
RESET search_path;
RESET client_min_messages;
