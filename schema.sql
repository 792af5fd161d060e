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

CALL ailydian_build_touch('Conversation');
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

CREATE TABLE IF NOT EXISTS "Workflow" (
    "id"          TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "name"        TEXT NOT NULL,
    "description" TEXT,
    "dag"         JSONB NOT NULL,
    "createdAt"   TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "updatedAt"   TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"    TEXT DEFAULT nullif(current_setting('app.tenant_id', true), '')
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
    -- ours
    "tenantId"    TEXT
);

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
    -- ours
    "tenantId"    TEXT
);

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

-- A ledger of the first version gets what it lacks.
DO $$
BEGIN
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
    'COMPLETED, DEAD, CANCELLED, RETRY, REPLAYED, DISCARDED: noted as it commits. In the order of '
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
-- longer ours refuses them all. A job that is a workflow's step will finish that step here too
-- ("stepId").
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

RESET ROLE;
RESET search_path;
RESET client_min_messages;
