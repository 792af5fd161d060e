-- Ailydian workers: every table.
--
-- Generated from shared/schema by `make schema`; edit there, shared/schema/README.md says how.
--
-- Idempotent: a second run changes nothing and takes no lock that stops a reader or a writer.
-- Safe in one transaction; run it with `ailydian migrate`, or with psql -1 -f schema.sql.
--
-- Thirty-five tables belong to the platform, whose Prisma client reads and writes them untouched:
-- their names, types, keys and defaults are its contract, and no CHECK of ours narrows them. What
-- is ours stands in our own tables and, below the line `-- ours`, in columns of ours.


-- 00_ground/begin.sql

SET client_min_messages = warning;
SET search_path = public, pg_temp;
-- Bodies may name what a later file makes; the end of this file checks them all.
SET check_function_bodies = off;

-- ============================================================================================
-- Ground: roles, enums, ids
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
    v_role_name text;
    v_without_rows text := CASE WHEN current_setting('server_version_num')::int >= 160000
                              THEN ' WITH INHERIT FALSE, SET TRUE' ELSE '' END;
BEGIN
    FOREACH v_role_name IN ARRAY ARRAY['ailydian_owner', 'ailydian_app', 'ailydian_relay',
                                     'ailydian_audit_reader', 'ailydian_platform'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = v_role_name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', v_role_name);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;  -- roles are the cluster's: another database made it in this moment
            END;
        END IF;
        CONTINUE WHEN v_role_name = 'ailydian_platform'
            OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
        BEGIN
            EXECUTE format('GRANT %I TO CURRENT_USER%s', v_role_name, v_without_rows);
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

-- A new function is its owner's alone, until a grant names a role.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_default_acl
                   WHERE defaclrole = current_user::regrole AND defaclobjtype = 'f') THEN
        ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
    END IF;
END $$;

-- This file makes a new database, or does nothing: what came with a later version is added to an older
-- one by `ailydian migrate`, step by step.
DO $$
DECLARE
    v_missing text := 'schema';
BEGIN
    PERFORM set_config('ailydian.is_new', (to_regclass('public."Tenant"') IS NULL)::text, false);
    IF current_setting('ailydian.is_new')::boolean THEN
        RETURN;
    END IF;
    IF to_regclass('public."SchemaMigration"') IS NOT NULL THEN
        SELECT string_agg(split_part(step, ' ', 1), ', ') INTO v_missing
        FROM unnest('{schema 3ed9a1674830899494112f99f17cbb4bdcfc7c9ad7f42a551cf802bde43c0156,0002_unpriced_uses 8ea4c9ee56c13ba2183615a92ef6a667ef6aa73d70e8c68800bee4a45b146b27,0003_closed_functions a5d6ca93489d8f6d3dea0c3fa4b48bedfefccb68e429eb28613233da0fdd4bfa,0004_tenant_depth bd973a0943dcf1d382076454c737a4aa62d7b5bd3182dff58143a7cf9894602c,0005_payload_limits 2ea21ec2390a358995b51f85354d6604b3141b24c11859388d3b3c746eb339a7,0006_publishers 8c55ad78f0a39162d1145cf03fd59b571853f818d514852770280b12e823d7dd,0007_crashed_attempts aba55ff4d5d18d781f0bc4518628bb94b824291411c8ba590e53cf23ba5c2620,0008_http_api 102a0aa7a88536a350fb835758ae1e5a9e314ea448a2a913b1e3dd1517fbf15f,0009_event_folds dcb75c45746d2bda8b572ce2e3e9d0a78310ec807f4aab0f64d95f7f7a06078e,0010_webhooks d6a462c52fa60cf4e47e2721192cb533e3b138ccd0300d6f29daf7f725cfe2ec,0011_bulk_actions 0914d39173e73d8da24fb49e272d97218b5013a1e47f6d0054f70770c6851557,0012_people ee8170fb4f3207b1e041602aceeed7464db14d2e1c4b22938e9cb2d239e57372,0013_audit_by_resource 0aebf5808ef1cf533613620ed81cc455b91e103c926facbc681bf6f6c8ad2bc6,0014_audit_seals 22f14e03c76a1f3d63792f56d90460202e27145d95e0d4ec575efb9bcb384152,0015_audit_by_transaction bff2cbaadedab16066d6672733c98fd27980559bc5c6f200bacf31f9d8e9984d}'::text[]) AS step
        WHERE NOT EXISTS (SELECT FROM public."SchemaMigration" m
                          WHERE m."version" = split_part(step, ' ', 1)
                            AND (m."version" <> 'schema' OR m."sha256" = split_part(step, ' ', 2)));
    END IF;
    IF v_missing IS NOT NULL THEN
        RAISE EXCEPTION 'this database is of an older version: it lacks %', v_missing
            USING HINT = 'Run `ailydian migrate`.';
    END IF;
END $$;


-- 00_ground/tools.sql

-- Tools of this file, dropped at its end. Each looks first, so that a second run locks nothing.

CREATE OR REPLACE PROCEDURE ailydian_build_index(p_table text, VARIADIC p_columns text[])
LANGUAGE plpgsql AS $$
DECLARE
    v_index_name text := p_table || '_' || array_to_string(p_columns, '_') || '_idx';
BEGIN
    IF to_regclass(format('public.%I', v_index_name)) IS NULL THEN
        EXECUTE format('CREATE INDEX %I ON public.%I (%s)', v_index_name, p_table,
                       (SELECT string_agg(quote_ident(c), ', ') FROM unnest(p_columns) c));
    END IF;
END $$;

-- A trigger's comment is its definition: that is how a changed one is noticed.
CREATE OR REPLACE PROCEDURE ailydian_build_trigger(p_table text, p_name text, p_definition text)
LANGUAGE plpgsql AS $$
DECLARE
    v_statement text := replace(p_definition, ' ON ROW ', format(' ON public.%I FOR EACH ROW ', p_table));
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger
                   WHERE tgrelid = format('public.%I', p_table)::regclass AND tgname = p_name
                     AND tgenabled = 'O'
                     AND obj_description(oid, 'pg_trigger') = v_statement) THEN
        EXECUTE format('DROP TRIGGER IF EXISTS %I ON public.%I', p_name, p_table);
        EXECUTE format('CREATE TRIGGER %I %s', p_name, v_statement);
        EXECUTE format('COMMENT ON TRIGGER %I ON public.%I IS %L', p_name, p_table, v_statement);
    END IF;
END $$;

-- `p_rule` is both what is seen and what may be written. The comment keeps what Postgres made of it,
-- so that a policy changed by hand is noticed as well.
CREATE OR REPLACE PROCEDURE ailydian_build_policy(p_table text, p_role text, p_rule text)
LANGUAGE plpgsql AS $$
DECLARE
    v_class regclass := format('public.%I', p_table)::regclass;
    v_stands boolean;
    v_made text;
BEGIN
    FOR v_attempt IN 1..2 LOOP
        SELECT obj_description(p.oid, 'pg_policy') = m.made, m.made INTO v_stands, v_made
        FROM pg_policy p CROSS JOIN LATERAL (
            SELECT format('%s, as %s', p_rule, md5(concat(
                p.polcmd, p.polpermissive, p.polroles::regrole[],
                pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))))
        ) m(made)
        WHERE p.polrelid = v_class AND p.polname = p_role;
        EXIT WHEN v_stands;
        IF v_attempt = 1 THEN
            EXECUTE format('DROP POLICY IF EXISTS %I ON %s', p_role, v_class);
            EXECUTE format('CREATE POLICY %I ON %s TO %I USING (%s) WITH CHECK (%s)',
                           p_role, v_class, p_role, p_rule, p_rule);
        ELSE
            EXECUTE format('COMMENT ON POLICY %I ON %s IS %L', p_role, v_class, v_made);
        END IF;
    END LOOP;
END $$;

-- Exactly these rights, no more: `p_rights` is a list such as 'SELECT, INSERT ("id", "name")', or ''.
CREATE OR REPLACE PROCEDURE ailydian_build_grant(p_table text, p_role text, p_rights text)
LANGUAGE plpgsql AS $$
DECLARE
    v_class regclass := format('public.%I', p_table)::regclass;
    v_wanted text[];
    v_held text[];
BEGIN
    -- A right on a column is written as VERB.column.
    SELECT coalesce(array_agg(concat(r[1], '.' || c)), '{}') INTO v_wanted
    FROM regexp_matches(p_rights, '([A-Z]+)(?: \(([^)]*)\))?', 'g') AS r
    LEFT JOIN LATERAL unnest(parse_ident(replace(r[2], ', ', '.'))) AS c ON true;
    SELECT coalesce(array_agg(a.held), '{}') INTO v_held FROM (
        SELECT acl.privilege_type, acl.grantee FROM pg_class, aclexplode(relacl) acl
        WHERE oid = v_class
        UNION ALL
        SELECT acl.privilege_type || '.' || attname, acl.grantee
        FROM pg_attribute, aclexplode(attacl) acl WHERE attrelid = v_class
    ) AS a(held, grantee) WHERE a.grantee = p_role::regrole;
    IF NOT (v_held @> v_wanted AND v_held <@ v_wanted) THEN
        EXECUTE format('REVOKE ALL ON public.%I FROM %I', p_table, p_role);
        IF v_wanted <> '{}' THEN
            EXECUTE format('GRANT %s ON public.%I TO %I', p_rights, p_table, p_role);
        END IF;
    END IF;
END $$;

-- Grant EXECUTE on a function to these roles only ('a, b'; PUBLIC is everybody), beside its owner.
CREATE OR REPLACE PROCEDURE ailydian_build_rights(p_function text, p_roles text DEFAULT '')
LANGUAGE plpgsql AS $$
DECLARE
    v_wanted text[] := coalesce(string_to_array(nullif(p_roles, ''), ', '), '{}');
    v_held text[];
    v_one regprocedure;
BEGIN
    FOR v_one IN SELECT oid FROM pg_proc
               WHERE pronamespace = 'public'::regnamespace AND proname = p_function LOOP
        SELECT coalesce(array_agg(CASE acl.grantee WHEN 0 THEN 'PUBLIC'
                                  ELSE acl.grantee::regrole::text END), '{}') INTO v_held
        FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) acl
        WHERE p.oid = v_one AND acl.grantee <> p.proowner;
        IF NOT (v_held @> v_wanted AND v_held <@ v_wanted) THEN
            IF v_held <> '{}' THEN
                EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', v_one, array_to_string(v_held, ', '));
            END IF;
            IF v_wanted <> '{}' THEN
                EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', v_one, p_roles);
            END IF;
        END IF;
    END LOOP;
END $$;

-- Row level security of one table. The owner's policy lets maintenance and the SECURITY DEFINER
-- functions see rows at all: FORCE binds the owner too. current_setting stands in a sub-select, so
-- it is read once a statement; a committed setting comes back as '', which is nobody's tenant.
CREATE OR REPLACE PROCEDURE ailydian_build_security(
    p_table text,
    p_app_rights text DEFAULT 'SELECT, INSERT, UPDATE, DELETE',
    p_app_rule text DEFAULT '"tenantId" = (SELECT nullif(current_setting(''app.tenant_id'', true), ''''))',
    p_platform boolean DEFAULT true
) LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (SELECT relrowsecurity AND relforcerowsecurity FROM pg_class
            WHERE oid = format('public.%I', p_table)::regclass) THEN
        EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', p_table);
        EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', p_table);
    END IF;
    CALL ailydian_build_policy(p_table, 'ailydian_owner', 'true');
    CALL ailydian_build_policy(p_table, 'ailydian_app', p_app_rule);
    CALL ailydian_build_grant(p_table, 'ailydian_app', p_app_rights);
    IF p_platform THEN
        CALL ailydian_build_policy(p_table, 'ailydian_platform', 'true');
        CALL ailydian_build_grant(p_table, 'ailydian_platform', 'SELECT, INSERT, UPDATE, DELETE');
    END IF;
END $$;

CREATE OR REPLACE PROCEDURE ailydian_build_touch(p_table text, p_columns text DEFAULT '')
LANGUAGE plpgsql AS $$
BEGIN
    CALL ailydian_build_trigger(p_table, 'touch', format(
        'BEFORE UPDATE%s ON ROW WHEN (NEW."updatedAt" = OLD."updatedAt") '
        'EXECUTE FUNCTION public.ailydian_touch()', p_columns));
END $$;

-- "tenantId" of a child: ALWAYS the parent's, whatever was sent. A parent of another tenant is as
-- good as missing: both give the same foreign key error, and no row can be hung onto another
-- tenant's. SECURITY DEFINER for the plan of this look-up, which every chunk pays: under the
-- tenant's policy the planner, without statistics, would as soon read all the tenant's parents as
-- take the primary key; under the owner's it has nothing else, and the tenant is compared after. A parent that changes its
-- tenant takes its children along, those too that its writer has no rights to. Where the platform keeps no foreign key (must_exist false) the
-- parent may be missing; the row then belongs to the session's tenant, or to nobody.
CREATE OR REPLACE PROCEDURE ailydian_build_child(
    p_child text, p_child_column text, p_parent text, p_must_exist boolean DEFAULT true
) LANGUAGE plpgsql AS $$
DECLARE
    v_tenant_of text := 'ailydian_tenant_of_' || lower(p_child);
    v_move text := 'ailydian_move_' || lower(p_child);
BEGIN
    EXECUTE format($f$
        CREATE OR REPLACE FUNCTION public.%1$I() RETURNS trigger LANGUAGE plpgsql
        SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $b$
        DECLARE
            v_tenant_id text;
            v_seen boolean;
        BEGIN
            SELECT "tenantId" INTO v_tenant_id FROM public.%3$I WHERE "id" = NEW.%4$I;
            v_seen := FOUND AND (current_setting('role') <> 'ailydian_app'
                OR v_tenant_id = nullif(current_setting('app.tenant_id', true), ''));
            IF v_seen IS NOT TRUE THEN
                %5$s
            END IF;
            IF NEW."tenantId" IS DISTINCT FROM v_tenant_id THEN
                IF NEW."tenantId" IS NOT NULL
                   AND (TG_OP = 'INSERT' OR NEW."tenantId" IS DISTINCT FROM OLD."tenantId") THEN
                    RAISE insufficient_privilege USING
                        MESSAGE = 'the tenantId sent for "%2$s" is not that of its "%3$s"';
                END IF;
                NEW."tenantId" := v_tenant_id;
            END IF;
            RETURN NEW;
        END $b$
    $f$, v_tenant_of, p_child, p_parent, p_child_column, CASE WHEN p_must_exist THEN format($f$
                RAISE foreign_key_violation USING
                    MESSAGE = 'insert or update on table "%1$s" violates foreign key constraint '
                              '"%1$s_%2$s_fkey"',
                    DETAIL = format('Key (%2$s)=(%%s) is not present in table "%3$s".', NEW.%2$I),
                    SCHEMA = 'public', TABLE = '%1$s', CONSTRAINT = '%1$s_%2$s_fkey';
    $f$, p_child, p_child_column, p_parent) ELSE $f$
                IF TG_OP = 'INSERT' THEN
                    NEW."tenantId" := coalesce(NEW."tenantId",
                                               nullif(current_setting('app.tenant_id', true), ''));
                END IF;
                RETURN NEW;
    $f$ END);
    CALL ailydian_build_trigger(p_child, 'tenant', format(
        'BEFORE INSERT OR UPDATE OF %I, "tenantId" ON ROW EXECUTE FUNCTION public.%I()',
        p_child_column, v_tenant_of));
    EXECUTE format($f$
        CREATE OR REPLACE FUNCTION public.%1$I() RETURNS trigger LANGUAGE plpgsql
        SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $b$
        BEGIN
            UPDATE public.%2$I SET "tenantId" = NEW."tenantId"
            WHERE %3$I = NEW."id" AND "tenantId" IS DISTINCT FROM NEW."tenantId";
            RETURN NULL;
        END $b$
    $f$, v_move, p_child, p_child_column);
    -- AFTER UPDATE of anything: UPDATE OF would miss a tenant that a BEFORE trigger has changed.
    CALL ailydian_build_trigger(p_parent, 'move_' || lower(p_child), format(
        'AFTER UPDATE ON ROW WHEN (OLD."tenantId" IS DISTINCT FROM NEW."tenantId") '
        'EXECUTE FUNCTION public.%I()', v_move));
END $$;


-- 00_ground/tables.sql

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


-- 00_ground/functions/new_id.sql

-- Ids are TEXT, in time order: new rows share index pages, and of two rows of a transaction the later
-- one has the larger id. Before 18 Postgres has no uuidv7(): the same of its parts, by microseconds.
-- No SET clause: the planner copies the body into the defaults, so a default costs no call.
DO $$
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION public.ailydian_new_id() RETURNS text LANGUAGE sql VOLATILE '
        'AS $f$ SELECT %s::text $f$',
        CASE WHEN to_regprocedure('pg_catalog.uuidv7()') IS NOT NULL THEN 'pg_catalog.uuidv7()' ELSE
            '(overlay(lpad(to_hex((extract(epoch FROM clock_timestamp()) * 4096000)::bigint), 15, ''0'') '
            'PLACING ''7'' FROM 13 FOR 0) || substr(gen_random_uuid()::text, 20))::uuid' END);
END $$;
CALL ailydian_build_rights('ailydian_new_id', 'ailydian_app, ailydian_relay, ailydian_platform');


-- 00_ground/functions/touch.sql

-- The clock of "updatedAt". Its triggers fire only WHEN the old value came back unchanged, so a
-- client that sends its own time keeps it.
CREATE OR REPLACE FUNCTION public.ailydian_touch() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    NEW."updatedAt" := now() AT TIME ZONE 'UTC';
    RETURN NEW;
END $$;


-- 00_ground/functions/visible.sql

-- A stranger's text as an error may quote it, to a terminal and to the log of Postgres: cut, and without
-- control characters, line breaks and marks that turn the direction of text.
CREATE OR REPLACE FUNCTION ailydian_visible(p_text TEXT) RETURNS TEXT LANGUAGE sql IMMUTABLE AS $$
    SELECT regexp_replace(left(p_text, 200),
        '[\u0001-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]', '?', 'g')
$$;
CALL ailydian_build_rights('ailydian_visible', 'ailydian_app, ailydian_relay, ailydian_platform');


-- 00_ground/policies.sql

CALL ailydian_build_security('SchemaMigration', '', 'false', p_platform => false);


-- 10_accounts/tables.sql

-- ============================================================================================
-- Accounts: people and tenants
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

-- A key of the platform's is not written by us: that it is revoked stands here.
CREATE TABLE IF NOT EXISTS "RevokedKey" (
    "keyId"     TEXT PRIMARY KEY REFERENCES "ApiKey" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "tenantId"  TEXT,
    "revokedBy" TEXT NOT NULL,
    "revokedAt" TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- What is asked of requests of a tenant (no "keyId") or of one key; what is empty is not asked.
CREATE TABLE IF NOT EXISTS "RequestRule" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "tenantId"  TEXT REFERENCES "Tenant" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "keyId"     TEXT REFERENCES "ApiKey" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "ratePerS"  DOUBLE PRECISION,
    "burst"     DOUBLE PRECISION,
    "addresses" TEXT[],
    "setBy"     TEXT NOT NULL,
    "setAt"     TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT "RequestRule_tenantId_keyId_key" UNIQUE NULLS NOT DISTINCT ("tenantId", "keyId"),
    CONSTRAINT "RequestRule_subject_check" CHECK (num_nonnulls("tenantId", "keyId") = 1),
    CONSTRAINT "RequestRule_rate_check" CHECK ("ratePerS" > 0 AND "burst" >= 1
                                               AND "burst" <= "ratePerS" * 86400),
    CONSTRAINT "RequestRule_burst_check" CHECK (("ratePerS" IS NULL) = ("burst" IS NULL))
);

-- Rewritten several times a second under load: no index but the key, and room beside each row.
CREATE TABLE IF NOT EXISTS "RequestBucket" (
    "subject"  TEXT PRIMARY KEY,
    "tokens"   DOUBLE PRECISION NOT NULL,
    "filledAt" TIMESTAMPTZ NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- What "Session" has no columns for; a session of the platform's is not written by us.
CREATE TABLE IF NOT EXISTS "SessionState" (
    "sessionId" TEXT PRIMARY KEY
                REFERENCES "Session" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "isOurs"    BOOLEAN NOT NULL DEFAULT false,
    "seenAt"    TIMESTAMPTZ NOT NULL DEFAULT now(),
    "address"   TEXT,
    "agent"     TEXT,
    "revokedBy" TEXT,
    "revokedAt" TIMESTAMPTZ,
    CONSTRAINT "SessionState_revoked_check" CHECK (("revokedBy" IS NULL) = ("revokedAt" IS NULL))
);

CREATE TABLE IF NOT EXISTS "LoginLink" (
    "hash"      TEXT PRIMARY KEY,
    "userId"    TEXT NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "madeBy"    TEXT NOT NULL,
    "expiresAt" TIMESTAMPTZ NOT NULL,
    "usedAt"    TIMESTAMPTZ
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
CALL ailydian_build_index('RequestRule', 'keyId');
CALL ailydian_build_index('LoginLink', 'userId');

COMMENT ON TABLE "Tenant" IS 'A customer. Its tier sets quotas; its id names every row it owns.';
COMMENT ON TABLE "User" IS 'A person; the role decides what an API key of theirs may do.';
COMMENT ON TABLE "Session" IS 'A signed-in browser. Tokens we issue are stored hashed.';
COMMENT ON TABLE "ApiKey" IS 'A key for the HTTP door: hash only, with scopes and an expiry.';
COMMENT ON TABLE "RevokedKey" IS 'API keys that do not work any more, and who revoked them.';
COMMENT ON TABLE "RequestRule" IS
    'How many requests a tenant or a key may make, and from which addresses.';
COMMENT ON TABLE "RequestBucket" IS
    'What is left of a rate: requests of a tenant or key, logins of an address.';
COMMENT ON TABLE "SessionState" IS
    'When and from where a session was last used, and who revoked it.';
COMMENT ON TABLE "LoginLink" IS 'Links that sign in once; their secrets are stored hashed.';
COMMENT ON TABLE "UserPreference" IS 'What a person asks of the models: which, how warm, how long.';

-- Signing in ignores case; the plain unique key stays, the platform upserts by it.
DO $$
BEGIN
    IF to_regclass('public."User_email_lower_idx"') IS NULL THEN
        CREATE INDEX "User_email_lower_idx" ON "User" (lower("email"));
    END IF;
END $$;


-- 10_accounts/functions/user_in_sight.sql

-- An API key names its tenant itself, so only its user is checked: it must be visible.
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


-- 10_accounts/triggers.sql

CALL ailydian_build_touch('Tenant');
CALL ailydian_build_touch('User');
CALL ailydian_build_touch('UserPreference');
CALL ailydian_build_child('Session', 'userId', 'User');
CALL ailydian_build_child('UserPreference', 'userId', 'User');
CALL ailydian_build_trigger('ApiKey', 'user_in_sight',
    'BEFORE INSERT OR UPDATE OF "userId" ON ROW EXECUTE FUNCTION public.ailydian_user_in_sight()');


-- 10_accounts/policies.sql

-- A tenant sees its own row and changes nothing in it; the relay knows all tenants by name.
CALL ailydian_build_security('Tenant', 'SELECT',
    '"id" = (SELECT nullif(current_setting(''app.tenant_id'', true), ''''))');
CALL ailydian_build_policy('Tenant', 'ailydian_relay', 'true');
CALL ailydian_build_security('User');
CALL ailydian_build_security('Session');
CALL ailydian_build_security('ApiKey');
CALL ailydian_build_security('RevokedKey', '', 'false', p_platform => false);
CALL ailydian_build_security('RequestRule', '', 'false', p_platform => false);
CALL ailydian_build_security('RequestBucket', '', 'false', p_platform => false);
CALL ailydian_build_security('SessionState', '', 'false', p_platform => false);
CALL ailydian_build_security('LoginLink', '', 'false', p_platform => false);
CALL ailydian_build_security('UserPreference');
CALL ailydian_build_grant('Tenant', 'ailydian_relay', 'SELECT ("id", "slug", "tier")');


-- 20_models/tables.sql

-- ============================================================================================
-- Models and routing
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
    "enabled"       BOOLEAN NOT NULL DEFAULT true,
    -- ours
    "calls"         BIGINT NOT NULL DEFAULT 0,
    "latencyEwmaMs" DOUBLE PRECISION
);

CREATE TABLE IF NOT EXISTS "RoutingScore" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "modelId"   TEXT NOT NULL REFERENCES "AIModel" ("id") ON DELETE NO ACTION ON UPDATE CASCADE,
    "intent"    TEXT NOT NULL,
    "score"     DOUBLE PRECISION NOT NULL,
    "pulls"     INTEGER NOT NULL DEFAULT 0,
    "wins"      INTEGER NOT NULL DEFAULT 0,
    "updatedAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "factors"   JSONB,
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

COMMENT ON TABLE "AIProvider" IS 'A seller of models; disabled takes all of them out of routing.';
COMMENT ON TABLE "AIModel" IS 'A model: its price, its window and its rolling statistics.';
COMMENT ON TABLE "RoutingScore" IS 'How well a model serves an intent; routing picks by it.';
COMMENT ON TABLE "BanditArm" IS 'The global prior of a model for an intent, as a beta distribution.';

CREATE TABLE IF NOT EXISTS "ModelUse" (
    "model"    TEXT NOT NULL,
    "hour"     TIMESTAMPTZ NOT NULL,
    "requests" BIGINT NOT NULL,
    "tokens"   BIGINT NOT NULL,
    -- Of the requests that had a price in the catalogue; NULL where none had.
    "costUsd"  NUMERIC(20, 8),
    "unpriced" BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY ("model", "hour")
);
COMMENT ON TABLE "ModelUse" IS 'Requests, tokens and dollars of each model by the hour, for figures.';

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
COMMENT ON TABLE "TenantArm" IS 'A tenant''s own arm of a bandit, grown out of the global prior.';
COMMENT ON TABLE "ArmReward" IS 'What an answer earned its model; one row a message, the last counts.';
COMMENT ON TABLE "ProviderHealth" IS 'A provider''s circuit breaker.';


-- 20_models/functions/faded.sql

-- The decay of a weight over the time since, by the discount of a day.
CREATE OR REPLACE FUNCTION ailydian_faded(p_mass DOUBLE PRECISION, p_since TIMESTAMPTZ,
                                          p_discount DOUBLE PRECISION)
RETURNS DOUBLE PRECISION LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p_mass * power(p_discount, greatest(extract(epoch FROM now() - p_since), 0)::float8 / 86400)
$$;
CALL ailydian_build_rights('ailydian_faded', 'ailydian_app');


-- 20_models/functions/failing_providers.sql

-- Providers in use whose circuit breaker is not closed.
CREATE OR REPLACE FUNCTION ailydian_failing_providers()
RETURNS TABLE ("slug" TEXT, "failures" INTEGER, "openedAt" TIMESTAMPTZ) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT p."slug", h."failures", h."openedAt" FROM "ProviderHealth" h
    JOIN "AIProvider" p ON p."id" = h."providerId"
    WHERE h."state" <> 'closed' AND p."enabled"
$$;
CALL ailydian_build_rights('ailydian_failing_providers', 'ailydian_relay');


-- 20_models/functions/keep_rewards.sql

-- Store rewards of answers, one row a message: the one with the greater weight counts, of equal ones
-- the later, so a repeated or late reward is harmless. Messages without a model or a known intent are
-- left out. Old rewards fade by `p_discount` a day: a correction weighs what
-- the reward it corrects weighs by now.
-- Locks: the messages' rewards, in the order of their ids.
-- Returns by how much the arm of each model and intent changes, and for how many messages.
CREATE OR REPLACE FUNCTION ailydian_keep_rewards(
    p_message_ids TEXT[], p_values DOUBLE PRECISION[], p_weights DOUBLE PRECISION[],
    p_discount DOUBLE PRECISION
) RETURNS TABLE (
    "modelId" TEXT, "intent" TEXT, "won" DOUBLE PRECISION, "lost" DOUBLE PRECISION,
    "rewards" DOUBLE PRECISION, "pulls" BIGINT, "wins" BIGINT, "messages" BIGINT
) LANGUAGE plpgsql ROWS 10 SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_tenant_id CONSTANT TEXT := current_setting('app.tenant_id');
BEGIN
    INSERT INTO "ArmReward" ("tenantId", "messageId", "modelId", "intent", "reward", "weight")
    SELECT v_tenant_id, m."id", m."modelId", m."intent", 0, 0
    FROM (SELECT DISTINCT unnest(p_message_ids) AS "id") g JOIN "Message" m ON m."id" = g."id"
    WHERE m."modelId" IS NOT NULL AND m."intent" IS NOT NULL AND m."role" = 'ASSISTANT'
    ORDER BY m."id"
    ON CONFLICT ("tenantId", "messageId") DO NOTHING;

    RETURN QUERY
    WITH given AS MATERIALIZED (
        SELECT DISTINCT ON (g."id") g."id", g."value", g."weight"
        FROM unnest(p_message_ids, p_values, p_weights) WITH ORDINALITY
             AS g ("id", "value", "weight", "at")
        ORDER BY g."id", g."weight" DESC, g."at" DESC
    ), held AS MATERIALIZED (
        SELECT r.* FROM "ArmReward" r
        WHERE r."tenantId" = v_tenant_id AND r."messageId" = ANY(p_message_ids)
        ORDER BY r."messageId" FOR UPDATE
    ), kept AS (
        UPDATE "ArmReward" r SET "reward" = g."value", "weight" = g."weight"
        FROM held h JOIN given g ON g."id" = h."messageId"
        WHERE r."tenantId" = v_tenant_id AND r."messageId" = h."messageId"
          AND g."weight" >= h."weight"
        RETURNING h."modelId", h."intent",
            ailydian_faded(g."weight" * g."value" - h."weight" * h."reward",
                           h."rewardedAt", p_discount) AS "won",
            ailydian_faded(g."weight" * (1 - g."value") - h."weight" * (1 - h."reward"),
                           h."rewardedAt", p_discount) AS "lost",
            g."value" - CASE WHEN h."weight" > 0 THEN h."reward" ELSE 0 END AS "rewards",
            (h."weight" = 0)::int AS "pulls",
            (g."value" >= 0.5)::int - (h."weight" > 0 AND h."reward" >= 0.5)::int AS "wins"
    )
    SELECT k."modelId", k."intent", sum(k."won"), sum(k."lost"), sum(k."rewards"), sum(k."pulls"),
           sum(k."wins"), count(*)
    FROM kept k GROUP BY k."modelId", k."intent";
END $$;
CALL ailydian_build_rights('ailydian_keep_rewards', 'ailydian_app');


-- 20_models/functions/reward.sql

-- Apply rewards of answers to their models: store them, move the tenant's arms by the difference,
-- and the global arms and scores too.
-- Locks are taken in one order: the messages, the tenant's arms, and last, for they are everybody's,
-- the global arms and scores, by model and intent.
-- Returns the number of messages with a stored reward.
CREATE OR REPLACE FUNCTION ailydian_reward(
    p_message_ids TEXT[], p_values DOUBLE PRECISION[], p_weights DOUBLE PRECISION[],
    p_discount DOUBLE PRECISION, p_prior_pulls DOUBLE PRECISION
) RETURNS INTEGER LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_messages INTEGER;
BEGIN
    WITH change AS MATERIALIZED (
        SELECT k.* FROM ailydian_reward_tenant(p_message_ids, p_values, p_weights, p_discount,
                                               p_prior_pulls) k
    ), everybodys AS (
        INSERT INTO "BanditArm" AS b ("modelId", "intent", "alpha", "beta", "pulls", "rewards")
        SELECT c."modelId", c."intent", greatest(1 + c."won", 0), greatest(1 + c."lost", 0),
               c."pulls", c."rewards"
        FROM change c ORDER BY c."modelId", c."intent"
        ON CONFLICT ("modelId", "intent") DO UPDATE
        SET "alpha" = greatest(
                1 + ailydian_faded(b."alpha" - 1, b."updatedAt" AT TIME ZONE 'UTC', p_discount)
                + (SELECT c."won" FROM change c
                   WHERE c."modelId" = b."modelId" AND c."intent" = b."intent"), 0),
            "beta" = greatest(
                1 + ailydian_faded(b."beta" - 1, b."updatedAt" AT TIME ZONE 'UTC', p_discount)
                + (SELECT c."lost" FROM change c
                   WHERE c."modelId" = b."modelId" AND c."intent" = b."intent"), 0),
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
    )
    SELECT coalesce(sum(c."messages"), 0) INTO v_messages FROM change c;
    RETURN v_messages;
END $$;
CALL ailydian_build_rights('ailydian_reward', 'ailydian_app');


-- 20_models/functions/reward_tenant.sql

-- Store rewards of answers and move the tenant's arms by them. An arm is brought up to now before
-- it moves, so that it is always 1 + the sum of its rewards in "ArmReward", each faded by its age
-- (forward decay). A new one begins with the global arm, worth at most `p_prior_pulls` pulls.
-- Locks: what `ailydian_keep_rewards` locks, then the tenant's arms, by model and intent.
-- Returns what `ailydian_keep_rewards` does.
CREATE OR REPLACE FUNCTION ailydian_reward_tenant(
    p_message_ids TEXT[], p_values DOUBLE PRECISION[], p_weights DOUBLE PRECISION[],
    p_discount DOUBLE PRECISION, p_prior_pulls DOUBLE PRECISION
) RETURNS TABLE (
    "modelId" TEXT, "intent" TEXT, "won" DOUBLE PRECISION, "lost" DOUBLE PRECISION,
    "rewards" DOUBLE PRECISION, "pulls" BIGINT, "wins" BIGINT, "messages" BIGINT
) LANGUAGE plpgsql ROWS 10 SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_tenant_id CONSTANT TEXT := current_setting('app.tenant_id');
BEGIN
    RETURN QUERY
    WITH change AS MATERIALIZED (
        SELECT k.* FROM ailydian_keep_rewards(p_message_ids, p_values, p_weights, p_discount) k
    ), prior AS (
        SELECT c.*, coalesce(p."alpha", 1) AS "alpha", coalesce(p."beta", 1) AS "beta"
        FROM change c LEFT JOIN LATERAL (
            SELECT 1 + f."won" * f."share" AS "alpha", 1 + f."lost" * f."share" AS "beta"
            FROM "BanditArm" b, LATERAL (
                SELECT b."updatedAt" AT TIME ZONE 'UTC' AS "since"
            ) u, LATERAL (
                SELECT greatest(ailydian_faded(b."alpha" - 1, u."since", p_discount), 0) AS "won",
                       greatest(ailydian_faded(b."beta" - 1, u."since", p_discount), 0) AS "lost"
            ) n, LATERAL (
                SELECT n."won", n."lost",
                       least(1, p_prior_pulls / nullif(n."won" + n."lost", 0)) AS "share"
            ) f
            WHERE b."modelId" = c."modelId" AND b."intent" = c."intent" AND f."share" IS NOT NULL
        ) p ON true
    ), own AS (
        INSERT INTO "TenantArm" AS t ("tenantId", "modelId", "intent", "alpha", "beta", "pulls",
                                      "rewards")
        SELECT v_tenant_id, p."modelId", p."intent", greatest(p."alpha" + p."won", 0),
               greatest(p."beta" + p."lost", 0), p."pulls", p."rewards"
        FROM prior p ORDER BY p."modelId", p."intent"
        ON CONFLICT ("tenantId", "modelId", "intent") DO UPDATE
        SET "alpha" = greatest(1 + ailydian_faded(t."alpha" - 1, t."updatedAt", p_discount)
                + (SELECT c."won" FROM change c
                   WHERE c."modelId" = t."modelId" AND c."intent" = t."intent"), 0),
            "beta" = greatest(1 + ailydian_faded(t."beta" - 1, t."updatedAt", p_discount)
                + (SELECT c."lost" FROM change c
                   WHERE c."modelId" = t."modelId" AND c."intent" = t."intent"), 0),
            "pulls" = t."pulls" + excluded."pulls", "rewards" = t."rewards" + excluded."rewards",
            "updatedAt" = greatest(now(), t."updatedAt")
    )
    SELECT c.* FROM change c;
END $$;
CALL ailydian_build_rights('ailydian_reward_tenant', 'ailydian_app');


-- 20_models/triggers.sql

CALL ailydian_build_touch('RoutingScore');
CALL ailydian_build_touch('BanditArm');


-- 20_models/policies.sql

CALL ailydian_build_security('AIProvider', 'SELECT', 'true');
CALL ailydian_build_security('AIModel', 'SELECT, INSERT, UPDATE', 'true');
CALL ailydian_build_security('RoutingScore', 'SELECT, INSERT, UPDATE', 'true');
CALL ailydian_build_security('BanditArm', 'SELECT, INSERT, UPDATE', 'true');
CALL ailydian_build_security('ModelUse', '', 'false', p_platform => false);
CALL ailydian_build_security('TenantArm', p_platform => false);
CALL ailydian_build_security('ArmReward', p_platform => false);
CALL ailydian_build_security('ProviderHealth', 'SELECT, INSERT, UPDATE', 'true', p_platform => false);


-- 30_messages/tables.sql

-- ============================================================================================
-- Messages: conversations, what is remembered of them, answers kept for their next question
--
-- "Feedback" names its message without a foreign key: the platform may write a row whose message is
-- gone. The keys are the platform's and global, so "queryHash" must be hashed with the tenant in it:
-- equal questions of two tenants are two rows.
-- ============================================================================================

CREATE TABLE IF NOT EXISTS "Conversation" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "userId"    TEXT NOT NULL REFERENCES "User" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "title"     TEXT,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "updatedAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"  TEXT,
    "analysis"  INTEGER NOT NULL DEFAULT 0
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
    "tenantId"       TEXT,
    "intent"         TEXT
);

CREATE TABLE IF NOT EXISTS "ConversationMetadata" (
    "id"             TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "conversationId" TEXT NOT NULL UNIQUE
                     REFERENCES "Conversation" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "tags"           TEXT[] DEFAULT '{}',
    "sentiment"      DOUBLE PRECISION,
    "topic"          TEXT,
    -- ours
    "tenantId"       TEXT,
    "messages"       INTEGER,
    "language"       TEXT,
    "analysedAt"     TIMESTAMPTZ
);

CREATE TABLE IF NOT EXISTS "MessageEmbedding" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "messageId" TEXT NOT NULL UNIQUE
                REFERENCES "Message" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "embedding" vector(1536) NOT NULL,
    "model"     TEXT NOT NULL,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"  TEXT,
    "bits"      bit(1536)
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
    "tenantId"       TEXT DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "scope"          TEXT,
    "guard"          TEXT,
    "question"       TEXT,
    "citations"      JSONB,
    "costUsd"        NUMERIC(20, 8),
    "bits"           bit(1536),
    "tokensIn"       INTEGER,
    "tokensOut"      INTEGER
);

CALL ailydian_build_index('Conversation', 'userId');
CALL ailydian_build_index('Conversation', 'createdAt');
CALL ailydian_build_index('Message', 'conversationId');
CALL ailydian_build_index('Message', 'createdAt');
CALL ailydian_build_index('Message', 'modelId');
CALL ailydian_build_index('MessageEmbedding', 'model');
CALL ailydian_build_index('Feedback', 'messageId');
CALL ailydian_build_index('Feedback', 'userId');
CALL ailydian_build_index('Feedback', 'createdAt');
CALL ailydian_build_index('SemanticCache', 'expiresAt');
CALL ailydian_build_index('SemanticCache', 'modelId');
CALL ailydian_build_index('SemanticCache', 'tenantId', 'modelId');

COMMENT ON TABLE "Conversation" IS 'A thread of messages; updatedAt moves with the newest one.';
COMMENT ON TABLE "Message" IS 'One turn: what was said, by which model, at what cost.';
COMMENT ON TABLE "ConversationMetadata" IS 'Topic, tags and sentiment of a conversation.';
COMMENT ON TABLE "MessageEmbedding" IS 'The vector of a message, for recall, topics and the cache.';
COMMENT ON TABLE "Feedback" IS 'A person''s rating of a message; the last one counts.';
COMMENT ON TABLE "SemanticCache" IS 'Answers given before, found by hash and then by nearness.';
-- Our columns in the platform's tables; in a new database and in an old one.
CALL ailydian_build_index('MessageEmbedding', 'tenantId', 'model');

CREATE TABLE IF NOT EXISTS "CacheSource" (
    "tenantId"   TEXT NOT NULL DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "entryId"    TEXT NOT NULL REFERENCES "SemanticCache" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "documentId" TEXT NOT NULL,
    PRIMARY KEY ("tenantId", "entryId", "documentId")
);
CALL ailydian_build_index('CacheSource', 'tenantId', 'documentId');
CALL ailydian_build_index('CacheSource', 'entryId');
CALL ailydian_build_index('SemanticCache', 'tenantId', 'scope', 'guard');
COMMENT ON TABLE "CacheSource" IS 'The documents a cached answer rests on; one changes, it goes.';

DO $$
BEGIN
    IF to_regclass('public."SemanticCache_response_idx"') IS NULL THEN
        -- A hit writes its count into the page the entry is in, and touches no index.
        ALTER TABLE "SemanticCache" SET (fillfactor = 80);
        CREATE INDEX "SemanticCache_response_idx" ON "SemanticCache" ("tenantId", md5("response"));
    END IF;
END $$;


-- 30_messages/functions/forget_answers.sql

-- A changed or deleted document invalidates the cached answers that cite it, and so does one of its
-- chunks. An answer that is being stored meanwhile holds the document's lock: either it is found
-- here, or it sees the change and is not stored. SECURITY DEFINER: the platform has no rights
-- to "CacheSource".
CREATE OR REPLACE FUNCTION ailydian_forget_answers() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM "SemanticCache" WHERE "tenantId" = OLD."tenantId" AND "id" IN (
        SELECT s."entryId" FROM "CacheSource" s
        WHERE s."tenantId" = OLD."tenantId" AND s."documentId" = OLD."id");
    RETURN NULL;
END $$;


-- 30_messages/functions/forget_answers_of_chunk.sql

-- A chunk's text has changed: cached answers that rest on its document go. SECURITY DEFINER: the
-- platform has no rights to "CacheSource".
CREATE OR REPLACE FUNCTION ailydian_forget_answers_of_chunk() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM "SemanticCache" WHERE "tenantId" = OLD."tenantId" AND "id" IN (
        SELECT s."entryId" FROM "CacheSource" s
        WHERE s."tenantId" = OLD."tenantId" AND s."documentId" = OLD."documentId");
    RETURN NULL;
END $$;


-- 30_messages/functions/forget_answers_of_chunks.sql

-- Chunks were deleted: cached answers that rest on their documents go. SECURITY DEFINER: the platform
-- has no rights to "CacheSource".
CREATE OR REPLACE FUNCTION ailydian_forget_answers_of_chunks() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM "SemanticCache" c USING "CacheSource" s, gone g
    WHERE c."id" = s."entryId" AND c."tenantId" = s."tenantId"
      AND s."tenantId" = g."tenantId" AND s."documentId" = g."documentId";
    RETURN NULL;
END $$;


-- 30_messages/triggers.sql

CALL ailydian_build_touch('Conversation', ' OF "id", "userId", "title", "createdAt", "updatedAt", "tenantId"');
CALL ailydian_build_child('Conversation', 'userId', 'User');
CALL ailydian_build_child('Message', 'conversationId', 'Conversation');
CALL ailydian_build_child('ConversationMetadata', 'conversationId', 'Conversation');
CALL ailydian_build_child('MessageEmbedding', 'messageId', 'Message');
CALL ailydian_build_child('Feedback', 'messageId', 'Message', p_must_exist => false);


-- 30_messages/policies.sql

CALL ailydian_build_security('Conversation');
CALL ailydian_build_security('Message');
CALL ailydian_build_security('ConversationMetadata');
CALL ailydian_build_security('MessageEmbedding');
CALL ailydian_build_security('Feedback');
CALL ailydian_build_security('SemanticCache');
CALL ailydian_build_security('CacheSource', p_platform => false);


-- 40_documents/tables.sql

-- ============================================================================================
-- Documents and vectors
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
-- (tests/integration/operations/test_schema.py proves both plans).
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

COMMENT ON TABLE "Document" IS 'A text of a tenant, as extracted; its chunks quote it by offsets.';
COMMENT ON TABLE "DocumentChunk" IS 'A piece of a document, at most so many tokens long.';
COMMENT ON TABLE "ChunkEmbedding" IS 'The live model''s vector of a chunk, as the platform reads it.';
COMMENT ON TABLE "ChunkVector" IS 'What vector search reads: bits and halfvec, one row a model.';
COMMENT ON TABLE "ChunkText" IS 'What text search reads: the words of a chunk, in its language.';

CREATE TABLE IF NOT EXISTS "LiveModel" (
    "tenantId"  TEXT PRIMARY KEY DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "model"     TEXT NOT NULL,
    "flippedAt" TIMESTAMPTZ NOT NULL DEFAULT now()
);
COMMENT ON TABLE "LiveModel" IS
    'Whose vectors a tenant''s search reads, where that is not the settings'' model: one row.';

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

DO $$
BEGIN
    IF to_regclass('public."ChunkText_tsv_idx"') IS NULL THEN
        CREATE INDEX "ChunkText_tsv_idx" ON "ChunkText" USING gin ("tsv");
        ALTER TABLE "ChunkVector" ALTER COLUMN "embedding" SET STORAGE EXTERNAL;
    END IF;
END $$;


-- 40_documents/functions/forget_chunk.sql

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


-- 40_documents/functions/lexemes.sql

-- Text as both sides of text search read it. Turkish capitals are lowered by hand, because no
-- server locale can be counted on to know that I is not i's capital; an English İ loses its dot.
-- `read/write` and `httpd.conf` would be one word each to the parser, a file and a host: they are
-- two. Nested replace() costs a tenth of translate().
CREATE OR REPLACE FUNCTION public.ailydian_lexemes(p_language text, p_content text)
RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE p_language
        WHEN 'tr' THEN to_tsvector('pg_catalog.turkish', replace(replace(words, 'I', 'ı'), 'İ', 'i'))
        ELSE to_tsvector('pg_catalog.english', replace(words, 'İ', 'i'))
    END
    FROM (SELECT replace(replace(replace(p_content, '.', ' '), '/', ' '), '’', ' ') AS words) spaced
$$;
CALL ailydian_build_rights('ailydian_lexemes', 'ailydian_app');


-- 40_documents/functions/release_ingest_key.sql

-- A document that changes its tenant loses its key: the new tenant may have the same source.
CREATE OR REPLACE FUNCTION public.ailydian_release_ingest_key() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    NEW."ingestKey" := NULL;
    RETURN NEW;
END $$;


-- 40_documents/functions/search_text.sql

-- BM25 over the tenant's chunks that hold any word of a question, best first. "share" is the score
-- divided by the best a question could get: about 1 where a chunk holds all its words, small where
-- only some of them are common to both languages.
--
-- Cost is bounded by `p_reach`: a word of more chunks than that alone finds only chunks that hold the
-- other words too. ts_rank of one lexeme is sum(1/k^2, k = 1..tf) / (pi^2/6), so it tells tf; without
-- and with normalisation 2 it tells the length. SECURITY DEFINER, as the head of this chapter says.
-- Locks nothing. Returns at most `p_hits_max` chunks.
CREATE OR REPLACE FUNCTION public.ailydian_search_text(
    p_words text[], p_language text, p_hits_max integer, p_reach integer DEFAULT 2000
) RETURNS TABLE ("chunkId" text, "share" double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    v_tenant_id CONSTANT text := nullif(current_setting('app.tenant_id', true), '');
    v_question RECORD;
BEGIN
    IF v_tenant_id IS NULL THEN
        RAISE insufficient_privilege USING MESSAGE = 'text search needs app.tenant_id';
    END IF;
    v_question := public.ailydian_weigh_words(v_tenant_id, p_words, p_language, p_reach);
    RETURN QUERY
    WITH hit AS MATERIALIZED (
        (SELECT c."chunkId" AS id, c."tsv" || ''::tsvector AS words  -- a copy is detoasted once
         FROM "ChunkText" c
         WHERE c."tenantId" = v_tenant_id AND c."tsv" @@ v_question.all_of LIMIT p_reach)
        UNION ALL
        (SELECT c."chunkId", c."tsv" || ''::tsvector
         FROM "ChunkText" c
         WHERE c."tenantId" = v_tenant_id AND c."tsv" @@ v_question.any_of
           AND (v_question.all_of IS NULL OR NOT c."tsv" @@ v_question.all_of) LIMIT p_reach)
    ), measured AS MATERIALIZED (
        SELECT h.id, h.words, ts_rank('{1,1,1,1}', h.words, o.query)
                     / ts_rank('{1,1,1,1}', h.words, o.query, 2) AS length
        FROM hit h, LATERAL (SELECT q.query FROM unnest(v_question.queries) AS q (query)
                             WHERE h.words @@ q.query LIMIT 1) o
    ), average AS MATERIALIZED (
        SELECT avg(m.length) AS length FROM measured m
    )
    SELECT m.id, s.score / (2.2 * greatest(v_question.best, 1e-9))
    FROM measured m, average a,
    LATERAL (
        SELECT sum(l.weight * 2.2 * t.tf / (t.tf + 1.2 * (0.25 + 0.75 * m.length / a.length))) AS score
        FROM unnest(v_question.queries, v_question.weights) AS l (query, weight),
        LATERAL (SELECT ts_rank('{1,1,1,1}', m.words, l.query)::float8 AS rank OFFSET 0) r,
        LATERAL (SELECT 0.6079271 / (1.000001 - r.rank) - 0.5 AS tf) t
        WHERE r.rank > 0
    ) s
    ORDER BY s.score DESC, m.id LIMIT p_hits_max;
END $$;
CALL ailydian_build_rights('ailydian_search_text', 'ailydian_app');


-- 40_documents/functions/weigh_words.sql

-- The weights of a question's words among the tenant's chunks, and the queries that find the chunks
-- that hold them. Stop words are those of the question's language; every other word is looked for as a
-- Turkish and as an English one. A lexeme's weight is BM25's; one of `p_reach` chunks or more counts
-- as if it were in the geometric mean of reach and all of them.
-- Locks nothing.
-- Returns the lexemes' queries with their weights beside them; the sum of the weights of all words,
-- of the likelier language each; a query of the lexemes that few chunks hold; and one of every word,
-- in either language, NULL where the former finds all.
CREATE OR REPLACE FUNCTION public.ailydian_weigh_words(
    p_tenant_id text, p_words text[], p_language text, p_reach integer,
    OUT queries tsquery[], OUT weights float8[], OUT best float8, OUT any_of tsquery,
    OUT all_of tsquery
) LANGUAGE plpgsql STABLE AS $$
BEGIN
    WITH word AS MATERIALIZED (
        SELECT q.word, lexeme.language, lexeme.of_word
        FROM unnest(p_words) AS q (word),
        LATERAL (SELECT language, tsvector_to_array(ailydian_lexemes(language, q.word)) AS of_word
                 FROM unnest(ARRAY['tr', 'en']) AS language) lexeme
    ), kept AS MATERIALIZED (
        SELECT w.word, w.language, w.of_word FROM word w
        WHERE EXISTS (SELECT FROM word own WHERE own.word = w.word
                      AND own.language = p_language AND own.of_word <> '{}')
    ), known AS MATERIALIZED (
        SELECT l.lexeme, quoted.query, found.chunks
        FROM (SELECT DISTINCT unnest(of_word) AS lexeme FROM kept) l,
        LATERAL (SELECT ('''' || replace(replace(l.lexeme, '\', '\\'), '''', '''''') || '''')::tsquery
                 AS query) quoted,
        LATERAL (SELECT count(*) AS chunks FROM (
                     SELECT FROM "ChunkText" c
                     WHERE c."tenantId" = p_tenant_id AND c."tsv" @@ quoted.query
                     LIMIT p_reach) f) found
    ), whole AS MATERIALIZED (
        SELECT count(*) AS chunks FROM (
            SELECT FROM "ChunkText" c WHERE c."tenantId" = p_tenant_id LIMIT 25 * p_reach) f
    ), weighed AS MATERIALIZED (
        SELECT k.lexeme, k.query, k.chunks,
               ln(1 + (w.chunks - n.chunks + 0.5) / (n.chunks + 0.5)) AS weight
        FROM known k, whole w,
        LATERAL (SELECT CASE WHEN k.chunks < p_reach THEN k.chunks::float8
                        ELSE sqrt(k.chunks::float8 * w.chunks) END AS chunks) n
    ), rare AS (
        SELECT k.query FROM (
            SELECT query, sum(chunks) OVER (ORDER BY chunks, lexeme) AS total,
                   row_number() OVER (ORDER BY chunks, lexeme) AS place
            FROM weighed WHERE chunks > 0) k
        WHERE k.total <= p_reach OR k.place = 1
    ), needed AS (
        SELECT k.word, string_agg(DISTINCT x.query::text, ' | ') AS either
        FROM kept k, unnest(k.of_word) AS l (lexeme)
        JOIN weighed x ON x.lexeme = l.lexeme
        GROUP BY k.word HAVING sum(x.chunks) > 0
    )
    SELECT array_agg(w.query), array_agg(w.weight),
           (SELECT sum(m.lighter) FROM (
                SELECT min(s.total) AS lighter FROM (
                    SELECT k.word, k.language, sum(x.weight) AS total
                    FROM kept k, unnest(k.of_word) AS l (lexeme)
                    JOIN weighed x ON x.lexeme = l.lexeme GROUP BY k.word, k.language) s
                GROUP BY s.word) m),
           (SELECT string_agg(r.query::text, ' | ')::tsquery FROM rare r),
           CASE WHEN sum(w.chunks) > p_reach
                THEN (SELECT string_agg('(' || n.either || ')', ' & ')::tsquery FROM needed n) END
    INTO queries, weights, best, any_of, all_of
    FROM weighed w WHERE w.chunks > 0;
END $$;
CALL ailydian_build_rights('ailydian_weigh_words');


-- 40_documents/functions/words.sql

-- The words of a chunk: those of its headings count as words of its text.
CREATE OR REPLACE FUNCTION public.ailydian_words(p_language text, p_headings text, p_content text)
RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT public.ailydian_lexemes(p_language, p_headings || E'\n' || p_content)
$$;
CALL ailydian_build_rights('ailydian_words', 'ailydian_app');


-- 40_documents/triggers.sql

-- Our columns do not count as a change of the document: the platform's "updatedAt" ignores them.
CALL ailydian_build_touch('Document', ' OF "tenantId", "title", "content", "source", "metadata"');
CALL ailydian_build_child('DocumentChunk', 'documentId', 'Document');
CALL ailydian_build_child('ChunkEmbedding', 'chunkId', 'DocumentChunk');
CALL ailydian_build_trigger('Document', 'release_ingest_key',
    'BEFORE UPDATE OF "tenantId" ON ROW WHEN (OLD."tenantId" IS DISTINCT FROM NEW."tenantId" '
    'AND NEW."ingestKey" IS NOT DISTINCT FROM OLD."ingestKey") '
    'EXECUTE FUNCTION public.ailydian_release_ingest_key()');
CALL ailydian_build_trigger('DocumentChunk', 'tenant_forget',  -- fires after `tenant`: by name
    'BEFORE UPDATE OF "documentId", "tenantId" ON ROW '
    'WHEN (OLD."tenantId" IS NOT NULL AND NEW."tenantId" IS NULL) '
    'EXECUTE FUNCTION public.ailydian_forget_chunk()');
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


-- 40_documents/policies.sql

CALL ailydian_build_security('Document');
CALL ailydian_build_security('DocumentChunk');
CALL ailydian_build_security('ChunkEmbedding');
CALL ailydian_build_security('ChunkVector', p_platform => false);
CALL ailydian_build_security('ChunkText', p_platform => false);
CALL ailydian_build_security('LiveModel', p_platform => false);
CALL ailydian_build_security('Upload', 'SELECT, INSERT, DELETE', p_platform => false);


-- 50_operations/tables.sql

-- ============================================================================================
-- Operations: audit log, incidents, replicated state, changes of the platform
--
-- The audit log is append-only for our roles, by grants: ailydian_app may add rows and read its own,
-- no more. The platform's rights stay whole, and deleting a tenant leaves its audit rows behind with
-- "tenantId" NULL, as the foreign key says.
--
-- "PlatformChange" lists rows that the platform has written and that may need work: triggers fill
-- it for every writer but our own roles, a sweep turns its rows into jobs and deletes them.
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
    "createdAt"  TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "xid"        XID8 NOT NULL DEFAULT pg_current_xact_id()
);

CALL ailydian_build_index('AuditLog', 'tenantId');
CALL ailydian_build_index('AuditLog', 'userId');
CALL ailydian_build_index('AuditLog', 'createdAt');
CALL ailydian_build_index('AuditLog', 'action');
CALL ailydian_build_index('AuditLog', 'tenantId', 'createdAt');
CALL ailydian_build_index('AuditLog', 'tenantId', 'resourceId', 'createdAt');
CALL ailydian_build_index('AuditLog', 'xid', 'id');

COMMENT ON TABLE "AuditLog" IS 'Who did what to which thing; append-only for our roles.';

-- Seals: each tenant's audit entries are a chain of hashes; '' is the chain of those without a tenant.
-- How they are computed stands in producers/operations/audit_verifier.py.
CREATE TABLE IF NOT EXISTS "AuditSeal" (
    "chain"   TEXT COLLATE "C" NOT NULL,
    "seq"     BIGINT NOT NULL,
    "auditId" TEXT NOT NULL UNIQUE,
    "hash"    BYTEA NOT NULL,
    PRIMARY KEY ("chain", "seq"),
    CONSTRAINT "AuditSeal_seq_check" CHECK ("seq" > 0)
);

CREATE TABLE IF NOT EXISTS "AuditChain" (
    "chain" TEXT COLLATE "C" PRIMARY KEY,
    "seq"   BIGINT NOT NULL,
    "hash"  BYTEA NOT NULL
);

CREATE TABLE IF NOT EXISTS "AuditCheckpoint" (
    "number"    BIGINT PRIMARY KEY,
    "body"      TEXT NOT NULL,
    "signature" TEXT NOT NULL,
    "at"        TIMESTAMPTZ NOT NULL,
    CONSTRAINT "AuditCheckpoint_number_check" CHECK ("number" > 0)
);

CREATE TABLE IF NOT EXISTS "AuditHead" (
    "checkpoint" BIGINT NOT NULL,
    "chain"      TEXT COLLATE "C" NOT NULL,
    "seq"        BIGINT NOT NULL,
    "hash"       BYTEA NOT NULL,
    PRIMARY KEY ("checkpoint", "chain")
);

CREATE TABLE IF NOT EXISTS "AuditState" (
    "log"        TEXT PRIMARY KEY,
    "begun"      XID8 NOT NULL DEFAULT pg_current_xact_id(),
    "xid"        XID8 NOT NULL DEFAULT '0',
    "auditId"    TEXT NOT NULL DEFAULT '',
    "verifiedAt" TIMESTAMPTZ,
    "broken"     TEXT
);
INSERT INTO "AuditState" ("log") SELECT ailydian_new_id() WHERE NOT EXISTS (SELECT FROM "AuditState");

CREATE TABLE IF NOT EXISTS "AuditSink" (
    "sink"       TEXT PRIMARY KEY,
    "checkpoint" BIGINT NOT NULL DEFAULT 0,
    "error"      TEXT,
    "triedAt"    TIMESTAMPTZ,
    "heardAt"    TIMESTAMPTZ NOT NULL DEFAULT now()
);

CALL ailydian_build_index('AuditHead', 'chain', 'checkpoint');
COMMENT ON TABLE "AuditSeal" IS 'The place of an audit entry in its chain, and the hash up to there.';
COMMENT ON TABLE "AuditChain" IS 'The last place and hash of each chain.';
COMMENT ON TABLE "AuditCheckpoint" IS
    'Signed once a second where something was sealed: the Merkle root of all chains at that moment.';
COMMENT ON TABLE "AuditHead" IS 'The chains that a checkpoint has moved, and where to.';
COMMENT ON TABLE "AuditState" IS
    'One row: the name of this log, how far within a fold it is sealed, and what was last found broken. '
    'Entries of the transaction "begun" are older than the seals.';
COMMENT ON TABLE "AuditSink" IS 'Which checkpoint each place outside the database has.';

CREATE TABLE IF NOT EXISTS "Incident" (
    "id"          TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "title"       TEXT NOT NULL,
    "description" TEXT NOT NULL,
    "severity"    "IncidentSeverity" NOT NULL,
    "status"      "IncidentStatus" NOT NULL,
    "detectedAt"  TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "resolvedAt"  TIMESTAMP(3),
    -- ours
    "tenantId"    TEXT DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "cause"       TEXT,
    "escalations" INTEGER NOT NULL DEFAULT 0,
    "lastSeenAt"  TIMESTAMPTZ,
    "figure"      DOUBLE PRECISION,
    "escalatedAt" TIMESTAMPTZ,
    "handledBy"   TEXT,
    "reason"      TEXT
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
CALL ailydian_build_index('Incident', 'status');
CALL ailydian_build_index('Incident', 'severity');
CALL ailydian_build_index('Incident', 'detectedAt');
CALL ailydian_build_index('CRDTState', 'resourceType', 'resourceId');
CALL ailydian_build_index('CRDTState', 'hlc');
CALL ailydian_build_index('PlatformChange', 'changedAt');
COMMENT ON TABLE "Incident" IS 'Something is wrong: opened once a cause, closed when it is gone.';
COMMENT ON TABLE "CRDTState" IS 'State that regions merge, one row a node, by hybrid logical clock.';
COMMENT ON TABLE "PlatformChange" IS 'Rows the platform wrote that may need work; a sweep empties it.';

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
CALL ailydian_build_index('Incident', 'cause');
COMMENT ON TABLE "IncidentNotice" IS 'What on-call is told about an incident, until it was heard.';

-- One open incident a cause; those of no tenant are the system's.
DO $$
BEGIN
    IF to_regclass('public."Incident_cause_key"') IS NULL THEN
        CREATE UNIQUE INDEX "Incident_cause_key" ON "Incident" (coalesce("tenantId", ''), "cause")
            WHERE "cause" IS NOT NULL AND "status" IN ('OPEN', 'INVESTIGATING');
    END IF;
END $$;


-- 50_operations/functions/answer_incident.sql

-- A person acknowledges or closes an incident. Returns its former row; nothing if it is not open.
CREATE OR REPLACE FUNCTION ailydian_answer_incident(
    p_incident_id TEXT, p_status "IncidentStatus", p_handled_by TEXT, p_reason TEXT
) RETURNS TABLE ("tenantId" TEXT, "status" TEXT) LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_was "IncidentStatus";
BEGIN
    SELECT i."status" INTO v_was FROM "Incident" i
    WHERE i."id" = p_incident_id AND i."status" IN ('OPEN', 'INVESTIGATING') FOR UPDATE;
    RETURN QUERY
    UPDATE "Incident" i SET "status" = p_status, "handledBy" = p_handled_by,
        "reason" = coalesce(p_reason, i."reason"),
        "resolvedAt" = CASE WHEN p_status = 'CLOSED' THEN now() AT TIME ZONE 'UTC' END
    WHERE i."id" = p_incident_id AND v_was IS NOT NULL RETURNING i."tenantId", v_was::text;
END $$;
CALL ailydian_build_rights('ailydian_answer_incident', 'ailydian_relay');


-- 50_operations/functions/count_incidents.sql

-- Count open incidents by severity.
CREATE OR REPLACE FUNCTION ailydian_count_incidents()
RETURNS TABLE ("severity" TEXT, "incidents" BIGINT) LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT i."severity"::text, count(*) FROM "Incident" i
    WHERE i."status" IN ('OPEN', 'INVESTIGATING') GROUP BY i."severity"
$$;
CALL ailydian_build_rights('ailydian_count_incidents', 'ailydian_relay');


-- 50_operations/functions/incident_begins.sql

-- Complete an incident before it is inserted, by a sweep, a person or the platform: the time it was last
-- seen, and the cause of a stuck run's, which is its id.
CREATE OR REPLACE FUNCTION ailydian_incident_begins() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NEW."cause" IS NULL AND NEW."id" LIKE 'stuck-run:%' THEN
        NEW."cause" := NEW."id";
    END IF;
    NEW."lastSeenAt" := coalesce(NEW."lastSeenAt", now());
    RETURN NEW;
END $$;


-- 50_operations/functions/incident_noticed.sql

-- An incident was opened, escalated or resolved: on-call gets a notice, and an event of it is noted, in
-- the same transaction. An incident of no tenant is an event of the tenant ''.
CREATE OR REPLACE FUNCTION ailydian_incident_noticed() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_open CONSTANT "IncidentStatus"[] := ARRAY['OPEN', 'INVESTIGATING'];
    v_event TEXT;
BEGIN
    IF TG_OP = 'INSERT' THEN
        v_event := CASE WHEN NEW."status" = ANY(v_open) THEN 'opened' END;
    ELSIF OLD."status" = ANY(v_open) AND NOT NEW."status" = ANY(v_open) THEN
        v_event := 'resolved';
    ELSIF NEW."status" = ANY(v_open) AND NOT OLD."status" = ANY(v_open) THEN
        v_event := 'opened';
    ELSIF NEW."status" = ANY(v_open) AND NEW."severity" > OLD."severity" THEN
        v_event := 'escalated';
    END IF;
    IF v_event IS NOT NULL THEN
        INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what")
        VALUES (coalesce(NEW."tenantId", ''), NEW."id", coalesce(NEW."cause", ''), 'maintenance',
                'INCIDENT_' || upper(v_event));
        INSERT INTO "IncidentNotice" ("tenantId", "incidentId", "event", "body")
        VALUES (NEW."tenantId", NEW."id", v_event, jsonb_build_object(
            'event', 'incident.' || v_event,
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


-- 50_operations/functions/list_incidents.sql

-- List incidents for operators, and tenants' tables for the detectors: the relay's role cannot read
-- the rows itself. p_before and p_before_id are the last row of the page before.
CREATE OR REPLACE FUNCTION ailydian_list_incidents(
    p_incident_id TEXT, p_tenant_id TEXT, p_system BOOLEAN, p_only_open BOOLEAN, p_limit INTEGER,
    p_before TIMESTAMP DEFAULT NULL, p_before_id TEXT DEFAULT NULL
) RETURNS SETOF "Incident" LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT i.* FROM "Incident" i
    WHERE (p_incident_id IS NULL OR i."id" = p_incident_id)
      AND (p_tenant_id IS NULL OR i."tenantId" = p_tenant_id)
      AND (NOT p_system OR i."tenantId" IS NULL)
      AND (NOT p_only_open OR i."status" IN ('OPEN', 'INVESTIGATING'))
      AND (p_before IS NULL OR (i."detectedAt", i."id") < (p_before, p_before_id))
    ORDER BY i."detectedAt" DESC, i."id" DESC LIMIT p_limit
$$;
CALL ailydian_build_rights('ailydian_list_incidents', 'ailydian_relay');


-- 50_operations/functions/note_change.sql

-- The platform's changes. SECURITY DEFINER, because its role has no right on our tables.
CREATE OR REPLACE FUNCTION public.ailydian_note_change() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO public."PlatformChange" ("tenantId", "tableName", "rowId", "operation")
    VALUES (NEW."tenantId", TG_TABLE_NAME, NEW."id", TG_OP);
    RETURN NULL;
END $$;


-- 50_operations/functions/raise_incident.sql

-- Report a cause: open its incident, or update the open one. Its severity is escalated after a
-- quarter of an hour, then every hour, unless somebody works on it; and at once when its figure has
-- doubled since the last escalation, or the cause itself is worse. An incident that people have
-- closed stays closed for an hour, unless it gets worse by that measure.
CREATE OR REPLACE FUNCTION ailydian_raise_incident(
    p_tenant_id TEXT, p_cause TEXT, p_title TEXT, p_description TEXT, p_severity "IncidentSeverity",
    p_figure DOUBLE PRECISION
) RETURNS TEXT LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_incident "Incident";
    v_severity "IncidentSeverity";
BEGIN
    SELECT * INTO v_incident FROM "Incident" i
    WHERE i."cause" = p_cause AND coalesce(i."tenantId", '') = coalesce(p_tenant_id, '')
      AND i."status" IN ('OPEN', 'INVESTIGATING') FOR UPDATE;
    IF NOT FOUND THEN
        IF EXISTS (
            SELECT FROM "Incident" i
            WHERE i."cause" = p_cause AND coalesce(i."tenantId", '') = coalesce(p_tenant_id, '')
              AND i."status" = 'CLOSED'
              AND i."resolvedAt" > (now() - interval '1 hour') AT TIME ZONE 'UTC'
              AND i."severity" >= p_severity AND p_figure < 2 * i."figure") THEN
            RETURN NULL;
        END IF;
        INSERT INTO "Incident" ("tenantId", "cause", "title", "description", "severity", "status",
                                "figure")
        VALUES (p_tenant_id, p_cause, p_title, p_description, p_severity, 'OPEN', p_figure)
        ON CONFLICT DO NOTHING;
        RETURN CASE WHEN FOUND THEN 'opened' END;
    END IF;
    v_severity := greatest(v_incident."severity", p_severity);
    IF v_severity = v_incident."severity" AND v_severity < 'CRITICAL' AND (
        (v_incident."figure" > 0 AND p_figure >= 2 * v_incident."figure")
        OR (v_incident."status" = 'OPEN' AND now() >= coalesce(
                v_incident."escalatedAt" + interval '1 hour',
                v_incident."detectedAt" AT TIME ZONE 'UTC' + interval '15 minutes'))) THEN
        v_severity := (enum_range(v_incident."severity", NULL))[2];
    END IF;
    UPDATE "Incident" i SET "lastSeenAt" = now(), "description" = p_description, "severity" = v_severity,
        "figure" = CASE WHEN v_severity > v_incident."severity" THEN p_figure ELSE i."figure" END,
        "escalatedAt" = CASE WHEN v_severity > v_incident."severity" THEN now() ELSE i."escalatedAt" END,
        "escalations" = i."escalations" + (v_severity > v_incident."severity")::int
    WHERE i."id" = v_incident."id";
    RETURN CASE WHEN v_severity > v_incident."severity" THEN 'escalated' END;
END $$;
CALL ailydian_build_rights('ailydian_raise_incident', 'ailydian_relay');


-- 50_operations/functions/settle_incidents.sql

-- Resolve open incidents of these kinds that were not reported for `p_quiet`. Returns how many.
CREATE OR REPLACE FUNCTION ailydian_settle_incidents(p_kinds TEXT[], p_quiet INTERVAL) RETURNS INTEGER
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_settled INTEGER;
BEGIN
    UPDATE "Incident" i SET "status" = 'RESOLVED', "resolvedAt" = now() AT TIME ZONE 'UTC'
    WHERE i."status" IN ('OPEN', 'INVESTIGATING') AND i."lastSeenAt" < now() - p_quiet
      AND split_part(i."cause", ':', 1) = ANY(p_kinds);
    GET DIAGNOSTICS v_settled = ROW_COUNT;
    RETURN v_settled;
END $$;
CALL ailydian_build_rights('ailydian_settle_incidents', 'ailydian_relay');


-- 50_operations/triggers.sql

CALL ailydian_build_touch('CRDTState');
CALL ailydian_build_trigger('Incident', 'begins',
    'BEFORE INSERT ON ROW EXECUTE FUNCTION public.ailydian_incident_begins()');
CALL ailydian_build_trigger('Incident', 'noticed',
    'AFTER INSERT OR UPDATE ON ROW EXECUTE FUNCTION public.ailydian_incident_noticed()');

-- Asked first in every WHEN: our own writers pay for one comparison of names, no more.
DO $$
DECLARE
    v_not_ours constant text :=
        $w$current_user NOT IN ('ailydian_app', 'ailydian_owner', 'ailydian_relay')$w$;
    v_watched record;
BEGIN
    FOR v_watched IN SELECT * FROM (VALUES
        ('Document', 'OLD."content" IS DISTINCT FROM NEW."content" '
                     'OR OLD."title" IS DISTINCT FROM NEW."title"'),
        ('Message', 'OLD."content" IS DISTINCT FROM NEW."content"'),
        ('Feedback', 'OLD."rating" IS DISTINCT FROM NEW."rating" '
                     'OR OLD."comment" IS DISTINCT FROM NEW."comment"')
    ) AS tables(name, changed) LOOP
        CALL ailydian_build_trigger(v_watched.name, 'note_insert', format(
            'AFTER INSERT ON ROW WHEN (%s AND NEW."tenantId" IS NOT NULL) '
            'EXECUTE FUNCTION public.ailydian_note_change()', v_not_ours));
        CALL ailydian_build_trigger(v_watched.name, 'note_update', format(
            'AFTER UPDATE ON ROW WHEN (NEW."tenantId" IS NOT NULL '
            'AND (OLD."tenantId" IS DISTINCT FROM NEW."tenantId" OR (%s AND (%s)))) '
            'EXECUTE FUNCTION public.ailydian_note_change()', v_not_ours, v_watched.changed));
    END LOOP;
END $$;


-- 50_operations/policies.sql

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


-- 60_money/tables.sql

-- ============================================================================================
-- Money
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

COMMENT ON TABLE "Budget" IS 'What a tenant may spend in a period; every paid call asks it first.';
COMMENT ON TABLE "Wallet" IS 'A person''s balance: always the sum of its entries.';
COMMENT ON TABLE "WalletTransaction" IS 'One entry of a wallet; append-only for our roles.';


-- 60_money/functions/spent_budgets.sql

-- Budgets that are used up and not yet due to be reset.
CREATE OR REPLACE FUNCTION ailydian_spent_budgets()
RETURNS TABLE ("tenantId" TEXT, "id" TEXT, "name" TEXT, "spentUsd" NUMERIC, "limitUsd" NUMERIC,
               "resetAt" TIMESTAMPTZ) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT b."tenantId", b."id", b."name", b."spentUsd", b."limitUsd", b."resetAt" AT TIME ZONE 'UTC'
    FROM "Budget" b
    WHERE b."limitUsd" > 0 AND b."spentUsd" >= b."limitUsd"
      AND b."resetAt" > now() AT TIME ZONE 'UTC'
$$;
CALL ailydian_build_rights('ailydian_spent_budgets', 'ailydian_relay');


-- 60_money/triggers.sql

CALL ailydian_build_touch('Wallet');
CALL ailydian_build_child('Wallet', 'userId', 'User');
CALL ailydian_build_child('WalletTransaction', 'walletId', 'Wallet');


-- 60_money/policies.sql

CALL ailydian_build_security('Budget');
CALL ailydian_build_security('Wallet');
CALL ailydian_build_security('WalletTransaction', 'SELECT, INSERT');


-- 70_privacy/tables.sql

-- ============================================================================================
-- Privacy: keys of what is encrypted, and what a person asks about their own data
-- ============================================================================================

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
CALL ailydian_build_index('EncryptionKey', 'tenantId');
CALL ailydian_build_index('DSARRequest', 'userId');
CALL ailydian_build_index('DSARRequest', 'status');
COMMENT ON TABLE "EncryptionKey" IS 'A data key, wrapped by the master key; without it, no secrets.';
COMMENT ON TABLE "DSARRequest" IS 'A person''s request for access, copy, correction or deletion.';


-- 70_privacy/triggers.sql

CALL ailydian_build_child('DSARRequest', 'userId', 'User', p_must_exist => false);


-- 70_privacy/policies.sql

CALL ailydian_build_security('EncryptionKey');
CALL ailydian_build_security('DSARRequest');


-- 80_ledger/tables.sql

-- ============================================================================================
-- Ledger: jobs from publish to their end
--
-- One row of "Job" is one accepted job; an INSERT into it is the whole contract for publishers,
-- in Python or in SQL. The place of a waiting or running job is shown by its other row, of which
-- it has exactly one:
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
-- retention read it by position, so that none of them needs an index on the ledger. An event gets its
-- place by a row of "EventFold", which names the transactions that had ended: nothing is written at the
-- event. An inbox that is moved from, or a number updated into the event, would write each twice, and
-- leave dead rows at the head of what is read when an open transaction keeps vacuum from them.
-- ============================================================================================

CREATE TABLE IF NOT EXISTS "JobKind" (
    "job"           TEXT PRIMARY KEY,
    "queue"         TEXT NOT NULL,
    "schemaVersion" INTEGER NOT NULL,
    "attemptsMax"   INTEGER NOT NULL,
    "audience"      TEXT NOT NULL DEFAULT 'anyone',
    CONSTRAINT "JobKind_attemptsMax_check" CHECK ("attemptsMax" > 0)
);
COMMENT ON TABLE "JobKind" IS
    'The contracts of shared/contracts.py, written by migrate: SQL publishers need name no queue.';

CREATE TABLE IF NOT EXISTS "Publisher" (
    "name"      TEXT PRIMARY KEY,
    "tenantIds" TEXT[],
    "jobs"      TEXT[],
    "setBy"     TEXT NOT NULL,
    "setAt"     TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT "Publisher_name_check" CHECK ("name" ~ '^[a-z][a-z0-9-]{0,30}$')
);
COMMENT ON TABLE "Publisher" IS
    'Who publishes by Redis at a stream of its own, for which tenants and which jobs; NULL is all.';

CREATE TABLE IF NOT EXISTS "HttpAnswer" (
    "tenantId"    TEXT NOT NULL,
    "key"         TEXT NOT NULL,
    "fingerprint" BYTEA NOT NULL,
    "status"      INTEGER NOT NULL,
    "headers"     JSONB NOT NULL,
    "body"        BYTEA NOT NULL,
    "createdAt"   TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY ("tenantId", "key")
);
COMMENT ON TABLE "HttpAnswer" IS
    'What a request with an Idempotency-Key was answered: its repetition is answered the same.';

CREATE TABLE IF NOT EXISTS "BulkAction" (
    "id"          TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "tenantId"    TEXT,
    "action"      TEXT NOT NULL,
    "choice"      JSONB NOT NULL,
    "words"       JSONB NOT NULL,
    "actor"       TEXT NOT NULL,
    "state"       TEXT NOT NULL DEFAULT 'RUNNING',
    "matched"     BIGINT NOT NULL DEFAULT 0,
    "done"        BIGINT NOT NULL DEFAULT 0,
    "after"       TEXT NOT NULL DEFAULT '',
    "watched"     TEXT[] NOT NULL DEFAULT '{}',
    "canaryUntil" TIMESTAMPTZ,
    "nextAt"      TIMESTAMPTZ NOT NULL DEFAULT now(),
    "error"       TEXT,
    "createdAt"   TIMESTAMPTZ NOT NULL DEFAULT now(),
    "finishedAt"  TIMESTAMPTZ,
    CONSTRAINT "BulkAction_state_check" CHECK ("state" IN ('RUNNING', 'DONE', 'STOPPED', 'FAILED')),
    CONSTRAINT "BulkAction_finishedAt_check" CHECK (("state" = 'RUNNING') = ("finishedAt" IS NULL))
);
COMMENT ON TABLE "BulkAction" IS
    'What an operator does to many jobs: page by page in the background, with its progress.';

DO $$
BEGIN
    IF to_regclass('public."BulkAction_running_idx"') IS NULL THEN
        CREATE INDEX "BulkAction_running_idx" ON "BulkAction" ("nextAt") WHERE "state" = 'RUNNING';
    END IF;
END $$;
CALL ailydian_build_index('BulkAction', 'createdAt');

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

CREATE TABLE IF NOT EXISTS "TenantDepth" (
    "tenantId"   TEXT NOT NULL,
    "queue"      TEXT NOT NULL,
    "depth"      BIGINT NOT NULL,
    "measuredAt" TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY ("tenantId", "queue")
);
COMMENT ON TABLE "TenantDepth" IS
    'Tenants that fill their share of a queue, as the relay last counted: more of theirs is refused.';

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

-- A domain, so that the payload is checked when it is written, and by no later transition.
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

-- What Python could not read, or would read as another number, is refused when it is written. The same
-- limits are in shared/json_values.py. NOT VALID, as the step has it: no table is read through.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_constraint WHERE conname = 'JobPayload_depth_check') THEN
        ALTER DOMAIN "JobPayload" ADD CONSTRAINT "JobPayload_depth_check"
            CHECK (NOT VALUE @? 'strict $.**{100} ? (@.type() == "object" || @.type() == "array")')
            NOT VALID;
        ALTER DOMAIN "JobPayload" ADD CONSTRAINT "JobPayload_number_check"
            CHECK (NOT VALUE @? 'strict $.** ? (@.type() == "number" && (@ > 1e308 || @ < -1e308
                || @ > 0 && @ < 4e-324 || @ < 0 && @ > -4e-324))')
            NOT VALID;
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
    -- One CHECK, not four: each is set up again for every UPDATE, and a job has two.
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

DO $$
BEGIN
    IF to_regclass('public."JobAttempt_crashed_idx"') IS NULL THEN
        CREATE INDEX "JobAttempt_crashed_idx" ON "JobAttempt" ("endedAt")
            WHERE "verdict" = 'crashed' OR "signal" IS NOT NULL;
    END IF;
END $$;

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
    'Invalid messages from Redis: the reason, the bytes (the first 64 kB), and how often the same '
    'ones arrived.';
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
    'COMPLETED, DEAD, CANCELLED, RETRY, REPLAYED, DISCARDED of a job; RUN_..., STEP_..., BATCH_... and '
    'INCIDENT_... of others, under their own ids, "job" their name: noted as it commits. Read in the order '
    'of "EventFold", and by "position" within a fold.';

CREATE TABLE IF NOT EXISTS "EventFold" (
    "fold"  XID8 PRIMARY KEY,
    "lows"  XID8[],
    "highs" XID8[],
    "upto"  XID8 NOT NULL,
    "open"  XID8[] NOT NULL,
    "foldedAt" TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT "EventFold_ranges_check" CHECK (cardinality("lows") = cardinality("highs"))
);
COMMENT ON TABLE "EventFold" IS
    'Whose events a fold holds: transactions from a low below its high, ended when it was made. Below '
    '"upto" all others but the "open" ones have been folded before. The first has no ranges: events of '
    'transactions below it, each with its transaction as its fold.';

CREATE TABLE IF NOT EXISTS "EventCursor" (
    "reader"   TEXT PRIMARY KEY,
    "xid"      XID8 NOT NULL,
    "position" BIGINT NOT NULL,
    "movedAt"  TIMESTAMPTZ NOT NULL DEFAULT now()
);
COMMENT ON TABLE "EventCursor" IS
    'How far each reader of "JobEvent" has come: "xid" is a fold, and "position" one in it.';

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
CALL ailydian_build_index('HttpAnswer', 'createdAt');

CREATE TABLE IF NOT EXISTS "Webhook" (
    "id"        TEXT NOT NULL DEFAULT ailydian_new_id(),
    "tenantId"  TEXT NOT NULL DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "url"       TEXT NOT NULL,
    "events"    TEXT[] NOT NULL,
    "jobs"      TEXT[] NOT NULL DEFAULT '{}',
    "secret"    INTEGER NOT NULL DEFAULT 1,
    "rotatedAt" TIMESTAMPTZ,
    "enabled"   BOOLEAN NOT NULL DEFAULT true,
    "createdBy" TEXT NOT NULL,
    "createdAt" TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY ("tenantId", "id"),
    CONSTRAINT "Webhook_events_check" CHECK (cardinality("events") BETWEEN 1 AND 50),
    CONSTRAINT "Webhook_jobs_check" CHECK (cardinality("jobs") <= 100)
);
COMMENT ON TABLE "Webhook" IS
    'Where a tenant''s events are posted, and which. "secret" is the number of its secret, which is '
    'derived from the signing key and stored nowhere.';

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


-- 80_ledger/functions/batch_finished.sql

-- A batch has finished: an event of it is noted, in the same transaction.
CREATE OR REPLACE FUNCTION ailydian_batch_finished() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO "JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId")
    VALUES (NEW."tenantId", NEW."id", NEW."name", 'maintenance', 'BATCH_FINISHED', NEW."id");
    RETURN NULL;
END $$;


-- 80_ledger/functions/claim_receipt.sql

-- Claim the receipt of an attempt: its effects count only if this is in the same transaction. It
-- locks the job, so a sweep that would take the lease back waits or skips it. A lost lease raises
-- AL001 and rolls everything back.
--
-- SECURITY DEFINER for its plan: under the tenant's policy the planner may read all the jobs of the
-- tenant to find these few. The owner's policy leaves it only the primary key, and the tenant is
-- compared afterwards. The plans are by index, and generic as `effects` asks for: made once, right
-- however the ledger grows.
CREATE OR REPLACE FUNCTION ailydian_claim_receipt(p_job_id TEXT, p_fence BIGINT) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET jit = off SET enable_seqscan = off AS $$
DECLARE
    v_done RECORD;
BEGIN
    UPDATE public."Job" SET "state" = 'COMPLETED', "finishedAt" = clock_timestamp(),
        "leaseUntil" = NULL, "error" = NULL
    WHERE "id" = p_job_id AND "fence" = p_fence AND "state" = 'RUNNING'
      AND "tenantId" = current_setting('app.tenant_id')
    RETURNING "tenantId", "job", "queue", "batchId", "dueAt", "startedAt", "finishedAt" INTO v_done;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'lease_lost: this attempt no longer owns the job %', p_job_id USING ERRCODE = 'AL001';
    END IF;
    INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId",
                                   "waitedS", "tookS")
    VALUES (v_done."tenantId", p_job_id, v_done."job", v_done."queue", 'COMPLETED', v_done."batchId",
            extract(epoch FROM v_done."startedAt" - v_done."dueAt"),
            extract(epoch FROM v_done."finishedAt" - v_done."startedAt"));
    DELETE FROM public."JobFlight" WHERE "jobId" = p_job_id;
END $$;
CALL ailydian_build_rights('ailydian_claim_receipt', 'ailydian_app');


-- 80_ledger/functions/claim_receipts.sql

-- The receipts of several jobs at once: all count, or none. Locks: the jobs, by id. SECURITY DEFINER
-- for its plan, as `ailydian_claim_receipt`.
CREATE OR REPLACE FUNCTION ailydian_claim_receipts(p_job_ids TEXT[], p_fences BIGINT[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_tenant_id CONSTANT TEXT := current_setting('app.tenant_id');
    v_claimed INTEGER;
BEGIN
    WITH held AS (
        SELECT j."id" FROM unnest(p_job_ids, p_fences) AS m("id", "fence")
        JOIN public."Job" j ON j."id" = m."id"
        WHERE j."fence" = m."fence" AND j."state" = 'RUNNING' AND j."tenantId" = v_tenant_id
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
    GET DIAGNOSTICS v_claimed = ROW_COUNT;
    IF v_claimed < cardinality(p_job_ids) THEN
        RAISE EXCEPTION 'lease_lost: % of % jobs are owned by other attempts (%)',
            cardinality(p_job_ids) - v_claimed, cardinality(p_job_ids), p_job_ids[1]
            USING ERRCODE = 'AL001';
    END IF;
    DELETE FROM public."JobFlight" WHERE "jobId" = ANY(p_job_ids);
END $$;
CALL ailydian_build_rights('ailydian_claim_receipts', 'ailydian_app');


-- 80_ledger/functions/job_accepted.sql

-- Accept a job: check that the tenant exists, neither the queue nor the tenant's share of it is full and a
-- worker can take it, add its row to the outbox, wake up the relay. SECURITY DEFINER: nobody else adds to
-- the outbox. Follow-ups pass a full queue: refusing them would block the jobs that drain it.
--
-- One statement, since each more costs 15 us: almost every job passes, and only one that may not, or whose
-- tenant has a full share somewhere, is asked again, by ailydian_refuse_job, which says why. A tenant and a
-- kind are scalar look-ups, so that none becomes a hash of a whole table; what is full is few rows, read once a
-- statement. The numbers of a publisher are in the ranges of NUMBERS in shared/contract.py (NaN is in none);
-- a step has those of its definition, which was checked. All this is no condition of a trigger: that is parsed for every INSERT, which cost 45 us.
CREATE OR REPLACE FUNCTION ailydian_job_accepted() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO "JobOutbox" ("queue", "tenantId", "job", "limitKey", "priority", "dueAt", "jobId",
                             "attempt", "cost")
    SELECT a."queue", a."tenantId", a."job", a."limitKey", a."priority", a."dueAt", a."id", a."attempt",
           a."cost"
    FROM accepted a
    WHERE CASE WHEN octet_length(a."id") BETWEEN 1 AND 64
                AND greatest(a."dueAt", a."createdAt") < '9999-01-01Z'
                AND least(a."dueAt", a."createdAt") >= '1970-01-01Z'
                AND greatest(a."fence", a."attempt", a."crashes") <= 1000000
                AND least(a."fence", a."attempt", a."crashes") >= 0
                AND (a."stepId" IS NOT NULL
                  OR coalesce(a."timeLimitS", 1) BETWEEN 0.001 AND 604800
                 AND coalesce(a."backoffS", 0) BETWEEN 0 AND 604800
                 AND a."attemptsMax" BETWEEN 1 AND 1000000 AND a."schemaVersion" >= 1)
                AND (SELECT k."job" FROM "JobKind" k
                     WHERE k."job" = a."job" AND k."queue" = a."queue") IS NOT NULL
                AND (SELECT t."id" FROM "Tenant" t WHERE t."id" = a."tenantId") IS NOT NULL
                AND (a."parentId" IS NOT NULL
                  OR a."queue" <> ALL (ARRAY(SELECT q."queue" FROM "QueueState" q
                                             WHERE q."depth" >= q."depthMax"))
                 AND a."tenantId" <> ALL (ARRAY(SELECT d."tenantId" FROM "TenantDepth" d)))
               THEN a."state" = 'PENDING'
               ELSE public.ailydian_refuse_job(a."id", a."tenantId", a."job", a."queue",
                    a."parentId" IS NULL, a."state" = 'PENDING',
                    ARRAY[a."dueAt", a."createdAt"], ARRAY[a."fence", a."attempt", a."crashes"],
                    CASE WHEN a."stepId" IS NULL
                         THEN ARRAY[a."timeLimitS", a."backoffS", a."attemptsMax", a."schemaVersion"] END) END
    ORDER BY a."id";
    -- In a condition: PERFORM is a query.
    IF FOUND AND pg_notify('ailydian_outbox', '') IS NOT NULL THEN
        NULL;
    END IF;
    RETURN NULL;
END $$;


-- 80_ledger/functions/job_kind.sql

-- Set the queue of a job from its contract; an unknown job is refused, one that is not for publishers, and an
-- entry of the audit log in the name of one of ours: the names of RESERVED_ACTORS in shared/contracts.py. An
-- INSERT that names the queue, in a role of our processes, is theirs, or may do as they do.
CREATE OR REPLACE FUNCTION ailydian_job_kind() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_kind "JobKind";
BEGIN
    SELECT * INTO v_kind FROM "JobKind" k WHERE k."job" = NEW."job";
    IF NOT FOUND THEN
        RAISE EXCEPTION 'unknown_job: no contract is named %', public.ailydian_visible(NEW."job")
            USING ERRCODE = 'AL002';
    END IF;
    IF v_kind."audience" <> 'anyone' THEN
        RAISE EXCEPTION 'publisher_refused: % is not for publishers: audience %', NEW."job",
            v_kind."audience" USING ERRCODE = 'AL010';
    END IF;
    -- Whatever form the name is written in: wide letters, capitals, with spaces or marks that nobody sees.
    IF NEW."job" = 'append_audit' AND regexp_replace(
        lower(split_part(normalize(NEW."payload" ->> 'actor', NFKC), ':', 1) COLLATE "C"), '[^!-~]', '', 'g'
    ) IN ('cli', 'door', 'key', 'operator', 'platform', 'relay', 'schedule', 'scheduler', 'service',
          'system', 'user', 'worker', 'workflow') THEN
        RAISE EXCEPTION 'publisher_refused: append_audit: the actor % is one of ours',
            public.ailydian_visible(to_json(NEW."payload" ->> 'actor')::text) USING ERRCODE = 'AL010';
    END IF;
    NEW."queue" := v_kind."queue";
    NEW."attemptsMax" := v_kind."attemptsMax";
    RETURN NEW;
END $$;


-- 80_ledger/functions/place_events.sql

-- Give the events and audit entries that were committed since the last fold their place: the number of
-- a new fold. A fold names the ended transactions whose events it holds; one that is still open is left to
-- the fold after its commit, so nobody's open transaction keeps the others' events back, and none is left
-- out. A job's events lie in their order: who notes the second has waited for the commit of the first.
--
-- Writes one row a fold, and nothing at an event. Locks: one process places at a time, another one does
-- nothing. Returns whether there was a new fold.
CREATE OR REPLACE FUNCTION ailydian_place_events() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET jit = off SET enable_seqscan = off AS $$
DECLARE
    v_last public."EventFold";
    v_now pg_snapshot;
    v_lows xid8[];
    v_highs xid8[];
BEGIN
    -- An older snapshot would not see the fold of who had the lock before.
    IF current_setting('transaction_isolation') <> 'read committed'
       OR NOT pg_try_advisory_xact_lock(hashtext('ailydian'), hashtext('events')) THEN
        RETURN false;
    END IF;
    SELECT f.* INTO v_last FROM public."EventFold" f ORDER BY f."fold" DESC LIMIT 1;
    v_now := pg_current_snapshot();
    IF v_last."fold" IS NULL THEN
        INSERT INTO public."EventFold" ("fold", "upto", "open")
        VALUES (pg_snapshot_xmin(v_now), pg_snapshot_xmin(v_now), '{}') RETURNING * INTO v_last;
    END IF;
    -- Transactions that were open at the last fold and have ended; and what lies between those that
    -- are open now, from where the last fold ended.
    SELECT array_agg(r."low" ORDER BY r."low"), array_agg(r."high" ORDER BY r."low") INTO v_lows, v_highs
    FROM (
        SELECT o.x AS "low", (o.x::text::bigint + 1)::text::xid8 AS "high"
        FROM unnest(v_last."open") AS o(x) WHERE pg_visible_in_snapshot(o.x, v_now)
        UNION ALL
        SELECT (b.n + 1)::text::xid8, (lead(b.n) OVER (ORDER BY b.n))::text::xid8
        FROM (
            SELECT v_last."upto"::text::bigint - 1
            UNION ALL SELECT pg_snapshot_xmax(v_now)::text::bigint
            UNION ALL SELECT o.x::text::bigint FROM pg_snapshot_xip(v_now) AS o(x)
                      WHERE o.x >= v_last."upto"
        ) AS b(n)
    ) r
    -- By the index for each range, whatever the statistics say.
    CROSS JOIN LATERAL (
        (SELECT FROM public."JobEvent" e WHERE e."xid" >= r."low" AND e."xid" < r."high"
         ORDER BY e."xid" LIMIT 1)
        UNION ALL
        (SELECT FROM public."AuditLog" a WHERE a."xid" >= r."low" AND a."xid" < r."high"
         ORDER BY a."xid" LIMIT 1)
        LIMIT 1
    ) e
    WHERE r."low" < r."high";
    IF v_lows IS NULL THEN
        RETURN false;
    END IF;
    INSERT INTO public."EventFold" ("fold", "lows", "highs", "upto", "open")
    VALUES (greatest((v_last."fold"::text::bigint + 1)::text::xid8, pg_snapshot_xmax(v_now)),
            v_lows, v_highs, pg_snapshot_xmax(v_now), ARRAY(SELECT pg_snapshot_xip(v_now)));
    RETURN true;
END $$;
CALL ailydian_build_rights('ailydian_place_events', 'ailydian_relay, ailydian_app, ailydian_audit_reader');


-- 80_ledger/functions/read_events.sql

-- The events after a place, in their order, by fold and position; those of folds above `p_to` are left
-- out. Events from before the first fold lie by the number of their transaction, as they were read then.
-- Who asks sees what the policies let them see.
CREATE OR REPLACE FUNCTION ailydian_read_events(
    p_fold XID8, p_position BIGINT, p_to XID8, p_limit INTEGER
) RETURNS TABLE ("fold" XID8, "position" BIGINT, "xid" XID8, "tenantId" TEXT, "jobId" TEXT, "job" TEXT,
                 "queue" TEXT, "what" TEXT, "batchId" TEXT, "waitedS" REAL, "tookS" REAL, "at" TIMESTAMPTZ)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_max CONSTANT BIGINT := 9223372036854775807;
    v_fold public."EventFold";
    v_left INTEGER := p_limit;
    v_after BIGINT;
    v_upto BIGINT;
    v_found INTEGER;
BEGIN
    <<folds>>
    FOR v_fold IN
        SELECT f.* FROM public."EventFold" f
        WHERE f."fold" >= p_fold AND f."fold" <= p_to ORDER BY f."fold"
    LOOP
        v_after := CASE WHEN v_fold."fold" = p_fold THEN p_position ELSE 0 END;
        -- Within a fold, first what lies just ahead: of a large one, most is passed in the index alone.
        FOREACH v_upto IN ARRAY CASE WHEN v_after BETWEEN 1 AND v_max / 2
                                THEN ARRAY[v_after + 4 * v_left, v_max] ELSE ARRAY[v_max] END LOOP
            IF v_fold."lows" IS NULL THEN
                RETURN QUERY
                    SELECT e."xid", e."position", e."xid", e."tenantId", e."jobId", e."job", e."queue",
                           e."what", e."batchId", e."waitedS", e."tookS", e."at"
                    FROM public."JobEvent" e
                    WHERE (e."xid", e."position") > (p_fold, p_position) AND e."xid" < v_fold."fold"
                    ORDER BY e."xid", e."position" LIMIT v_left;
            ELSE
                RETURN QUERY
                    SELECT v_fold."fold", e."position", e."xid", e."tenantId", e."jobId", e."job",
                           e."queue", e."what", e."batchId", e."waitedS", e."tookS", e."at"
                    FROM unnest(v_fold."lows", v_fold."highs") AS r("low", "high")
                    CROSS JOIN LATERAL (
                        -- OFFSET 0: each range by itself, along the index, whatever statistics say.
                        SELECT x.* FROM public."JobEvent" x
                        WHERE (x."xid", x."position") > (r."low", v_after) AND x."xid" < r."high"
                          AND x."position" > v_after AND x."position" <= v_upto OFFSET 0
                    ) e
                    ORDER BY e."position" LIMIT v_left;
            END IF;
            GET DIAGNOSTICS v_found = ROW_COUNT;
            v_left := v_left - v_found;
            EXIT folds WHEN v_left = 0;
            v_after := v_upto;
        END LOOP;
    END LOOP;
END $$;
CALL ailydian_build_rights('ailydian_read_events', 'ailydian_relay, ailydian_app');


-- 80_ledger/functions/refuse_job.sql

-- Refuse a job whose tenant is missing, that has no room, or that no worker could take, and say why: the
-- claim of a hundred would fail by it, or its crashes would not be counted. `p_counted`: a full queue refuses
-- it; `p_waits`: it goes to the outbox; `p_numbers`: its time limit, backoff, attempts and version. Called in a condition. Returns `p_waits` where nothing is wrong: a kind, or all kinds, that the ledger was not told of.
CREATE OR REPLACE FUNCTION ailydian_refuse_job(
    p_job_id TEXT, p_tenant_id TEXT, p_job TEXT, p_queue TEXT, p_counted BOOLEAN, p_waits BOOLEAN,
    p_times TIMESTAMPTZ[], p_counters BIGINT[], p_numbers REAL[]
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM public."Tenant" t WHERE t."id" = p_tenant_id) THEN
        RAISE EXCEPTION 'tenant_not_found: no tenant with the id %', public.ailydian_visible(p_tenant_id) USING ERRCODE = 'AL003';
    ELSIF p_counted AND EXISTS (SELECT FROM public."QueueState" q
                                WHERE q."queue" = p_queue AND q."depth" >= q."depthMax") THEN
        RAISE EXCEPTION 'queue_full: the queue % has reached its maximum depth', p_queue
            USING ERRCODE = 'AL004';
    ELSIF p_counted AND EXISTS (SELECT FROM public."TenantDepth" d
                                WHERE d."tenantId" = p_tenant_id AND d."queue" = p_queue) THEN
        RAISE EXCEPTION 'queue_full: the tenant fills its share of the queue %', p_queue
            USING ERRCODE = 'AL004';
    ELSIF NOT p_waits THEN
        RETURN false;
    ELSIF NOT ('9999-01-01Z' > ALL (p_times) AND '1970-01-01Z' <= ALL (p_times)
               AND 1000000 >= ALL (p_counters) AND 0 <= ALL (p_counters)) THEN
        RAISE EXCEPTION 'payload_refused: "dueAt" and "createdAt" must be times of 1970 to 9998, and counters at least 0 and at most 1,000,000'
            USING ERRCODE = 'AL002';
    ELSIF coalesce(p_numbers[1], 1) NOT BETWEEN 0.001 AND 604800 THEN
        RAISE EXCEPTION 'payload_refused: "timeLimitS" must be a number from 0.001 to 604,800 (got %)',
            p_numbers[1] USING ERRCODE = 'AL002';
    ELSIF coalesce(p_numbers[2], 0) NOT BETWEEN 0 AND 604800 THEN
        RAISE EXCEPTION 'payload_refused: "backoffS" must be a number from 0 to 604,800 (got %)',
            p_numbers[2] USING ERRCODE = 'AL002';
    ELSIF coalesce(p_numbers[3], 1) NOT BETWEEN 1 AND 1000000 THEN
        RAISE EXCEPTION 'payload_refused: "attemptsMax" must be a whole number from 1 to 1,000,000 (got %)',
            p_numbers[3] USING ERRCODE = 'AL002';
    ELSIF coalesce(p_numbers[4], 1) < 1 THEN
        RAISE EXCEPTION 'payload_refused: "schemaVersion" must be a whole number from 1 to 2,147,483,647 (got %)',
            p_numbers[4] USING ERRCODE = 'AL002';
    ELSIF octet_length(p_job_id) NOT BETWEEN 1 AND 64 THEN
        RAISE EXCEPTION 'payload_refused: "id" must be 1 to 64 bytes (got %)', octet_length(p_job_id)
            USING ERRCODE = 'AL002';
    ELSIF length(p_job) NOT BETWEEN 1 AND 200 OR p_job ~ '[[:cntrl:]]' THEN
        RAISE EXCEPTION 'payload_refused: "job" must be 1 to 200 characters without control characters'
            USING ERRCODE = 'AL002';
    ELSIF EXISTS (SELECT FROM public."JobKind")
          AND NOT EXISTS (SELECT FROM public."JobKind" k WHERE k."queue" = p_queue) THEN
        RAISE EXCEPTION 'payload_refused: no queue is named %; leave "queue" out, and it is that of the job',
            public.ailydian_visible(to_json(left(p_queue, 100))::text) USING ERRCODE = 'AL002';
    END IF;
    RETURN p_waits;
END $$;


-- 80_ledger/functions/tenant_gone.sql

-- A tenant was deleted: delete its rows of the ledger, which have no foreign key to it.
CREATE OR REPLACE FUNCTION ailydian_tenant_gone() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM "JobOutbox" WHERE "tenantId" = OLD."id";
    DELETE FROM "JobFlight" WHERE "tenantId" = OLD."id";
    DELETE FROM "Job" WHERE "tenantId" = OLD."id";
    DELETE FROM "TenantDepth" WHERE "tenantId" = OLD."id";
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


-- 80_ledger/triggers.sql

CALL ailydian_build_trigger('Job', 'kind', 'BEFORE INSERT ON ROW WHEN (NEW."queue" IS NULL OR current_user NOT IN (''ailydian_app'', ''ailydian_relay'', ''ailydian_owner'')) EXECUTE FUNCTION public.ailydian_job_kind()');
CALL ailydian_build_trigger('Job', 'accepted', 'AFTER INSERT ON public."Job" REFERENCING NEW TABLE AS accepted FOR EACH STATEMENT EXECUTE FUNCTION public.ailydian_job_accepted()');
CALL ailydian_build_trigger('Tenant', 'gone', 'AFTER DELETE ON ROW EXECUTE FUNCTION public.ailydian_tenant_gone()');
CALL ailydian_build_trigger('JobBatch', 'finished', 'AFTER UPDATE ON ROW WHEN (OLD."finishedAt" IS NULL AND NEW."finishedAt" IS NOT NULL) EXECUTE FUNCTION public.ailydian_batch_finished()');


-- 80_ledger/policies.sql

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


-- 90_workflow/tables.sql

-- ============================================================================================
-- Workflow: the engine
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
-- transaction commits (trigger "step").
--
--     pending -> ready -> running -> completed | skipped | failed | cancelled
--                            `-> waiting (for a row of "WorkflowWait") -> ...
--
-- Lock order: "Job", then steps from upstream to downstream (by id where there are several), then the
-- run. Acts on a whole run lock the run first and never wait for a step: a locked step is just being
-- finished, and starting the steps that it opened checks the run again.
-- ============================================================================================

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
    -- ours, of the engine
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
    -- ours, of the engine
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

CALL ailydian_build_index('Workflow', 'name');
CALL ailydian_build_index('Workflow', 'tenantId');
CALL ailydian_build_index('WorkflowRun', 'workflowId');
CALL ailydian_build_index('WorkflowRun', 'status');
CALL ailydian_build_index('WorkflowStep', 'runId');

COMMENT ON TABLE "Workflow" IS 'A definition: a graph of steps, checked before it may run.';
COMMENT ON TABLE "WorkflowRun" IS 'One run of a workflow: its input, its state, its output.';
COMMENT ON TABLE "WorkflowStep" IS 'One step of a run; a mapped step has one row an item.';
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

-- Runs that have not ended, in the order of their ids: what the sweep walks along.
DO $$
BEGIN
    IF to_regclass('public."WorkflowRun_live_idx"') IS NULL THEN
        CREATE INDEX "WorkflowRun_live_idx" ON "WorkflowRun" ("id")
            WHERE "status" IN ('PENDING', 'RUNNING');
    END IF;
END $$;


-- 90_workflow/functions/answer_step.sql

-- Settle a waiting step by the signal or the approval that it waited for.
CREATE OR REPLACE FUNCTION ailydian_answer_step(
    p_step_id TEXT, p_awaited TEXT, p_payload JSONB, p_input JSONB
) RETURNS TEXT[] LANGUAGE plpgsql AS $$
BEGIN
    IF p_awaited = 'approval' AND p_payload ->> 'approved' IS DISTINCT FROM 'true' THEN
        RETURN public.ailydian_settle_step(p_step_id, 'failed', p_payload, p_input,
            concat('rejected by ', p_payload ->> 'by', ': ' || nullif(p_payload ->> 'comment', '')),
            'rejected');
    END IF;
    RETURN public.ailydian_settle_step(p_step_id, 'completed', CASE p_awaited WHEN 'approval' THEN p_payload
        ELSE jsonb_build_object('payload', p_payload) END, p_input, NULL, NULL);
END $$;
CALL ailydian_build_rights('ailydian_answer_step');


-- 90_workflow/functions/begin_step.sql

-- Begin the step of a walker's job; when its run is paused or over, the job is completed.
CREATE OR REPLACE FUNCTION ailydian_begin_step(p_job_id TEXT, p_fence BIGINT) RETURNS JSONB
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
DECLARE
    v_job RECORD;
    v_run RECORD;
BEGIN
    SELECT j."stepId", j."attempt", j."attemptsMax" INTO v_job FROM public."Job" j
    WHERE j."id" = p_job_id AND j."fence" = p_fence AND j."state" = 'RUNNING'
      AND j."tenantId" = current_setting('app.tenant_id') FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'lease_lost: this attempt no longer owns the job %', p_job_id USING ERRCODE = 'AL001';
    END IF;
    SELECT r."state" = 'running' OR (r."state" = 'compensating' AND n."compensates" IS NOT NULL)
           AS "goes", r."state" INTO v_run FROM public."WorkflowStep" s
    JOIN public."WorkflowRun" r ON r."id" = s."runId"
    JOIN public."WorkflowNode" n ON n."versionId" = r."versionId" AND n."position" = s."position"
    WHERE s."id" = v_job."stepId";
    UPDATE public."WorkflowStep" s SET "state" = 'running', "status" = 'RUNNING',
        "attempt" = v_job."attempt", "jobId" = p_job_id,
        "startedAt" = clock_timestamp() AT TIME ZONE 'UTC'
    WHERE s."id" = v_job."stepId" AND s."jobId" = p_job_id AND s."state" IN ('ready', 'running')
      AND v_run."goes";
    IF FOUND THEN
        RETURN public.ailydian_step_context(v_job."stepId", NULL, NULL)
            || jsonb_build_object('fence', p_fence, 'attempt', v_job."attempt",
                                  'attemptsMax', v_job."attemptsMax");
    END IF;
    IF v_run."state" = 'paused' THEN
        UPDATE public."WorkflowStep" s SET "state" = 'ready', "status" = 'PENDING', "jobId" = NULL
        WHERE s."id" = v_job."stepId" AND s."jobId" = p_job_id AND s."state" IN ('ready', 'running');
    ELSE
        WITH stopped AS (
            UPDATE public."WorkflowStep" s SET "state" = 'cancelled', "status" = 'CANCELLED',
                "completedAt" = clock_timestamp() AT TIME ZONE 'UTC'
            WHERE s."id" = v_job."stepId" AND s."jobId" = p_job_id AND s."state" IN ('ready', 'running')
            RETURNING s.*
        )
        INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what")
        SELECT s."tenantId", s."id", s."stepName", 'workflow', 'STEP_CANCELLED' FROM stopped s;
    END IF;
    RETURN public.ailydian_walk_on(p_job_id, '{}', NULL, NULL, 0);
END $$;
CALL ailydian_build_rights('ailydian_begin_step', 'ailydian_app');


-- 90_workflow/functions/cancel_run.sql

-- Cancel a run that has not ended. Locks: the run, then what ending it locks.
CREATE OR REPLACE FUNCTION ailydian_cancel_run(p_run_id TEXT, p_reason TEXT) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
BEGIN
    PERFORM public.ailydian_lock_run(p_run_id, true, 'queued', 'running', 'paused', 'compensating');
    PERFORM public.ailydian_end_run(p_run_id, 'cancelled', p_reason, NULL, NULL);
END $$;
CALL ailydian_build_rights('ailydian_cancel_run', 'ailydian_app');


-- 90_workflow/functions/close_step.sql

-- Write the end of a step, once, and keep its output: one too large for the row stands in
-- "WorkflowOutput", and the row says only how large it is.
-- Notes an event of it.
-- Locks: the step.
-- Returns where the step stands in its run; NULLs if it was over before, and then nothing changes.
CREATE OR REPLACE FUNCTION ailydian_close_step(
    p_step_id TEXT, p_verdict TEXT, p_output JSONB, p_input JSONB, p_error TEXT, p_fingerprint TEXT,
    OUT "runId" TEXT, OUT "position" INTEGER, OUT "itemIndex" INTEGER
) LANGUAGE plpgsql AS $$
DECLARE
    v_kept JSONB := p_output;
    v_tenant_id TEXT;
    v_name TEXT;
BEGIN
    IF pg_column_size(p_output) > 65536 THEN
        v_kept := jsonb_build_object('$bytes', pg_column_size(p_output));
    END IF;
    UPDATE public."WorkflowStep" s SET "state" = p_verdict,
        "status" = CASE p_verdict WHEN 'failed' THEN 'FAILED'
                   ELSE 'COMPLETED' END::public."WorkflowStatus",
        "output" = v_kept, "input" = coalesce(p_input, s."input"), "error" = p_error,
        "fingerprint" = p_fingerprint, "completedAt" = clock_timestamp() AT TIME ZONE 'UTC',
        "progress" = CASE p_verdict WHEN 'completed' THEN 1 ELSE s."progress" END
    WHERE s."id" = p_step_id AND s."state" IN ('pending', 'ready', 'running', 'waiting')
    RETURNING s."runId", s."position", s."itemIndex", s."tenantId", s."stepName"
    INTO "runId", "position", "itemIndex", v_tenant_id, v_name;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what")
    VALUES (v_tenant_id, p_step_id, v_name, 'workflow', 'STEP_' || upper(p_verdict));
    IF v_kept IS DISTINCT FROM p_output THEN
        INSERT INTO public."WorkflowOutput" ("stepId", "tenantId", "output")
        VALUES (p_step_id, v_tenant_id, p_output)
        ON CONFLICT ("stepId") DO UPDATE SET "output" = excluded."output";
    END IF;
END $$;
CALL ailydian_build_rights('ailydian_close_step');


-- 90_workflow/functions/compensate.sql

-- The next step that undoes, in reverse order of completion. Returns its id, or ends the run.
CREATE OR REPLACE FUNCTION ailydian_compensate(p_run_id TEXT) RETURNS TEXT[]
LANGUAGE plpgsql AS $$
DECLARE
    v_undo RECORD;
    v_run RECORD;
BEGIN
    SELECT r."versionId", r."tenantId", r."error", r."fingerprint" INTO STRICT v_run
    FROM public."WorkflowRun" r WHERE r."id" = p_run_id;
    SELECT n."position", n."name" INTO v_undo
    FROM public."WorkflowStep" s
    JOIN public."WorkflowNode" n
      ON n."versionId" = v_run."versionId" AND n."compensates" = s."position"
    WHERE s."runId" = p_run_id AND s."itemIndex" = -1 AND s."state" = 'completed'
      AND NOT EXISTS (SELECT FROM public."WorkflowStep" u
                      WHERE u."id" = p_run_id || '/' || n."position")
    ORDER BY s."completedAt" DESC, s."position" DESC LIMIT 1;
    IF NOT FOUND THEN
        PERFORM public.ailydian_end_run(p_run_id, 'failed', v_run."error", NULL, v_run."fingerprint");
        RETURN '{}';
    END IF;
    INSERT INTO public."WorkflowStep" ("id", "runId", "stepName", "status", "tenantId", "position",
                                       "itemIndex", "state")
    VALUES (p_run_id || '/' || v_undo."position", p_run_id, v_undo."name", 'PENDING', v_run."tenantId",
            v_undo."position", -1, 'pending');
    RETURN ARRAY[p_run_id || '/' || v_undo."position"];
END $$;
CALL ailydian_build_rights('ailydian_compensate');


-- 90_workflow/functions/count_end.sql

-- A step that nothing depends on is over: one end less is open in its run, which is over with its
-- last end; the output of an only end is the run's.
-- Locks: the run; with the last end, what ending the run locks.
-- Returns no step: none follows an end.
CREATE OR REPLACE FUNCTION ailydian_count_end(p_run_id TEXT, p_output JSONB) RETURNS TEXT[]
LANGUAGE plpgsql AS $$
DECLARE
    v_run RECORD;
BEGIN
    UPDATE public."WorkflowRun" r SET "endsOpen" = r."endsOpen" - 1
    WHERE r."id" = p_run_id RETURNING r."endsOpen", r."versionId" INTO v_run;
    IF v_run."endsOpen" = 0 THEN
        PERFORM public.ailydian_end_run(p_run_id, 'completed', NULL,
            CASE WHEN (SELECT v."ends" FROM public."WorkflowVersion" v
                       WHERE v."id" = v_run."versionId") = 1 THEN p_output END, NULL);
    END IF;
    RETURN '{}';
END $$;
CALL ailydian_build_rights('ailydian_count_end');


-- 90_workflow/functions/count_item.sql

-- An item is over: one less is open in its mapped step, which is over with its last item.
-- Locks: the mapped step; with the last item, what settling that step locks.
-- Returns the item whose turn it is, if one waits for its turn; after the last item, the steps that
-- the mapped step lets begin.
CREATE OR REPLACE FUNCTION ailydian_count_item(p_run_id TEXT, p_position INTEGER)
RETURNS TEXT[] LANGUAGE plpgsql AS $$
DECLARE
    v_mapped RECORD;
    v_opened TEXT[];
BEGIN
    UPDATE public."WorkflowStep" s SET "openItems" = s."openItems" - 1,
        "nextItem" = least(s."nextItem" + 1, s."items"),
        "progress" = 1 - (s."openItems" - 1)::real / s."items"
    WHERE s."id" = p_run_id || '/' || p_position AND s."state" = 'running'
    RETURNING s."id", s."openItems", s."nextItem" INTO v_mapped;
    IF NOT FOUND THEN
        RETURN '{}';
    ELSIF v_mapped."openItems" = 0 THEN
        RETURN public.ailydian_settle_step(v_mapped."id", 'completed',
            public.ailydian_item_outputs(p_run_id, p_position), NULL, NULL, NULL);
    END IF;
    SELECT ARRAY[s."id"] INTO v_opened FROM public."WorkflowStep" s
    WHERE s."id" = v_mapped."id" || '/' || (v_mapped."nextItem" - 1) AND s."state" = 'pending';
    RETURN coalesce(v_opened, '{}');
END $$;
CALL ailydian_build_rights('ailydian_count_item');


-- 90_workflow/functions/count_need.sql

-- A step is over that others depend on: each has one need less, and one that is live if
-- `p_live`, which a skipped step is not.
-- Locks: the dependents, by id where there are several.
-- Returns those of them that have no need left and may begin, by position.
CREATE OR REPLACE FUNCTION ailydian_count_need(
    p_run_id TEXT, p_dependents INTEGER[], p_live BOOLEAN
) RETURNS TEXT[] LANGUAGE plpgsql AS $$
DECLARE
    v_opened TEXT[];
BEGIN
    IF cardinality(p_dependents) = 1 THEN
        UPDATE public."WorkflowStep" s SET "openNeeds" = s."openNeeds" - 1,
            "liveNeeds" = s."liveNeeds" + p_live::int
        WHERE s."id" = p_run_id || '/' || p_dependents[1] AND s."openNeeds" > 0
        RETURNING CASE WHEN s."openNeeds" = 0 AND s."state" = 'pending' THEN ARRAY[s."id"]
                       ELSE '{}' END INTO v_opened;
        RETURN coalesce(v_opened, '{}');
    END IF;
    WITH after AS (
        SELECT s."id" FROM unnest(p_dependents) AS d("position")
        JOIN public."WorkflowStep" s ON s."id" = p_run_id || '/' || d."position"
        ORDER BY s."id" FOR UPDATE OF s
    ), counted AS (
        UPDATE public."WorkflowStep" s SET "openNeeds" = s."openNeeds" - 1,
            "liveNeeds" = s."liveNeeds" + p_live::int
        FROM after WHERE s."id" = after."id" AND s."openNeeds" > 0
        RETURNING s."id", s."position", s."openNeeds", s."state"
    )
    SELECT coalesce(array_agg(c."id" ORDER BY c."position"), '{}') INTO v_opened FROM counted c
    WHERE c."openNeeds" = 0 AND c."state" = 'pending';
    RETURN v_opened;
END $$;
CALL ailydian_build_rights('ailydian_count_need');


-- 90_workflow/functions/count_runs.sql

-- Count runs in each state that has not ended, and runs that failed in the last hour; at most
-- `p_limit` of either are counted.
CREATE OR REPLACE FUNCTION ailydian_count_runs(p_limit INTEGER)
RETURNS TABLE ("state" TEXT, "runs" BIGINT) LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET jit = off SET enable_seqscan = off AS $$
    SELECT r."state", count(*) FROM (
        SELECT x."state" FROM public."WorkflowRun" x
        WHERE x."status" IN ('PENDING', 'RUNNING') AND x."state" IS NOT NULL LIMIT p_limit
    ) r GROUP BY r."state"
    UNION ALL
    SELECT 'failed', count(*) FROM (
        SELECT FROM public."WorkflowRun" x
        WHERE x."state" = 'failed'
          AND x."completedAt" >= (now() - interval '1 hour') AT TIME ZONE 'UTC' LIMIT p_limit
    ) f
$$;
CALL ailydian_build_rights('ailydian_count_runs', 'ailydian_relay');


-- 90_workflow/functions/delegate_step.sql

-- A step becomes a job of another kind, which finishes it when it ends.
CREATE OR REPLACE FUNCTION ailydian_delegate_step(
    p_job_id TEXT, p_fence BIGINT, p_step_id TEXT, p_input JSONB, p_job TEXT, p_queue TEXT,
    p_schema_version INTEGER, p_attempts_max INTEGER, p_limit_key TEXT, p_cost INTEGER, p_lease_s DOUBLE PRECISION
) RETURNS JSONB LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_new_id CONSTANT TEXT := public.ailydian_new_id();
    v_walker RECORD;
BEGIN
    IF public.ailydian_own_step(p_job_id, p_fence, p_step_id) = 'held' THEN
        SELECT j."tenantId", j."timeLimitS", j."backoffS", j."traceparent" INTO v_walker
        FROM public."Job" j WHERE j."id" = p_job_id;
        UPDATE public."WorkflowStep" s SET "jobId" = v_new_id, "input" = p_input WHERE s."id" = p_step_id;
        INSERT INTO public."Job" ("id", "tenantId", "job", "queue", "payload", "schemaVersion",
            "stepId", "attemptsMax", "limitKey", "cost", "timeLimitS", "backoffS", "parentId",
            "producer", "traceparent")
        VALUES (v_new_id, v_walker."tenantId", p_job, p_queue, p_input, p_schema_version, p_step_id, p_attempts_max,
                p_limit_key, p_cost, v_walker."timeLimitS", v_walker."backoffS", p_job_id, 'workflow',
                v_walker."traceparent");
    END IF;
    RETURN public.ailydian_walk_on(p_job_id, '{}', NULL, NULL, 0);
END $$;
CALL ailydian_build_rights('ailydian_delegate_step', 'ailydian_app');


-- 90_workflow/functions/end_child_run.sql

-- Cancel the run that a waiting step has started, and no other one: the run names this step, and both
-- are of one tenant. Locks: what ending a run locks.
CREATE OR REPLACE FUNCTION ailydian_end_child_run(p_run_id TEXT, p_step_id TEXT, p_reason TEXT)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM public."WorkflowRun" r JOIN public."WorkflowStep" s
                 ON s."id" = r."parentStepId" AND s."tenantId" = r."tenantId"
               WHERE r."id" = p_run_id AND r."parentStepId" = p_step_id) THEN
        PERFORM public.ailydian_end_run(p_run_id, 'cancelled', p_reason, NULL, NULL);
    END IF;
END $$;
CALL ailydian_build_rights('ailydian_end_child_run');


-- 90_workflow/functions/end_run.sql

-- End a run, once: stop its unfinished steps and settle the step that waits for it.
CREATE OR REPLACE FUNCTION ailydian_end_run(
    p_run_id TEXT, p_state TEXT, p_error TEXT, p_output JSONB, p_fingerprint TEXT
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_run RECORD;
BEGIN
    UPDATE public."WorkflowRun" r SET "state" = p_state,
        "status" = upper(p_state)::public."WorkflowStatus", "error" = p_error, "output" = p_output,
        "fingerprint" = p_fingerprint, "completedAt" = clock_timestamp() AT TIME ZONE 'UTC'
    WHERE r."id" = p_run_id AND r."state" IN ('queued', 'running', 'paused', 'compensating')
    RETURNING r."tenantId", r."concurrencyKey", r."parentStepId" INTO v_run;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- Callers may act on the outcome at once: this commit waits for the disk.
    PERFORM set_config('synchronous_commit', 'on', true);
    IF p_state <> 'completed' THEN
        PERFORM public.ailydian_stop_steps(p_run_id, p_error);
    ELSE
        DELETE FROM public."WorkflowWait" w WHERE w."id" = p_run_id;
    END IF;
    IF v_run."concurrencyKey" IS NOT NULL THEN
        PERFORM public.ailydian_leave_slot(v_run."tenantId", v_run."concurrencyKey", p_run_id);
    END IF;
    INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what")
    VALUES (v_run."tenantId", p_run_id, 'run_step', 'workflow', 'RUN_' || upper(p_state));
    IF v_run."parentStepId" IS NOT NULL AND EXISTS (
        SELECT FROM public."WorkflowStep" s
        WHERE s."id" = v_run."parentStepId" AND s."tenantId" = v_run."tenantId") THEN
        DELETE FROM public."WorkflowWait" w WHERE w."id" = v_run."parentStepId";
        PERFORM public.ailydian_step_over(v_run."parentStepId",
            CASE p_state WHEN 'completed' THEN 'completed' ELSE 'failed' END, p_output,
            'its run ' || p_run_id || ' ' || CASE p_state WHEN 'cancelled' THEN 'was cancelled'
                ELSE 'failed: ' || coalesce(p_error, '') END, p_fingerprint);
    END IF;
END $$;
CALL ailydian_build_rights('ailydian_end_run');


-- 90_workflow/functions/enqueue_steps.sql

-- Give steps that are ready a job each. `p_parent_id` is the job that made them ready, if one did.
CREATE OR REPLACE FUNCTION ailydian_enqueue_steps(p_step_ids TEXT[], p_parent_id TEXT) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(p_step_ids) = 0 THEN
        RETURN;
    END IF;
    WITH marked AS (
        UPDATE public."WorkflowStep" s SET "state" = 'ready', "status" = 'PENDING',
            "jobId" = public.ailydian_new_id(), "completedAt" = NULL
        FROM unnest(p_step_ids) AS m("id")
        WHERE s."id" = m."id" AND s."state" IN ('pending', 'ready', 'running', 'waiting')
        RETURNING s."id", s."jobId", s."runId", s."position", s."tenantId"
    )
    INSERT INTO public."Job" ("id", "tenantId", "job", "queue", "payload", "stepId", "attemptsMax",
                              "backoffS", "timeLimitS", "parentId", "producer", "traceparent")
    SELECT m."jobId", m."tenantId", 'run_step', 'workflow',
           jsonb_build_object('run_id', m."runId"), m."id", n."attemptsMax", n."backoffS",
           n."timeoutS", p_parent_id, 'workflow', r."traceparent"
    FROM marked m JOIN public."WorkflowRun" r ON r."id" = m."runId"
    JOIN public."WorkflowNode" n ON n."versionId" = r."versionId" AND n."position" = m."position";
END $$;
CALL ailydian_build_rights('ailydian_enqueue_steps');


-- 90_workflow/functions/enter_slot.sql

-- Take a place behind a concurrency key. Returns whether it is the first.
CREATE OR REPLACE FUNCTION ailydian_enter_slot(
    p_tenant_id TEXT, p_slot_key TEXT, p_holder TEXT, p_run_id TEXT
) RETURNS BOOLEAN LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('slot/' || p_tenant_id || '/' || p_slot_key, 0));
    IF NOT EXISTS (SELECT FROM public."WorkflowSlot" s
                   WHERE s."tenantId" = p_tenant_id AND s."key" = p_slot_key
                     AND s."holder" = p_holder) THEN
        INSERT INTO public."WorkflowSlot" ("tenantId", "key", "holder", "runId")
        VALUES (p_tenant_id, p_slot_key, p_holder, p_run_id);
    END IF;
    RETURN p_holder = (
        SELECT s."holder" FROM public."WorkflowSlot" s
        WHERE s."tenantId" = p_tenant_id AND s."key" = p_slot_key ORDER BY s."seq" LIMIT 1);
END $$;
CALL ailydian_build_rights('ailydian_enter_slot');


-- 90_workflow/functions/expand_step.sql

-- A mapped step becomes its items, all rows in one statement; as many as may begin at once.
CREATE OR REPLACE FUNCTION ailydian_expand_step(
    p_job_id TEXT, p_fence BIGINT, p_step_id TEXT, p_items JSONB, p_parallel INTEGER,
    p_lease_s DOUBLE PRECISION
) RETURNS JSONB LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_count CONSTANT INTEGER := jsonb_array_length(p_items);
    v_step RECORD;
BEGIN
    IF v_count = 0 THEN
        RETURN public.ailydian_finish_step(p_job_id, p_fence, p_step_id, 'completed', '[]', NULL, NULL,
                                           NULL, p_lease_s);
    ELSIF public.ailydian_own_step(p_job_id, p_fence, p_step_id) <> 'held' THEN
        RETURN public.ailydian_walk_on(p_job_id, '{}', NULL, NULL, 0);
    END IF;
    UPDATE public."WorkflowStep" s SET "items" = v_count, "openItems" = v_count,
        "nextItem" = least(p_parallel, v_count), "jobId" = NULL, "progress" = 0
    WHERE s."id" = p_step_id RETURNING s."runId", s."stepName", s."tenantId", s."position" INTO v_step;
    INSERT INTO public."WorkflowStep" ("id", "runId", "stepName", "status", "tenantId", "position",
                                       "itemIndex", "item", "state")
    SELECT p_step_id || '/' || (i."n" - 1), v_step."runId", format('%s[%s]', v_step."stepName", i."n" - 1),
           'PENDING', v_step."tenantId", v_step."position", i."n" - 1, i."value", 'pending'
    FROM jsonb_array_elements(p_items) WITH ORDINALITY AS i("value", "n")
    ON CONFLICT ("id") DO NOTHING;
    RETURN public.ailydian_walk_on(p_job_id, ARRAY(
        SELECT p_step_id || '/' || n FROM generate_series(0, least(p_parallel, v_count) - 1) n),
        v_step."runId", NULL, CASE WHEN 'running' = (
            SELECT r."state" FROM public."WorkflowRun" r WHERE r."id" = v_step."runId")
            THEN p_lease_s ELSE 0 END);
END $$;
CALL ailydian_build_rights('ailydian_expand_step', 'ailydian_app');


-- 90_workflow/functions/fail_step.sql

-- A step has failed and its definition does not go on: the run fails, or begins to undo. A failed
-- item fails its mapped step first.
-- Locks: the mapped step, then the run, then what is left of the run and is not locked by others.
-- Returns the first step that undoes; none where the run has ended, or was over already.
CREATE OR REPLACE FUNCTION ailydian_fail_step(
    p_step_id TEXT, p_run_id TEXT, p_position INTEGER, p_item_index INTEGER, p_on_error TEXT,
    p_error TEXT, p_fingerprint TEXT
) RETURNS TEXT[] LANGUAGE plpgsql AS $$
BEGIN
    IF p_item_index >= 0 THEN
        WITH mapped AS (
            UPDATE public."WorkflowStep" s SET "state" = 'failed', "status" = 'FAILED',
                "error" = format('item %s: %s', p_item_index, p_error), "fingerprint" = p_fingerprint,
                "completedAt" = clock_timestamp() AT TIME ZONE 'UTC'
            WHERE s."id" = p_run_id || '/' || p_position AND s."state" = 'running' RETURNING s.*
        )
        INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what")
        SELECT m."tenantId", m."id", m."stepName", 'workflow', 'STEP_FAILED' FROM mapped m;
    END IF;
    UPDATE public."WorkflowRun" r SET "failedStepId" = p_step_id, "error" = p_error,
        "fingerprint" = p_fingerprint,
        "state" = CASE p_on_error WHEN 'compensate' THEN 'compensating' ELSE r."state" END
    WHERE r."id" = p_run_id AND r."state" IN ('running', 'paused');
    IF NOT FOUND THEN
        RETURN '{}';
    ELSIF p_on_error = 'compensate' THEN
        PERFORM public.ailydian_stop_steps(p_run_id, 'another step failed');
        RETURN public.ailydian_compensate(p_run_id);
    END IF;
    PERFORM public.ailydian_end_run(p_run_id, 'failed', p_error, NULL, p_fingerprint);
    RETURN '{}';
END $$;
CALL ailydian_build_rights('ailydian_fail_step');


-- 90_workflow/functions/finish_step.sql

-- The one round trip of a step: finished, and the next begun. `p_lease_s` 0: the walker stops here.
CREATE OR REPLACE FUNCTION ailydian_finish_step(
    p_job_id TEXT, p_fence BIGINT, p_step_id TEXT, p_verdict TEXT, p_output JSONB, p_input JSONB, p_error TEXT,
    p_fingerprint TEXT, p_lease_s DOUBLE PRECISION
) RETURNS JSONB LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_held CONSTANT TEXT := public.ailydian_own_step(p_job_id, p_fence, p_step_id);
    v_left RECORD;
BEGIN
    IF v_held = 'moved' THEN
        RETURN public.ailydian_step_at(p_job_id);
    ELSIF v_held = 'stopped' THEN
        RETURN public.ailydian_walk_on(p_job_id, '{}', NULL, NULL, 0);
    END IF;
    SELECT s."runId", s."position" INTO STRICT v_left FROM public."WorkflowStep" s
    WHERE s."id" = p_step_id;  -- whose tenant ailydian_own_step has compared
    RETURN public.ailydian_walk_on(p_job_id,
        public.ailydian_settle_step(p_step_id, p_verdict, p_output, p_input, p_error, p_fingerprint),
        v_left."runId", v_left."position", p_lease_s);
END $$;
CALL ailydian_build_rights('ailydian_finish_step', 'ailydian_app');


-- 90_workflow/functions/fire_waits.sql

-- End due waits: timers complete their steps, all other waits time out.
CREATE OR REPLACE FUNCTION ailydian_fire_waits(p_limit INTEGER) RETURNS INTEGER
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
DECLARE
    v_due RECORD;
    v_opened TEXT[] := '{}';
    v_fired INTEGER := 0;
BEGIN
    FOR v_due IN
        WITH fired AS (
            DELETE FROM public."WorkflowWait" w USING (
                SELECT x."id" FROM public."WorkflowWait" x WHERE x."dueAt" <= now()
                ORDER BY x."dueAt" LIMIT p_limit FOR UPDATE SKIP LOCKED) x
            WHERE w."id" = x."id" RETURNING w."id", w."runId", w."what", w."name", w."dueAt"
        )
        SELECT f."id", f."runId", f."what", f."name" FROM fired f ORDER BY f."dueAt", f."id"
    LOOP
        v_fired := v_fired + 1;
        IF v_due."what" = 'timer' THEN
            v_opened := v_opened || public.ailydian_settle_step(v_due."id", 'completed', NULL, NULL, NULL, NULL);
        ELSIF v_due."what" = 'deadline' THEN
            PERFORM public.ailydian_end_run(v_due."runId", 'failed',
                'timed out: the run took longer than its timeout', NULL, 'timed_out');
        ELSE
            -- The step first: the end of the run it waited for finds it over.
            v_opened := v_opened || public.ailydian_settle_step(v_due."id", 'failed', NULL, NULL,
                format('timed out: waited too long for the %s %s', v_due."what", v_due."name"),
                'timed_out');
            IF v_due."what" = 'run' THEN
                PERFORM public.ailydian_end_child_run(v_due."name", v_due."id",
                    'the step that waited for it timed out');
            END IF;
        END IF;
    END LOOP;
    PERFORM public.ailydian_enqueue_steps(v_opened, 'timer');
    RETURN v_fired;
END $$;
CALL ailydian_build_rights('ailydian_fire_waits', 'ailydian_relay');


-- 90_workflow/functions/fork_run.sql

-- A new run from a step on: what does not depend on that step is taken over from the old run, which
-- stays as it is. It stands in no line of a concurrency key.
-- Locks: the old run; nobody else knows the new one yet.
-- Returns the id of the new run.
CREATE OR REPLACE FUNCTION ailydian_fork_run(p_run_id TEXT, p_step_name TEXT, p_sender TEXT)
RETURNS TEXT LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
DECLARE
    v_fork_id CONSTANT TEXT := public.ailydian_new_id();
    v_run RECORD;
    v_begin_at INTEGER;
BEGIN
    PERFORM public.ailydian_lock_run(p_run_id, true, 'completed', 'failed', 'cancelled');
    SELECT * INTO v_run FROM public."WorkflowRun" r WHERE r."id" = p_run_id;
    SELECT n."position" INTO v_begin_at FROM public."WorkflowNode" n
    WHERE n."versionId" = v_run."versionId" AND n."name" = p_step_name AND n."compensates" IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run_refused: the run % has no step %', p_run_id, public.ailydian_visible(p_step_name)
            USING ERRCODE = 'AL008';
    END IF;
    INSERT INTO public."WorkflowRun" ("id", "workflowId", "status", "input", "tenantId", "versionId",
        "state", "forkOf", "endsOpen", "producer", "traceparent")
    VALUES (v_fork_id, v_run."workflowId", 'RUNNING', v_run."input", v_run."tenantId",
            v_run."versionId", 'running', p_run_id, 0, p_sender, v_run."traceparent");
    PERFORM public.ailydian_fork_steps(p_run_id, v_fork_id, v_run."versionId", v_run."tenantId",
                                       v_begin_at);
    INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "dueAt")
    SELECT v_fork_id, v_run."tenantId", v_fork_id, 'deadline',
           now() + v."timeoutS" * interval '1 second'
    FROM public."WorkflowVersion" v WHERE v."id" = v_run."versionId" AND v."timeoutS" > 0;
    PERFORM public.ailydian_recount_run(v_fork_id);
    RETURN v_fork_id;
END $$;
CALL ailydian_build_rights('ailydian_fork_run', 'ailydian_app');


-- 90_workflow/functions/fork_steps.sql

-- The steps of a new run that begins another again at `p_begin_at`: what is over there and does not
-- depend on that position is copied with its output, the rest is pending.
-- Locks: nothing but the new rows; the caller holds the old run.
-- Returns nothing.
CREATE OR REPLACE FUNCTION ailydian_fork_steps(
    p_run_id TEXT, p_fork_id TEXT, p_version_id TEXT, p_tenant_id TEXT, p_begin_at INTEGER
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WITH RECURSIVE after("position") AS (
        VALUES (p_begin_at)
        UNION
        SELECT d."position" FROM after a JOIN public."WorkflowNode" n
          ON n."versionId" = p_version_id AND n."position" = a."position"
        CROSS JOIN unnest(n."dependents") AS d("position")
    ), kept AS MATERIALIZED (
        SELECT s."position" FROM public."WorkflowStep" s JOIN public."WorkflowNode" n
          ON n."versionId" = p_version_id AND n."position" = s."position"
        WHERE s."runId" = p_run_id AND s."itemIndex" = -1
          AND (s."state" IN ('completed', 'skipped')
               OR (s."state" = 'failed' AND n."onError" = 'continue'))
          AND s."position" NOT IN (SELECT a."position" FROM after a)
    )
    INSERT INTO public."WorkflowStep" ("id", "runId", "stepName", "status", "input", "output", "error",
        "startedAt", "completedAt", "tenantId", "position", "itemIndex", "item", "state", "items",
        "openItems", "nextItem", "attempt", "fingerprint", "progress")
    SELECT p_fork_id || substr(s."id", length(p_run_id) + 1), p_fork_id, s."stepName", s."status",
           s."input", s."output", s."error", s."startedAt", s."completedAt", s."tenantId",
           s."position", s."itemIndex", s."item", s."state", s."items", s."openItems", s."nextItem",
           s."attempt", s."fingerprint", s."progress"
    FROM public."WorkflowStep" s
    WHERE s."runId" = p_run_id AND s."position" IN (SELECT k."position" FROM kept k)
    UNION ALL
    SELECT p_fork_id || '/' || n."position", p_fork_id, n."name", 'PENDING', NULL, NULL, NULL,
           now() AT TIME ZONE 'UTC', NULL, p_tenant_id, n."position", -1, NULL, 'pending', NULL,
           NULL, NULL, 0, NULL, NULL
    FROM public."WorkflowNode" n
    WHERE n."versionId" = p_version_id AND n."compensates" IS NULL
      AND n."position" NOT IN (SELECT k."position" FROM kept k);
    INSERT INTO public."WorkflowOutput" ("stepId", "tenantId", "output")
    SELECT p_fork_id || substr(o."stepId", length(p_run_id) + 1), o."tenantId", o."output"
    FROM public."WorkflowStep" s JOIN public."WorkflowOutput" o ON o."stepId" = s."id"
    WHERE s."runId" = p_run_id AND EXISTS (
        SELECT FROM public."WorkflowStep" f
        WHERE f."id" = p_fork_id || substr(s."id", length(p_run_id) + 1) AND f."state" <> 'pending');
END $$;
CALL ailydian_build_rights('ailydian_fork_steps');


-- 90_workflow/functions/hold_step.sql

-- Check whether a walker still owns its step, in its own transaction: 'held', 'stopped' or 'moved'.
-- Locks: the job, then the step.
CREATE OR REPLACE FUNCTION ailydian_hold_step(p_job_id TEXT, p_fence BIGINT, p_step_id TEXT)
RETURNS TEXT LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
BEGIN
    RETURN public.ailydian_own_step(p_job_id, p_fence, p_step_id);
END $$;
CALL ailydian_build_rights('ailydian_hold_step', 'ailydian_app');


-- 90_workflow/functions/item_outputs.sql

-- The outputs of the items of a mapped step, in order: the output of that step.
-- Locks nothing. Returns a list, null for an item without an output.
CREATE OR REPLACE FUNCTION ailydian_item_outputs(p_run_id TEXT, p_position INTEGER) RETURNS JSONB
LANGUAGE plpgsql AS $$
BEGIN
    RETURN (
        SELECT jsonb_agg(coalesce(o."output", s."output", 'null') ORDER BY s."itemIndex")
        FROM public."WorkflowStep" s LEFT JOIN public."WorkflowOutput" o ON o."stepId" = s."id"
        WHERE s."runId" = p_run_id AND s."position" = p_position AND s."itemIndex" >= 0);
END $$;
CALL ailydian_build_rights('ailydian_item_outputs');


-- 90_workflow/functions/launch_run.sql

-- Begin a run's first steps, and its clock.
CREATE OR REPLACE FUNCTION ailydian_launch_run(p_run_id TEXT) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_run RECORD;
BEGIN
    SELECT r."versionId", r."tenantId", v."timeoutS", r."parentStepId" INTO STRICT v_run
    FROM public."WorkflowRun" r JOIN public."WorkflowVersion" v ON v."id" = r."versionId"
    WHERE r."id" = p_run_id;
    IF v_run."timeoutS" > 0 THEN
        INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "dueAt")
        VALUES (p_run_id, v_run."tenantId", p_run_id, 'deadline',
                now() + v_run."timeoutS" * interval '1 second') ON CONFLICT DO NOTHING;
    END IF;
    PERFORM public.ailydian_enqueue_steps(ARRAY(
        SELECT p_run_id || '/' || n."position" FROM public."WorkflowNode" n
        WHERE n."versionId" = v_run."versionId" AND n."needs" = 0 AND n."compensates" IS NULL
        ORDER BY n."position"), v_run."parentStepId");
END $$;
CALL ailydian_build_rights('ailydian_launch_run');


-- 90_workflow/functions/leave_slot.sql

-- Leave a concurrency key; the next in line goes.
CREATE OR REPLACE FUNCTION ailydian_leave_slot(p_tenant_id TEXT, p_slot_key TEXT, p_holder TEXT)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_next RECORD;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('slot/' || p_tenant_id || '/' || p_slot_key, 0));
    DELETE FROM public."WorkflowSlot" s
    WHERE s."tenantId" = p_tenant_id AND s."key" = p_slot_key AND s."holder" = p_holder;
    SELECT s."holder", s."runId" INTO v_next FROM public."WorkflowSlot" s
    WHERE s."tenantId" = p_tenant_id AND s."key" = p_slot_key ORDER BY s."seq" LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    ELSIF v_next."holder" = v_next."runId" THEN
        UPDATE public."WorkflowRun" r SET "state" = 'running', "status" = 'RUNNING'
        WHERE r."id" = v_next."runId" AND r."state" = 'queued';
        IF FOUND THEN
            PERFORM public.ailydian_launch_run(v_next."runId");
        END IF;
    ELSE
        DELETE FROM public."WorkflowWait" w WHERE w."id" = v_next."holder" AND w."what" = 'slot';
        IF FOUND THEN
            PERFORM public.ailydian_enqueue_steps(ARRAY[v_next."holder"], v_next."runId");
        END IF;
    END IF;
END $$;
CALL ailydian_build_rights('ailydian_leave_slot');


-- 90_workflow/functions/lock_run.sql

-- Lock a run for an act on it, and check its state; a run of another tenant counts as not found.
-- What goes on to finish a step waits for others' steps as a walker does, so its lock is one that no
-- walker waits for (`whole` false): only a step that begins to wait for a signal, and other acts, do.

CREATE OR REPLACE FUNCTION ailydian_lock_run(p_run_id TEXT, p_whole BOOLEAN, VARIADIC p_states TEXT[])
RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
    v_state TEXT;
BEGIN
    IF p_whole THEN
        PERFORM FROM public."WorkflowRun" r WHERE r."id" = p_run_id
            AND r."tenantId" = current_setting('app.tenant_id') FOR UPDATE;
    ELSE
        PERFORM FROM public."WorkflowRun" r WHERE r."id" = p_run_id
            AND r."tenantId" = current_setting('app.tenant_id') FOR KEY SHARE;
    END IF;
    SELECT r."state" INTO v_state FROM public."WorkflowRun" r
    WHERE r."id" = p_run_id AND r."tenantId" = current_setting('app.tenant_id')
      AND r."state" IS NOT NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run_not_found: no run with the id %', public.ailydian_visible(p_run_id)
            USING ERRCODE = 'AL007';
    ELSIF v_state <> ALL(p_states) THEN
        RAISE EXCEPTION 'run_refused: the run % is %', p_run_id, v_state USING ERRCODE = 'AL008';
    END IF;
    RETURN v_state;
END $$;
CALL ailydian_build_rights('ailydian_lock_run');


-- 90_workflow/functions/lost_steps.sql

-- Count the lost steps of a run, in one snapshot: each live step has a job that is at it, or a
-- wait for something that will come; a mapped step has such an item; a run that waits for its key
-- has another before it. 0 for a sound run, and for one that has ended.
CREATE OR REPLACE FUNCTION ailydian_lost_steps(p_run_id TEXT) RETURNS INTEGER
LANGUAGE plpgsql AS $$
BEGIN
    RETURN (
        WITH run AS (
            SELECT r."id", r."tenantId", r."state", r."concurrencyKey", r."parentStepId", v."timeoutS"
            FROM public."WorkflowRun" r JOIN public."WorkflowVersion" v ON v."id" = r."versionId"
            WHERE r."id" = p_run_id
        ), live AS MATERIALIZED (
            SELECT s."id", s."position", s."itemIndex", s."state", s."openNeeds", s."items", s."jobId"
            FROM public."WorkflowStep" s WHERE s."runId" = p_run_id
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
                            WHERE g."runId" = p_run_id AND g."holder" = l."id")
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
                ORDER BY g."seq" LIMIT 1), p_run_id) = p_run_id OR NOT EXISTS (
                SELECT FROM public."WorkflowSlot" g
                WHERE g."runId" = p_run_id AND g."holder" = p_run_id))::int
            WHEN run."state" NOT IN ('running', 'paused', 'compensating') THEN 0
            ELSE (SELECT count(*) FILTER (WHERE j."sound" IS NOT TRUE)
                         + (count(*) FILTER (WHERE j."state" <> 'pending') = 0)::int FROM judged j)
                + (run."timeoutS" > 0 AND NOT EXISTS (
                    SELECT FROM public."WorkflowWait" w WHERE w."id" = p_run_id))::int
                + (run."parentStepId" IS NOT NULL AND NOT EXISTS (
                    SELECT FROM public."WorkflowWait" w
                    WHERE w."id" = run."parentStepId" AND w."name" = p_run_id))::int
            END
        FROM run);
END $$;
CALL ailydian_build_rights('ailydian_lost_steps');


-- 90_workflow/functions/mend_run.sql

-- Repair a run: add a missing deadline, end waits that are over, give its steps jobs.
-- Locks: the run, then its live steps; a run or a step that is locked by others is being finished,
-- and is looked at again later.
-- Returns whether the run is sound now; NULL where nothing was wrong or it could not be checked.
CREATE OR REPLACE FUNCTION ailydian_mend_run(p_run_id TEXT) RETURNS BOOLEAN
LANGUAGE plpgsql AS $$
DECLARE
    v_run RECORD;
    v_held INTEGER;
BEGIN
    SELECT r."tenantId", r."state", r."concurrencyKey", r."parentStepId", v."timeoutS",
           r."startedAt" AT TIME ZONE 'UTC' + v."timeoutS" * interval '1 second' AS "until" INTO v_run
    FROM public."WorkflowRun" r JOIN public."WorkflowVersion" v ON v."id" = r."versionId"
    WHERE r."id" = p_run_id AND r."status" IN ('PENDING', 'RUNNING')
    FOR NO KEY UPDATE OF r SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT count(*) INTO v_held FROM (
        SELECT FROM public."WorkflowStep" s
        WHERE s."runId" = p_run_id AND s."state" IN ('pending', 'ready', 'running', 'waiting')
        FOR UPDATE SKIP LOCKED) x;
    IF public.ailydian_lost_steps(p_run_id) = 0 OR v_held <> (
        SELECT count(*) FROM public."WorkflowStep" s
        WHERE s."runId" = p_run_id AND s."state" IN ('pending', 'ready', 'running', 'waiting')) THEN
        RETURN NULL;
    ELSIF v_run."parentStepId" IS NOT NULL AND NOT EXISTS (
        SELECT FROM public."WorkflowWait" w
        WHERE w."id" = v_run."parentStepId" AND w."name" = p_run_id) THEN
        PERFORM public.ailydian_end_run(p_run_id, 'cancelled',
            'the step that started it went on without it', NULL, NULL);
        RETURN true;
    ELSIF v_run."state" = 'queued' THEN
        IF public.ailydian_enter_slot(v_run."tenantId", v_run."concurrencyKey", p_run_id, p_run_id) THEN
            UPDATE public."WorkflowRun" r SET "state" = 'running', "status" = 'RUNNING'
            WHERE r."id" = p_run_id;
            PERFORM public.ailydian_launch_run(p_run_id);
        END IF;
        RETURN public.ailydian_lost_steps(p_run_id) = 0;
    ELSIF v_run."timeoutS" > 0 THEN
        INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "dueAt")
        VALUES (p_run_id, v_run."tenantId", p_run_id, 'deadline', v_run."until") ON CONFLICT DO NOTHING;
    END IF;
    PERFORM public.ailydian_mend_waits(p_run_id);
    PERFORM public.ailydian_mend_steps(p_run_id, v_run."state" = 'paused');
    IF v_run."state" <> 'compensating' THEN
        PERFORM public.ailydian_recount_run(p_run_id);
    ELSE
        PERFORM public.ailydian_mend_undoing(p_run_id);
    END IF;
    RETURN public.ailydian_lost_steps(p_run_id) = 0;
END $$;
CALL ailydian_build_rights('ailydian_mend_run');


-- 90_workflow/functions/mend_runs.sql

-- The next of the runs that have not ended, after an id: those that had to be mended, whether that
-- helped, and, in a last row, how far it has come.
CREATE OR REPLACE FUNCTION ailydian_mend_runs(p_after_id TEXT, p_limit INTEGER)
RETURNS TABLE ("id" TEXT, "tenantId" TEXT, "lost" INTEGER, "mended" BOOLEAN, "last" TEXT)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET enable_sort = off AS $$
#variable_conflict use_column
DECLARE
    v_run RECORD;
BEGIN
    FOR v_run IN
        SELECT r."id", r."tenantId", r."state",
               r."startedAt" < now() AT TIME ZONE 'UTC' - interval '30 seconds' AS "old"
        FROM public."WorkflowRun" r
        WHERE r."status" IN ('PENDING', 'RUNNING') AND r."id" > p_after_id ORDER BY r."id" LIMIT p_limit
    LOOP
        last := v_run."id";
        CONTINUE WHEN v_run."state" IS NULL OR NOT v_run."old";
        lost := public.ailydian_lost_steps(v_run."id");
        CONTINUE WHEN coalesce(lost, 0) = 0;
        mended := public.ailydian_mend_run(v_run."id");
        CONTINUE WHEN mended IS NULL;
        id := v_run."id";
        "tenantId" := v_run."tenantId";
        RETURN NEXT;
    END LOOP;
    IF last IS NOT NULL THEN
        id := NULL;
        RETURN NEXT;
    END IF;
END $$;
CALL ailydian_build_rights('ailydian_mend_runs', 'ailydian_relay');


-- 90_workflow/functions/mend_steps.sql

-- Steps of a run that nothing carries, a job or a wait, are pending again. While the run is paused
-- (`p_paused`), those that are ready without a job wait for it to be resumed.
-- Locks: those steps; the caller holds the run and them.
-- Returns nothing.
CREATE OR REPLACE FUNCTION ailydian_mend_steps(p_run_id TEXT, p_paused BOOLEAN) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE public."WorkflowStep" s SET "state" = 'pending', "status" = 'PENDING', "jobId" = NULL
    WHERE s."runId" = p_run_id AND CASE s."state"
        WHEN 'waiting' THEN NOT EXISTS (SELECT FROM public."WorkflowWait" w WHERE w."id" = s."id")
        WHEN 'ready' THEN NOT p_paused OR s."jobId" IS NOT NULL
        ELSE s."state" = 'running' AND (s."items" IS NULL OR s."itemIndex" >= 0) END
      AND (s."state" = 'waiting' OR NOT EXISTS (
          SELECT FROM public."Job" j WHERE j."id" = s."jobId" AND j."stepId" = s."id"
            AND j."state" IN ('PENDING', 'RUNNING')));
END $$;
CALL ailydian_build_rights('ailydian_mend_steps');


-- 90_workflow/functions/mend_undoing.sql

-- A run that undoes goes on: its pending steps get jobs, and where none is under way the next step
-- that undoes begins, or the run ends.
-- Locks: the caller holds the run and its steps; then what ending the run locks.
-- Returns nothing.
CREATE OR REPLACE FUNCTION ailydian_mend_undoing(p_run_id TEXT) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.ailydian_enqueue_steps(ARRAY(
        SELECT s."id" FROM public."WorkflowStep" s
        WHERE s."runId" = p_run_id AND s."state" = 'pending' AND s."itemIndex" = -1), p_run_id);
    IF NOT EXISTS (SELECT FROM public."WorkflowStep" s
                   WHERE s."runId" = p_run_id AND s."state" IN ('ready', 'running', 'waiting')) THEN
        PERFORM public.ailydian_enqueue_steps(public.ailydian_compensate(p_run_id), p_run_id);
    END IF;
END $$;
CALL ailydian_build_rights('ailydian_mend_undoing');


-- 90_workflow/functions/mend_waits.sql

-- End the waits of a run whose cause is over: for runs that ended unheard, for turns behind a
-- concurrency key that came unnoticed. The step of a run that ended is settled with its outcome; the
-- others are left waiting without a wait, for `ailydian_mend_steps`.
-- Locks: the caller holds the run and its steps; then the waits, and what settling a step locks.
-- Returns nothing.
CREATE OR REPLACE FUNCTION ailydian_mend_waits(p_run_id TEXT) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_wait RECORD;
BEGIN
    FOR v_wait IN
        DELETE FROM public."WorkflowWait" w
        WHERE w."runId" = p_run_id AND w."what" IN ('run', 'slot') AND CASE w."what"
            WHEN 'run' THEN NOT EXISTS (
                SELECT FROM public."WorkflowRun" c WHERE c."id" = w."name"
                  AND c."state" IN ('queued', 'running', 'paused', 'compensating'))
            ELSE w."id" IS NOT DISTINCT FROM coalesce((
                SELECT g."holder" FROM public."WorkflowSlot" g
                WHERE g."tenantId" = w."tenantId" AND g."key" = w."name"
                ORDER BY g."seq" LIMIT 1), w."id") OR NOT EXISTS (
                SELECT FROM public."WorkflowSlot" g
                WHERE g."runId" = p_run_id AND g."holder" = w."id") END
        RETURNING w."id", w."what", w."name"
    LOOP
        IF v_wait."what" = 'run' THEN
            PERFORM public.ailydian_step_over(v_wait."id",
                CASE c."state" WHEN 'completed' THEN 'completed' ELSE 'failed' END, c."output",
                concat('its run ', c."id", ' ', c."state", ': ' || c."error"), c."fingerprint")
            FROM public."WorkflowRun" c
            WHERE c."id" = v_wait."name" AND c."parentStepId" = v_wait."id";
        END IF;
    END LOOP;
END $$;
CALL ailydian_build_rights('ailydian_mend_waits');


-- 90_workflow/functions/note_stuck_run.sql

-- Incidents of stuck runs, and how many runs there are: the relay's role has no sight of the rows.
CREATE OR REPLACE FUNCTION ailydian_note_stuck_run(p_run_id TEXT, p_tenant_id TEXT) RETURNS BOOLEAN
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO public."Incident" ("id", "title", "description", "severity", "status", "tenantId")
    VALUES ('stuck-run:' || p_run_id, 'A workflow run is stuck: ' || p_run_id,
            'Nothing carries it and nothing is left to begin. Look at it with `ailydian workflow '
            'show`, then retry it from a step or cancel it.', 'HIGH', 'OPEN', p_tenant_id)
    ON CONFLICT ("id") DO NOTHING;
    RETURN FOUND;
END $$;
CALL ailydian_build_rights('ailydian_note_stuck_run', 'ailydian_relay');


-- 90_workflow/functions/own_step.sql

-- Check that this attempt still owns its step, first in every call of a walker. A call that is
-- repeated, because its answer was lost, finds its step moved on by itself.
CREATE OR REPLACE FUNCTION ailydian_own_step(p_job_id TEXT, p_fence BIGINT, p_step_id TEXT)
RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
    v_job RECORD;
BEGIN
    SELECT j."stepId", j."fence", j."state" INTO v_job FROM public."Job" j
    WHERE j."id" = p_job_id AND j."tenantId" = current_setting('app.tenant_id') FOR UPDATE;
    IF FOUND AND v_job."fence" = p_fence AND v_job."state" = 'RUNNING' AND v_job."stepId" = p_step_id THEN
        UPDATE public."WorkflowStep" s SET "fence" = p_fence
        WHERE s."id" = p_step_id AND s."jobId" = p_job_id AND s."state" = 'running';
        RETURN CASE WHEN FOUND THEN 'held' ELSE 'stopped' END;
    ELSIF v_job."fence" = p_fence + 1 AND v_job."state" = 'RUNNING' AND EXISTS (
        SELECT FROM public."WorkflowStep" s WHERE s."id" = p_step_id AND s."jobId" = p_job_id
          AND s."fence" = p_fence AND s."state" <> 'running') THEN
        RETURN 'moved';
    END IF;
    RAISE EXCEPTION 'lease_lost: this attempt no longer owns the job %', p_job_id USING ERRCODE = 'AL001';
END $$;
CALL ailydian_build_rights('ailydian_own_step');


-- 90_workflow/functions/park_steps.sql

-- Steps that may begin wait, without a job, for their paused run to be resumed. The run is locked and
-- checked again: a resume sees the parked steps, or the steps begin at once.
-- Locks: the run (FOR SHARE), then the steps, which nobody else has.
-- Returns the steps that may begin: none while the run is paused.
CREATE OR REPLACE FUNCTION ailydian_park_steps(p_run_id TEXT, p_opened TEXT[]) RETURNS TEXT[]
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM public."WorkflowRun" r WHERE r."id" = p_run_id FOR SHARE;
    IF 'paused' <> (SELECT r."state" FROM public."WorkflowRun" r WHERE r."id" = p_run_id) THEN
        RETURN p_opened;
    END IF;
    UPDATE public."WorkflowStep" s SET "state" = 'ready', "jobId" = NULL WHERE s."id" = ANY(p_opened);
    RETURN '{}';
END $$;
CALL ailydian_build_rights('ailydian_park_steps');


-- 90_workflow/functions/pause_run.sql

-- Pause a run: steps that run go on, those they let begin wait. Locks: the run.
CREATE OR REPLACE FUNCTION ailydian_pause_run(p_run_id TEXT) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM public.ailydian_lock_run(p_run_id, true, 'running');
    UPDATE public."WorkflowRun" r SET "state" = 'paused' WHERE r."id" = p_run_id;
END $$;
CALL ailydian_build_rights('ailydian_pause_run', 'ailydian_app');


-- 90_workflow/functions/queue_run.sql

-- A new run is not the first of its concurrency key: it is rejected, waits for its turn, or cancels
-- the others and begins, as `p_on_conflict` says.
-- Locks: the run; then, newest first, what ending the others locks. The caller holds the key.
-- Returns the state of the run.
CREATE OR REPLACE FUNCTION ailydian_queue_run(
    p_run_id TEXT, p_tenant_id TEXT, p_slot_key TEXT, p_on_conflict TEXT
) RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
    v_earlier RECORD;
BEGIN
    IF p_on_conflict = 'reject' THEN
        RAISE EXCEPTION 'run_rejected: another run holds the concurrency key %', public.ailydian_visible(p_slot_key)
            USING ERRCODE = 'AL006';
    END IF;
    UPDATE public."WorkflowRun" r SET "state" = 'queued', "status" = 'PENDING'
    WHERE r."id" = p_run_id;
    IF p_on_conflict IS DISTINCT FROM 'cancel_previous' THEN
        RETURN 'queued';
    END IF;
    FOR v_earlier IN
        SELECT s."runId" FROM public."WorkflowSlot" s
        WHERE s."tenantId" = p_tenant_id AND s."key" = p_slot_key AND s."runId" <> p_run_id
        ORDER BY s."seq" DESC
    LOOP
        PERFORM public.ailydian_end_run(v_earlier."runId", 'cancelled',
            'a newer run with its concurrency key took its place', NULL, NULL);
    END LOOP;
    RETURN (SELECT r."state" FROM public."WorkflowRun" r WHERE r."id" = p_run_id);
END $$;
CALL ailydian_build_rights('ailydian_queue_run');


-- 90_workflow/functions/queue_step.sql

-- A step waits for its turn behind a concurrency key. Returns whether it may go on now.
CREATE OR REPLACE FUNCTION ailydian_queue_step(
    p_job_id TEXT, p_fence BIGINT, p_step_id TEXT, p_slot_key TEXT
) RETURNS BOOLEAN LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_run_id TEXT;
    v_tenant_id CONSTANT TEXT := current_setting('app.tenant_id');
BEGIN
    IF public.ailydian_own_step(p_job_id, p_fence, p_step_id) = 'held' THEN
        SELECT s."runId" INTO STRICT v_run_id FROM public."WorkflowStep" s
        WHERE s."id" = p_step_id AND s."tenantId" = v_tenant_id;
        IF public.ailydian_enter_slot(v_tenant_id, p_slot_key, p_step_id, v_run_id) THEN
            RETURN true;
        END IF;
        UPDATE public."WorkflowStep" s SET "state" = 'waiting', "jobId" = NULL WHERE s."id" = p_step_id;
        INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "name")
        VALUES (p_step_id, v_tenant_id, v_run_id, 'slot', p_slot_key);
    END IF;
    PERFORM public.ailydian_walk_on(p_job_id, '{}', NULL, NULL, 0);
    RETURN false;
END $$;
CALL ailydian_build_rights('ailydian_queue_step', 'ailydian_app');


-- 90_workflow/functions/recount_items.sql

-- Count again the items of each mapped step of a run that has its items: it goes on with those that
-- are left. Items begin in their order, so all but a few of those that have not begun lie behind
-- those that have.
-- Locks: the mapped steps, one after another.
-- Returns nothing.
CREATE OR REPLACE FUNCTION ailydian_recount_items(p_run_id TEXT) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_mapped RECORD;
BEGIN
    FOR v_mapped IN
        SELECT s."id", s."items", s."nextItem",
               coalesce((n."spec" ->> 'max_parallel')::int, 32) AS "parallel"
        FROM public."WorkflowStep" s JOIN public."WorkflowRun" r ON r."id" = s."runId"
        JOIN public."WorkflowNode" n
          ON n."versionId" = r."versionId" AND n."position" = s."position"
        WHERE s."runId" = p_run_id AND s."itemIndex" = -1 AND s."items" IS NOT NULL
          AND (s."state" = 'running' OR (s."state" = 'pending' AND s."openNeeds" = 0))
    LOOP
        WITH counted AS (
            SELECT count(*) FILTER (WHERE i."state" IN ('pending', 'ready', 'running', 'waiting'))
                       AS "open",
                   greatest(max(i."itemIndex") FILTER (WHERE i."state" <> 'pending') + 1,
                            least(v_mapped."nextItem", v_mapped."items"), 0) AS "begun"
            FROM generate_series(0, v_mapped."items" - 1) g
            JOIN public."WorkflowStep" i ON i."id" = v_mapped."id" || '/' || g
        ), owed AS (
            SELECT c."open", c."begun", (
                SELECT count(*) FROM generate_series(0, c."begun" - 1) g
                JOIN public."WorkflowStep" i ON i."id" = v_mapped."id" || '/' || g
                WHERE i."state" IN ('pending', 'ready', 'running', 'waiting')) AS "under_way"
            FROM counted c
        )
        UPDATE public."WorkflowStep" s SET "state" = 'running', "status" = 'RUNNING', "jobId" = NULL,
            "openItems" = o."open",
            "nextItem" = least(s."items", o."begun"
                               + greatest(0, v_mapped."parallel" - o."under_way"))
        FROM owed o WHERE s."id" = v_mapped."id";
    END LOOP;
END $$;
CALL ailydian_build_rights('ailydian_recount_items');


-- 90_workflow/functions/recount_needs.sql

-- Count again, from the states of a run's steps, the needs that each pending step still has, and the
-- ends that the run still has.
-- Locks: the run and the pending steps whose counts were wrong; the caller holds the run.
-- Returns nothing.
CREATE OR REPLACE FUNCTION ailydian_recount_needs(p_run_id TEXT) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    WITH over AS MATERIALIZED (
        SELECT s."position", s."state", n."dependents", s."state" IN ('completed', 'skipped')
               OR (s."state" = 'failed' AND n."onError" = 'continue') AS "done"
        FROM public."WorkflowNode" n JOIN public."WorkflowRun" r ON r."versionId" = n."versionId"
        LEFT JOIN public."WorkflowStep" s ON s."id" = p_run_id || '/' || n."position"
        WHERE r."id" = p_run_id AND n."compensates" IS NULL
    ), ends AS (
        UPDATE public."WorkflowRun" r SET "endsOpen" = (
            SELECT count(*) FROM over o WHERE o."dependents" = '{}' AND o."done" IS NOT TRUE)
        WHERE r."id" = p_run_id
    )
    UPDATE public."WorkflowStep" s SET "openNeeds" = c."open", "liveNeeds" = c."live"
    FROM (SELECT d."position", count(*) FILTER (WHERE o."done" IS NOT TRUE) AS "open",
                 count(*) FILTER (WHERE o."done" AND o."state" <> 'skipped') AS "live"
          FROM over o CROSS JOIN unnest(o."dependents") AS d("position") GROUP BY 1) c
    WHERE s."id" = p_run_id || '/' || c."position" AND s."state" = 'pending'
      AND (s."openNeeds", s."liveNeeds") IS DISTINCT FROM (c."open", c."live");
END $$;
CALL ailydian_build_rights('ailydian_recount_needs');


-- 90_workflow/functions/recount_run.sql

-- Count again what a run's rows tell of one another, give jobs to the steps that may begin (park
-- them while the run is paused), and end what is over and was not ended.
-- Locks: the caller holds the run; then its steps, as each count below says.
-- Returns how many steps may begin.
CREATE OR REPLACE FUNCTION ailydian_recount_run(p_run_id TEXT) RETURNS INTEGER
LANGUAGE plpgsql AS $$
DECLARE
    v_run RECORD;
    v_opened TEXT[];
BEGIN
    PERFORM public.ailydian_recount_needs(p_run_id);
    PERFORM public.ailydian_recount_items(p_run_id);
    v_opened := ARRAY(
        SELECT s."id" FROM public."WorkflowStep" s
        WHERE s."runId" = p_run_id AND s."state" = 'pending' AND s."itemIndex" = -1
          AND s."openNeeds" = 0
        UNION ALL
        SELECT i."id" FROM public."WorkflowStep" i JOIN public."WorkflowStep" s
          ON s."id" = p_run_id || '/' || i."position"
        WHERE i."runId" = p_run_id AND i."state" = 'pending' AND i."itemIndex" >= 0
          AND s."state" = 'running' AND i."itemIndex" < s."nextItem");
    SELECT r."state", r."endsOpen", v."ends" INTO STRICT v_run
    FROM public."WorkflowRun" r JOIN public."WorkflowVersion" v ON v."id" = r."versionId"
    WHERE r."id" = p_run_id;
    IF v_run."state" = 'paused' THEN
        UPDATE public."WorkflowStep" s SET "state" = 'ready', "jobId" = NULL
        WHERE s."id" = ANY(v_opened);
    ELSE
        PERFORM public.ailydian_enqueue_steps(v_opened, p_run_id);
    END IF;
    PERFORM public.ailydian_settle_mapped(p_run_id);
    IF v_run."endsOpen" = 0 AND v_run."state" IN ('running', 'paused') THEN
        PERFORM public.ailydian_end_run(p_run_id, 'completed', NULL, CASE WHEN v_run."ends" = 1 THEN (
            SELECT coalesce(o."output", s."output") FROM public."WorkflowRun" r
            JOIN public."WorkflowNode" n ON n."versionId" = r."versionId"
             AND n."compensates" IS NULL AND n."dependents" = '{}'
            JOIN public."WorkflowStep" s ON s."id" = p_run_id || '/' || n."position"
            LEFT JOIN public."WorkflowOutput" o ON o."stepId" = s."id" WHERE r."id" = p_run_id) END, NULL);
    END IF;
    RETURN cardinality(v_opened);
END $$;
CALL ailydian_build_rights('ailydian_recount_run');


-- 90_workflow/functions/refuse_revival.sql

-- Check whether a run that has ended can be resumed: none of its steps has undone another or is being
-- finished by another transaction.
-- Locks: the failed and cancelled steps, where they are not locked by others.
-- Returns the reason against it; NULL if it can be resumed.
CREATE OR REPLACE FUNCTION ailydian_refuse_revival(p_run_id TEXT) RETURNS TEXT
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM public."WorkflowStep" s JOIN public."WorkflowRun" r ON r."id" = s."runId"
               JOIN public."WorkflowNode" n
                 ON n."versionId" = r."versionId" AND n."position" = s."position"
               WHERE s."runId" = p_run_id AND n."compensates" IS NOT NULL) THEN
        RETURN format('what the run %s did was undone; begin again from a step', p_run_id);
    ELSIF EXISTS (SELECT FROM public."WorkflowStep" s WHERE s."runId" = p_run_id
                  AND s."state" IN ('failed', 'cancelled')
                  AND s."id" NOT IN (SELECT x."id" FROM public."WorkflowStep" x
                                     WHERE x."runId" = p_run_id AND x."state" IN ('failed', 'cancelled')
                                     FOR UPDATE SKIP LOCKED)) THEN
        RETURN format('a step of the run %s is just being finished', p_run_id);
    END IF;
    RETURN NULL;
END $$;
CALL ailydian_build_rights('ailydian_refuse_revival');


-- 90_workflow/functions/reopen_steps.sql

-- Steps of a run that failed or were cancelled may be done again. Their dead letters go, with their
-- jobs, but for the job `p_kept_job_id`: that one does its step itself.
-- Locks: those steps, then their dead letters, then the jobs of these.
-- Returns nothing.
CREATE OR REPLACE FUNCTION ailydian_reopen_steps(p_run_id TEXT, p_kept_job_id TEXT) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    WITH again AS (
        UPDATE public."WorkflowStep" s SET "state" = 'pending', "status" = 'PENDING', "error" = NULL,
            "output" = NULL, "fingerprint" = NULL, "completedAt" = NULL
        FROM public."WorkflowRun" r, public."WorkflowNode" n
        WHERE s."runId" = p_run_id AND r."id" = p_run_id AND n."versionId" = r."versionId"
          AND n."position" = s."position"
          AND (s."state" = 'cancelled' OR (s."state" = 'failed' AND n."onError" <> 'continue'))
        RETURNING s."jobId"
    ), letters AS (
        DELETE FROM public."DeadLetter" d USING again a
        WHERE d."jobId" = a."jobId" AND a."jobId" IS DISTINCT FROM p_kept_job_id
        RETURNING d."jobId"
    ), discarded AS (
        UPDATE public."Job" j SET "state" = 'CANCELLED' FROM letters l
        WHERE j."id" = l."jobId" AND j."state" = 'DEAD'
        RETURNING j."tenantId", j."id", j."job", j."queue", j."batchId"
    )
    INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what", "batchId")
    SELECT d."tenantId", d."id", d."job", d."queue", 'DISCARDED', d."batchId" FROM discarded d;
    UPDATE public."WorkflowStep" s SET "state" = 'ready'
    WHERE s."runId" = p_run_id AND s."jobId" = p_kept_job_id AND s."state" = 'pending';
END $$;
CALL ailydian_build_rights('ailydian_reopen_steps');


-- 90_workflow/functions/resolve_stuck_runs.sql

-- Resolve the incidents of stuck runs that have ended.
CREATE OR REPLACE FUNCTION ailydian_resolve_stuck_runs() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    UPDATE public."Incident" i SET "status" = 'RESOLVED', "resolvedAt" = now() AT TIME ZONE 'UTC'
    FROM public."WorkflowRun" r
    WHERE i."status" = 'OPEN' AND i."id" LIKE 'stuck-run:%'
      AND r."id" = substr(i."id", length('stuck-run:') + 1) AND r."completedAt" IS NOT NULL
$$;
CALL ailydian_build_rights('ailydian_resolve_stuck_runs', 'ailydian_relay');


-- 90_workflow/functions/restore_waits.sql

-- Restore the waits of a resumed run: its new deadline, and the run `p_kept_run_id`, which a step of
-- it has started and which is resumed as well.
-- Locks: that step.
-- Returns nothing.
CREATE OR REPLACE FUNCTION ailydian_restore_waits(
    p_run_id TEXT, p_kept_run_id TEXT, p_tenant_id TEXT, p_timeout_s DOUBLE PRECISION
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF p_kept_run_id IS NOT NULL THEN
        WITH starter AS (
            UPDATE public."WorkflowStep" s SET "state" = 'waiting', "status" = 'RUNNING'
            FROM public."WorkflowRun" c
            WHERE c."id" = p_kept_run_id AND s."id" = c."parentStepId" RETURNING s."id"
        )
        INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "name")
        SELECT s."id", p_tenant_id, p_run_id, 'run', p_kept_run_id FROM starter s;
    END IF;
    IF p_timeout_s > 0 THEN
        INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "dueAt")
        VALUES (p_run_id, p_tenant_id, p_run_id, 'deadline',
                now() + p_timeout_s * interval '1 second') ON CONFLICT DO NOTHING;
    END IF;
END $$;
CALL ailydian_build_rights('ailydian_restore_waits');


-- 90_workflow/functions/resume_run.sql

-- Resume a paused run: what was parked gets jobs. Locks: the run, then those steps.
CREATE OR REPLACE FUNCTION ailydian_resume_run(p_run_id TEXT) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET jit = off SET enable_seqscan = off AS $$
BEGIN
    PERFORM public.ailydian_lock_run(p_run_id, true, 'paused');
    UPDATE public."WorkflowRun" r SET "state" = 'running' WHERE r."id" = p_run_id;
    PERFORM public.ailydian_enqueue_steps(ARRAY(
        SELECT s."id" FROM public."WorkflowStep" s
        WHERE s."runId" = p_run_id AND s."state" = 'ready' AND s."jobId" IS NULL
        ORDER BY s."position", s."itemIndex"), p_run_id);
END $$;
CALL ailydian_build_rights('ailydian_resume_run', 'ailydian_app');


-- 90_workflow/functions/retry_run.sql

-- Resume a failed or cancelled run, or refuse with the reason. Locks: the run, then
-- what reviving it locks.
CREATE OR REPLACE FUNCTION ailydian_retry_run(p_run_id TEXT) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET jit = off SET enable_seqscan = off AS $$
DECLARE
    v_refused TEXT;
BEGIN
    PERFORM public.ailydian_lock_run(p_run_id, true, 'failed', 'cancelled');
    v_refused := public.ailydian_revive_run(p_run_id, NULL, NULL);
    IF v_refused IS NOT NULL THEN
        RAISE EXCEPTION 'run_refused: %', v_refused USING ERRCODE = 'AL008';
    END IF;
END $$;
CALL ailydian_build_rights('ailydian_retry_run', 'ailydian_app');


-- 90_workflow/functions/revive_run.sql

-- A run that failed or was cancelled goes on where it stopped, with a new deadline; the run that
-- waits for it too. `p_kept_job_id` is a dead letter's job that was replayed: it does its step
-- itself. `p_kept_run_id` is a run that goes on: the step that started it waits for it.
-- Locks: the caller holds the run; then the run that waits for it, the concurrency key, the steps.
-- Returns why not, if not; NULL when it goes on.
CREATE OR REPLACE FUNCTION ailydian_revive_run(
    p_run_id TEXT, p_kept_job_id TEXT, p_kept_run_id TEXT
) RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
    v_run RECORD;
    v_parent RECORD;
    v_refused TEXT;
BEGIN
    SELECT r."tenantId", r."concurrencyKey", r."parentStepId", v."timeoutS" INTO STRICT v_run
    FROM public."WorkflowRun" r JOIN public."WorkflowVersion" v ON v."id" = r."versionId"
    WHERE r."id" = p_run_id;
    v_refused := public.ailydian_refuse_revival(p_run_id);
    IF v_refused IS NOT NULL THEN
        RETURN v_refused;
    END IF;
    -- The step that started the run waits for it again, in a run that goes on too.
    IF v_run."parentStepId" IS NOT NULL THEN
        SELECT p."id", s."state" IN ('failed', 'cancelled') AND p."state" IN ('failed', 'cancelled')
            AS "over" INTO v_parent
        FROM public."WorkflowStep" s JOIN public."WorkflowRun" p ON p."id" = s."runId"
        WHERE s."id" = v_run."parentStepId" AND s."tenantId" = v_run."tenantId" FOR UPDATE OF p;
        IF v_parent."over" IS NOT TRUE THEN
            RETURN format('the step %s, which started the run %s, has gone on without it',
                          v_run."parentStepId", p_run_id);
        END IF;
    END IF;
    IF v_run."concurrencyKey" IS NOT NULL AND NOT public.ailydian_enter_slot(
            v_run."tenantId", v_run."concurrencyKey", p_run_id, p_run_id) THEN
        DELETE FROM public."WorkflowSlot" g
        WHERE g."tenantId" = v_run."tenantId" AND g."key" = v_run."concurrencyKey"
          AND g."holder" = p_run_id;
        RETURN format('another run holds the concurrency key of the run %s', p_run_id);
    END IF;
    IF v_run."parentStepId" IS NOT NULL THEN
        v_refused := public.ailydian_revive_run(v_parent."id", NULL, p_run_id);
        IF v_refused IS NOT NULL THEN
            RETURN v_refused;
        END IF;
    END IF;
    UPDATE public."WorkflowRun" r SET "state" = 'running', "status" = 'RUNNING', "error" = NULL,
        "fingerprint" = NULL, "failedStepId" = NULL, "completedAt" = NULL
    WHERE r."id" = p_run_id;
    PERFORM public.ailydian_reopen_steps(p_run_id, p_kept_job_id);
    PERFORM public.ailydian_restore_waits(p_run_id, p_kept_run_id, v_run."tenantId", v_run."timeoutS");
    PERFORM public.ailydian_recount_run(p_run_id);
    RETURN NULL;
END $$;
CALL ailydian_build_rights('ailydian_revive_run');


-- 90_workflow/functions/settle_mapped.sql

-- Settle the mapped steps of a run that have no open item left and are not over; what they let begin
-- gets jobs.
-- Locks: what settling each of them locks.
-- Returns nothing.
CREATE OR REPLACE FUNCTION ailydian_settle_mapped(p_run_id TEXT) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_mapped RECORD;
BEGIN
    FOR v_mapped IN
        SELECT s."id", s."position" FROM public."WorkflowStep" s
        WHERE s."runId" = p_run_id AND s."itemIndex" = -1 AND s."state" = 'running'
          AND s."items" IS NOT NULL AND s."openItems" = 0
          AND s."items" = (SELECT count(*) FROM generate_series(0, s."items" - 1) g
                           JOIN public."WorkflowStep" i ON i."id" = s."id" || '/' || g)
    LOOP
        PERFORM public.ailydian_step_over(v_mapped."id", 'completed',
            public.ailydian_item_outputs(p_run_id, v_mapped."position"), NULL, NULL);
    END LOOP;
END $$;
CALL ailydian_build_rights('ailydian_settle_mapped');


-- 90_workflow/functions/settle_step.sql

-- A step is over: it is closed, then what follows from that: a failure ends or undoes the run, an
-- item counts in its mapped step, an end in its run, a need in each step that depends on it.
-- Locks: the step, then what it counts in (downstream, by id), then the run.
-- Returns the steps that may begin and have no job yet; none if the step was over before.
CREATE OR REPLACE FUNCTION ailydian_settle_step(
    p_step_id TEXT, p_verdict TEXT, p_output JSONB, p_input JSONB, p_error TEXT, p_fingerprint TEXT
) RETURNS TEXT[] LANGUAGE plpgsql AS $$
DECLARE
    v_step RECORD;
    v_node RECORD;
    v_opened TEXT[];
BEGIN
    v_step := public.ailydian_close_step(p_step_id, p_verdict, p_output, p_input, p_error,
                                         p_fingerprint);
    IF v_step."runId" IS NULL THEN
        RETURN '{}';
    END IF;
    SELECT r."state" AS "runState", n."dependents", n."onError", n."compensates",
           n."spec" ? 'concurrency' AS "slot"
    INTO STRICT v_node
    FROM public."WorkflowRun" r JOIN public."WorkflowNode" n
      ON n."versionId" = r."versionId" AND n."position" = v_step."position"
    WHERE r."id" = v_step."runId";
    IF v_node."slot" THEN
        PERFORM public.ailydian_leave_slot(s."tenantId", s."key", p_step_id)
        FROM public."WorkflowSlot" s WHERE s."runId" = v_step."runId" AND s."holder" = p_step_id;
    END IF;
    IF v_node."runState" NOT IN ('running', 'paused', 'compensating') THEN
        RETURN '{}';
    ELSIF v_node."compensates" IS NOT NULL THEN
        RETURN public.ailydian_settle_undo(v_step."runId", p_verdict, p_error);
    ELSIF v_node."runState" = 'compensating' THEN
        RETURN '{}';
    ELSIF p_verdict = 'failed' AND v_node."onError" <> 'continue' THEN
        RETURN public.ailydian_fail_step(p_step_id, v_step."runId", v_step."position",
            v_step."itemIndex", v_node."onError", p_error, p_fingerprint);
    ELSIF v_step."itemIndex" >= 0 THEN
        v_opened := public.ailydian_count_item(v_step."runId", v_step."position");
    ELSIF v_node."dependents" = '{}' THEN
        v_opened := public.ailydian_count_end(v_step."runId", p_output);
    ELSE
        v_opened := public.ailydian_count_need(v_step."runId", v_node."dependents",
                                               p_verdict <> 'skipped');
    END IF;
    IF v_node."runState" = 'paused' AND v_opened <> '{}' THEN
        RETURN public.ailydian_park_steps(v_step."runId", v_opened);
    END IF;
    RETURN v_opened;
END $$;
CALL ailydian_build_rights('ailydian_settle_step');


-- 90_workflow/functions/settle_undo.sql

-- A step that undoes another is over; a failure is added to the run's error, the others go on.
-- Locks: the run; after the last, what ending the run locks.
-- Returns the next step that undoes; none when that was the last, and the run has ended.
CREATE OR REPLACE FUNCTION ailydian_settle_undo(p_run_id TEXT, p_verdict TEXT, p_error TEXT)
RETURNS TEXT[] LANGUAGE plpgsql AS $$
BEGIN
    IF p_verdict = 'failed' THEN
        UPDATE public."WorkflowRun" r SET "error" = concat(r."error", '; not undone: ', p_error)
        WHERE r."id" = p_run_id;
    END IF;
    RETURN public.ailydian_compensate(p_run_id);
END $$;
CALL ailydian_build_rights('ailydian_settle_undo');


-- 90_workflow/functions/signal_run.sql

-- Answers the step that has waited longest; without one, a signal is kept, an approval refused.
CREATE OR REPLACE FUNCTION ailydian_signal_run(
    p_run_id TEXT, p_kind TEXT, p_name TEXT, p_item_index INTEGER, p_payload JSONB, p_sender TEXT
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET jit = off SET enable_seqscan = off AS $$
DECLARE
    v_wait_id TEXT;
BEGIN
    IF p_kind = 'signal' AND EXISTS (
        SELECT FROM public."WorkflowRun" r JOIN public."WorkflowNode" n ON n."versionId" = r."versionId"
        WHERE r."id" = p_run_id AND r."tenantId" = current_setting('app.tenant_id')
          AND n."name" = p_name AND n."uses" = 'approval') THEN
        RAISE EXCEPTION 'signal_refused: % is an approval; answer it as one', p_name
            USING ERRCODE = 'AL009';
    END IF;
    PERFORM public.ailydian_lock_run(p_run_id, false, 'queued', 'running', 'paused', 'compensating');
    DELETE FROM public."WorkflowWait" w WHERE w."id" = (
        SELECT x."id" FROM public."WorkflowWait" x
        WHERE x."runId" = p_run_id AND x."what" = p_kind AND x."name" = p_name
          AND (p_item_index IS NULL OR EXISTS (
              SELECT FROM public."WorkflowStep" s
              WHERE s."id" = x."id" AND s."itemIndex" = p_item_index))
        ORDER BY x."createdAt", x."id" LIMIT 1 FOR UPDATE)
    RETURNING w."id" INTO v_wait_id;
    IF FOUND THEN
        PERFORM public.ailydian_enqueue_steps(
            public.ailydian_answer_step(v_wait_id, p_kind, p_payload, NULL), v_wait_id);
    ELSIF p_kind = 'approval' THEN
        RAISE EXCEPTION 'run_refused: no step % of the run % waits for an approval',
            public.ailydian_visible(p_name), p_run_id USING ERRCODE = 'AL008';
    ELSIF 1000 <= (SELECT count(*) FROM public."WorkflowSignal" g
                   WHERE g."runId" = p_run_id AND g."takenBy" IS NULL) THEN
        RAISE EXCEPTION 'signal_refused: the run % already has 1,000 pending signals', p_run_id
            USING ERRCODE = 'AL009';
    ELSE
        INSERT INTO public."WorkflowSignal" ("tenantId", "runId", "name", "payload", "sentBy")
        SELECT r."tenantId", p_run_id, p_name, p_payload, p_sender
        FROM public."WorkflowRun" r WHERE r."id" = p_run_id;
    END IF;
END $$;
CALL ailydian_build_rights('ailydian_signal_run', 'ailydian_app');


-- 90_workflow/functions/skip_step.sql

-- Skip a step that has what it needs and is not over; its items, job, waits and places behind keys
-- go. What depends on it goes on without its output.
-- Locks: the run (for those who act on it, not for walkers), the step, its items, then what settling
-- the step locks, and its jobs.
CREATE OR REPLACE FUNCTION ailydian_skip_step(p_run_id TEXT, p_step_name TEXT) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET jit = off SET enable_seqscan = off AS $$
DECLARE
    v_step RECORD;
    v_wait RECORD;
    v_job_ids TEXT[];
BEGIN
    PERFORM public.ailydian_lock_run(p_run_id, false, 'running', 'paused');
    SELECT s."id", s."state", s."jobId", s."position", s."itemIndex", s."openNeeds" INTO v_step
    FROM public."WorkflowStep" s WHERE s."runId" = p_run_id AND s."stepName" = p_step_name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run_refused: the run % has no step %', p_run_id, public.ailydian_visible(p_step_name)
            USING ERRCODE = 'AL008';
    ELSIF v_step."openNeeds" > 0 THEN  -- otherwise the run might end while what it needs still runs
        RAISE EXCEPTION 'run_refused: the steps that % needs are not finished; skip those first', p_step_name
            USING ERRCODE = 'AL008';
    END IF;
    PERFORM FROM public."WorkflowStep" s WHERE s."id" = v_step."id"
        AND s."state" IN ('pending', 'ready', 'running', 'waiting') FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run_refused: the step % is finished or about to finish', p_step_name
            USING ERRCODE = 'AL008';
    END IF;
    v_job_ids := ARRAY[v_step."jobId"];
    IF v_step."itemIndex" < 0 THEN
        WITH items AS (
            UPDATE public."WorkflowStep" s SET "state" = 'cancelled', "status" = 'CANCELLED',
                "completedAt" = clock_timestamp() AT TIME ZONE 'UTC'
            WHERE s."id" IN (
                SELECT i."id" FROM public."WorkflowStep" i
                WHERE i."runId" = p_run_id AND i."position" = v_step."position" AND i."itemIndex" >= 0
                  AND i."state" IN ('pending', 'ready', 'running', 'waiting')
                FOR UPDATE SKIP LOCKED) RETURNING s."jobId", s."id", s."tenantId", s."stepName"
        ), noted AS (
            INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what")
            SELECT i."tenantId", i."id", i."stepName", 'workflow', 'STEP_CANCELLED' FROM items i
        )
        SELECT v_job_ids || coalesce(array_agg(i."jobId"), '{}') INTO v_job_ids FROM items i;
    END IF;
    PERFORM public.ailydian_step_over(v_step."id", 'skipped', NULL, NULL, NULL);
    FOR v_wait IN
        DELETE FROM public."WorkflowWait" w
        WHERE w."runId" = p_run_id
          AND (w."id" = v_step."id" OR starts_with(w."id", v_step."id" || '/'))
        RETURNING w."id", w."what", w."name"
    LOOP
        IF v_wait."what" = 'run' THEN
            PERFORM public.ailydian_end_child_run(v_wait."name", v_wait."id",
                                                  'its step was skipped');
        END IF;
    END LOOP;
    PERFORM public.ailydian_leave_slot(g."tenantId", g."key", g."holder")
    FROM public."WorkflowSlot" g
    WHERE g."runId" = p_run_id AND starts_with(g."holder", v_step."id" || '/');
    PERFORM public.ailydian_stop_jobs(array_remove(v_job_ids, NULL), 'its step was skipped');
END $$;
CALL ailydian_build_rights('ailydian_skip_step', 'ailydian_app');


-- 90_workflow/functions/start_run.sql

-- Start a run. `p_on_conflict` says what becomes of others with its concurrency key.
-- Locks: the new run, then its concurrency key; what ending another run locks.
-- Returns the run under this key, which may be an older one.
CREATE OR REPLACE FUNCTION ailydian_start_run(
    p_run_id TEXT, p_version_id TEXT, p_input JSONB, p_key TEXT, p_slot_key TEXT, p_on_conflict TEXT,
    p_parent_step_id TEXT, p_depth INTEGER, p_producer TEXT, p_traceparent TEXT
) RETURNS TABLE ("id" TEXT, "state" TEXT, "duplicate" BOOLEAN) LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_tenant_id CONSTANT TEXT := current_setting('app.tenant_id');
    v_run_id CONSTANT TEXT := coalesce(p_run_id, public.ailydian_new_id());
    v_version RECORD;
    v_state TEXT := 'running';
BEGIN
    -- A step's id begins with its run's, up to the "/": one within it would lead to another run's rows.
    IF strpos(v_run_id, '/') > 0 OR octet_length(v_run_id) NOT BETWEEN 1 AND 64 THEN
        RAISE EXCEPTION 'run_refused: the id of a run must be 1 to 64 bytes and hold no "/"'
            USING ERRCODE = 'AL006';
    END IF;
    SELECT v."workflowId", v."ends" INTO v_version FROM public."WorkflowVersion" v
    WHERE v."id" = p_version_id AND v."tenantId" = v_tenant_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'version_not_found: no workflow version with the id %', public.ailydian_visible(p_version_id)
            USING ERRCODE = 'AL005';
    END IF;
    IF p_parent_step_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM public."WorkflowStep" s
        WHERE s."id" = p_parent_step_id AND s."tenantId" = v_tenant_id) THEN
        RAISE EXCEPTION 'run_not_found: no step with the id %', public.ailydian_visible(p_parent_step_id)
            USING ERRCODE = 'AL007';
    END IF;
    INSERT INTO public."WorkflowRun" ("id", "workflowId", "status", "input", "tenantId", "versionId",
        "state", "key", "concurrencyKey", "parentStepId", "depth", "endsOpen", "producer",
        "traceparent")
    VALUES (v_run_id, v_version."workflowId", 'RUNNING', p_input, v_tenant_id, p_version_id, 'running',
            p_key, p_slot_key, p_parent_step_id, p_depth, v_version."ends", p_producer, p_traceparent)
    ON CONFLICT ("workflowId", "key") WHERE "key" IS NOT NULL DO NOTHING;
    IF NOT FOUND THEN
        RETURN QUERY SELECT r."id", r."state", true FROM public."WorkflowRun" r
                     WHERE r."workflowId" = v_version."workflowId" AND r."key" = p_key;
        RETURN;
    END IF;
    INSERT INTO public."WorkflowStep" ("id", "runId", "stepName", "status", "tenantId", "position",
                                       "itemIndex", "state", "openNeeds")
    SELECT v_run_id || '/' || n."position", v_run_id, n."name", 'PENDING', v_tenant_id, n."position",
           -1, 'pending', n."needs"
    FROM public."WorkflowNode" n
    WHERE n."versionId" = p_version_id AND n."compensates" IS NULL ORDER BY n."position";
    IF p_slot_key IS NOT NULL
       AND NOT public.ailydian_enter_slot(v_tenant_id, p_slot_key, v_run_id, v_run_id) THEN
        v_state := public.ailydian_queue_run(v_run_id, v_tenant_id, p_slot_key, p_on_conflict);
    ELSE
        PERFORM public.ailydian_launch_run(v_run_id);
    END IF;
    RETURN QUERY SELECT v_run_id, v_state, false;
END $$;
CALL ailydian_build_rights('ailydian_start_run', 'ailydian_app');


-- 90_workflow/functions/step_at.sql

-- The context of the step that a walker's job is at.
CREATE OR REPLACE FUNCTION ailydian_step_at(p_job_id TEXT) RETURNS JSONB LANGUAGE sql STABLE AS $$
    SELECT public.ailydian_step_context(j."stepId", NULL, NULL) || jsonb_build_object(
        'fence', j."fence", 'attempt', j."attempt", 'attemptsMax', j."attemptsMax")
    FROM public."Job" j WHERE j."id" = p_job_id
$$;
CALL ailydian_build_rights('ailydian_step_at');


-- 90_workflow/functions/step_context.sql

-- The context of a step: its node, what its expressions may read, its item. A worker that
-- comes from another step of the run has the inputs (`p_known_run_id`); from another item of the same
-- step, also the node and what it reads (`p_known_position`).
CREATE OR REPLACE FUNCTION ailydian_step_context(
    p_step_id TEXT, p_known_run_id TEXT, p_known_position INTEGER
) RETURNS JSONB LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_step RECORD;
    v_context JSONB;
BEGIN
    SELECT s."runId", s."position", s."itemIndex", s."item", s."liveNeeds", n."name", n."uses",
           n."spec", n."needs", n."mapped", n."timeoutS", n."attemptsMax", r."versionId",
           CASE WHEN n."mapped" AND s."itemIndex" < 0 THEN n."listReads" ELSE n."reads" END AS "reads"
    INTO STRICT v_step
    FROM public."WorkflowStep" s JOIN public."WorkflowRun" r ON r."id" = s."runId"
    JOIN public."WorkflowNode" n ON n."versionId" = r."versionId" AND n."position" = s."position"
    WHERE s."id" = p_step_id AND s."tenantId" = current_setting('app.tenant_id');
    v_context := jsonb_build_object('stepId', p_step_id, 'runId', v_step."runId", 'position', v_step."position",
        'index', v_step."itemIndex", 'item', v_step."item");
    IF v_step."runId" IS DISTINCT FROM p_known_run_id THEN
        v_context := v_context || (
            SELECT jsonb_build_object('inputs', r."input", 'startedAt', r."startedAt",
                                      'depth', r."depth", 'workflow', w."name", 'tenantId', r."tenantId")
            FROM public."WorkflowRun" r JOIN public."Workflow" w ON w."id" = r."workflowId"
            WHERE r."id" = v_step."runId");
        p_known_position := NULL;
    END IF;
    IF v_step."position" IS DISTINCT FROM p_known_position OR v_step."itemIndex" < 0 THEN
        v_context := v_context || jsonb_build_object(
            'name', v_step."name", 'uses', v_step."uses", 'spec', v_step."spec", 'timeoutS', v_step."timeoutS",
            'expand', v_step."mapped" AND v_step."itemIndex" < 0,
            'skip', v_step."needs" > 0 AND v_step."liveNeeds" = 0 AND v_step."itemIndex" < 0,
            'steps', CASE WHEN v_step."reads" = '{}' THEN '{}'::jsonb ELSE (
                SELECT coalesce(jsonb_object_agg(t."stepName", jsonb_build_object(
                    'output', coalesce(o."output", t."output"), 'state', t."state",
                    'error', t."error")), '{}')
                FROM unnest(v_step."reads") AS p("position")
                JOIN public."WorkflowStep" t ON t."id" = v_step."runId" || '/' || p."position"
                LEFT JOIN public."WorkflowOutput" o ON o."stepId" = t."id") END);
    END IF;
    RETURN v_context;
END $$;
CALL ailydian_build_rights('ailydian_step_context');


-- 90_workflow/functions/step_of_job.sql

-- The end of a step's job ends the step, in the same transaction.
CREATE OR REPLACE FUNCTION ailydian_step_of_job() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_job RECORD;
    v_run RECORD;
    v_answer RECORD;
    v_refused TEXT;
BEGIN
    SELECT j."stepId", j."state", j."outcome", j."error" INTO v_job FROM public."Job" j
    WHERE j."id" = NEW."id";
    IF v_job."state" = 'PENDING' AND NEW."state" = 'PENDING' THEN  -- a dead letter was replayed
        SELECT r."id", s."jobId" = NEW."id" AND s."state" = 'failed'
               AND r."state" IN ('failed', 'cancelled') AS "failed" INTO v_run
        FROM public."WorkflowStep" s JOIN public."WorkflowRun" r ON r."id" = s."runId"
        WHERE s."id" = v_job."stepId" FOR UPDATE OF r;
        v_refused := CASE WHEN v_run."failed" THEN public.ailydian_revive_run(v_run."id", NEW."id", NULL)
                        ELSE 'the step it was has gone on without it' END;
        IF v_refused IS NOT NULL THEN
            PERFORM public.ailydian_stop_jobs(ARRAY[NEW."id"], 'not replayed: ' || v_refused);
        END IF;
        RETURN NULL;
    END IF;
    -- Looked at once more: a walker has moved on, a stopped step needs nothing.
    IF v_job."state" IS DISTINCT FROM NEW."state" OR NOT EXISTS (
        SELECT FROM public."WorkflowStep" s WHERE s."id" = v_job."stepId" AND s."jobId" = NEW."id"
          AND s."state" IN ('ready', 'running')) THEN
        RETURN NULL;
    END IF;
    IF v_job."state" = 'COMPLETED' THEN
        PERFORM public.ailydian_step_over(v_job."stepId", 'completed', v_job."outcome", NULL, NULL);
    ELSIF v_job."state" = 'CANCELLED' THEN
        PERFORM public.ailydian_step_over(v_job."stepId", 'failed', NULL, 'its job was cancelled',
                                          'cancelled');
    ELSE
        SELECT d."fingerprint", n."onError" INTO v_answer
        FROM public."WorkflowStep" s JOIN public."WorkflowRun" r ON r."id" = s."runId"
        JOIN public."WorkflowNode" n
          ON n."versionId" = r."versionId" AND n."position" = s."position"
        LEFT JOIN public."DeadLetter" d ON d."jobId" = NEW."id"
        WHERE s."id" = v_job."stepId";
        -- A failure that the definition answers waits for no operator.
        IF v_answer."onError" <> 'fail' THEN
            DELETE FROM public."DeadLetter" d WHERE d."jobId" = NEW."id";
        END IF;
        PERFORM public.ailydian_step_over(v_job."stepId", 'failed', NULL, v_job."error",
                                          v_answer."fingerprint");
    END IF;
    RETURN NULL;
END $$;


-- 90_workflow/functions/step_over.sql

-- Settle a step that no walker finishes: a job of another kind, a timer, a signal, a run.
CREATE OR REPLACE FUNCTION ailydian_step_over(
    p_step_id TEXT, p_verdict TEXT, p_output JSONB, p_error TEXT, p_fingerprint TEXT
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.ailydian_enqueue_steps(public.ailydian_settle_step(p_step_id, p_verdict, p_output,
        NULL, CASE p_verdict WHEN 'failed' THEN p_error END, p_fingerprint), p_step_id);
END $$;
CALL ailydian_build_rights('ailydian_step_over');


-- 90_workflow/functions/stop_jobs.sql

-- Stop jobs that wait or run; the fence of one that runs is raised, so nothing it still does counts.
CREATE OR REPLACE FUNCTION ailydian_stop_jobs(p_job_ids TEXT[], p_reason TEXT) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    WITH held AS (
        SELECT j."id", j."dueAt", j."state" FROM unnest(p_job_ids) AS m("id")
        JOIN public."Job" j ON j."id" = m."id"
        WHERE j."state" IN ('PENDING', 'RUNNING') ORDER BY j."id" FOR UPDATE OF j SKIP LOCKED
    ), landed AS (
        DELETE FROM public."JobFlight" f USING held WHERE f."jobId" = held."id"
    ), stopped AS (
        UPDATE public."Job" j SET "state" = 'CANCELLED', "finishedAt" = clock_timestamp(),
            "leaseUntil" = NULL, "waitingFor" = NULL, "fence" = j."fence" + 1, "error" = p_reason
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
CALL ailydian_build_rights('ailydian_stop_jobs');


-- 90_workflow/functions/stop_steps.sql

-- Stop what is left of a run: its steps, their jobs and waits, the runs it waits for.
CREATE OR REPLACE FUNCTION ailydian_stop_steps(p_run_id TEXT, p_reason TEXT) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_job_ids TEXT[];
    v_wait RECORD;
BEGIN
    WITH live AS (
        SELECT s."id" FROM public."WorkflowStep" s
        WHERE s."runId" = p_run_id AND s."state" IN ('pending', 'ready', 'running', 'waiting')
        ORDER BY s."id" FOR UPDATE SKIP LOCKED
    ), stopped AS (
        UPDATE public."WorkflowStep" s SET "state" = 'cancelled', "status" = 'CANCELLED',
            "completedAt" = clock_timestamp() AT TIME ZONE 'UTC'
        FROM live WHERE s."id" = live."id" RETURNING s."jobId", s."id", s."tenantId", s."stepName"
    ), noted AS (
        INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what")
        SELECT s."tenantId", s."id", s."stepName", 'workflow', 'STEP_CANCELLED' FROM stopped s
    )
    SELECT array_agg(s."jobId") INTO v_job_ids FROM stopped s WHERE s."jobId" IS NOT NULL;
    FOR v_wait IN
        DELETE FROM public."WorkflowWait" w WHERE w."id" IN (
            SELECT x."id" FROM public."WorkflowWait" x WHERE x."runId" = p_run_id FOR UPDATE SKIP LOCKED)
        RETURNING w."id", w."what", w."name"
    LOOP
        IF v_wait."what" = 'run' THEN
            PERFORM public.ailydian_end_child_run(v_wait."name", v_wait."id", p_reason);
        END IF;
    END LOOP;
    PERFORM public.ailydian_leave_slot(g."tenantId", g."key", g."holder")
    FROM public."WorkflowSlot" g WHERE g."runId" = p_run_id AND g."holder" <> p_run_id;
    IF v_job_ids IS NOT NULL THEN
        PERFORM public.ailydian_stop_jobs(v_job_ids, p_reason);
    END IF;
END $$;
CALL ailydian_build_rights('ailydian_stop_steps');


-- 90_workflow/functions/suspend_step.sql

-- A step waits: for a time, a signal, an approval, a run that was just started. A signal that came
-- before is taken at once.
CREATE OR REPLACE FUNCTION ailydian_suspend_step(
    p_job_id TEXT, p_fence BIGINT, p_step_id TEXT, p_awaited TEXT, p_wait_name TEXT, p_wait_s DOUBLE PRECISION,
    p_wait_until TIMESTAMPTZ, p_input JSONB, p_lease_s DOUBLE PRECISION
) RETURNS JSONB LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_run_id TEXT;
    v_held CONSTANT TEXT := public.ailydian_own_step(p_job_id, p_fence, p_step_id);
    v_earlier RECORD;
BEGIN
    IF v_held = 'moved' THEN
        RETURN public.ailydian_step_at(p_job_id);
    ELSIF v_held = 'stopped' THEN
        RETURN public.ailydian_walk_on(p_job_id, '{}', NULL, NULL, 0);
    END IF;
    IF p_awaited = 'run' AND NOT EXISTS (
        SELECT FROM public."WorkflowRun" r WHERE r."id" = p_wait_name
          AND r."parentStepId" = p_step_id AND r."tenantId" = current_setting('app.tenant_id')) THEN
        RAISE EXCEPTION 'run_not_found: the step % has started no run %', p_step_id,
            public.ailydian_visible(p_wait_name) USING ERRCODE = 'AL007';
    END IF;
    -- A sender of a signal locks the run: the signal comes before, or finds us waiting. Stopping the
    -- run locks it as well: the run that was started for the step ends with it.
    SELECT r."id" INTO STRICT v_run_id
    FROM public."WorkflowStep" s JOIN public."WorkflowRun" r ON r."id" = s."runId"
    WHERE s."id" = p_step_id AND s."tenantId" = current_setting('app.tenant_id') FOR UPDATE OF r;
    IF p_awaited = 'run' AND (SELECT r."state" FROM public."WorkflowRun" r WHERE r."id" = v_run_id)
                           NOT IN ('running', 'paused', 'compensating') THEN
        PERFORM public.ailydian_end_child_run(p_wait_name, p_step_id, 'its run had ended');
    END IF;
    IF p_awaited = 'signal' THEN
        UPDATE public."WorkflowSignal" g SET "takenBy" = p_step_id
        WHERE g."runId" = v_run_id AND g."seq" = (
            SELECT min(x."seq") FROM public."WorkflowSignal" x
            WHERE x."runId" = v_run_id AND x."name" = p_wait_name AND x."takenBy" IS NULL)
        RETURNING g."payload" INTO v_earlier;
        IF FOUND THEN
            RETURN public.ailydian_walk_on(p_job_id, public.ailydian_answer_step(
                p_step_id, p_awaited, v_earlier."payload", p_input), v_run_id, NULL, p_lease_s);
        END IF;
    END IF;
    UPDATE public."WorkflowStep" s SET "state" = 'waiting', "jobId" = NULL, "input" = p_input
    WHERE s."id" = p_step_id;
    INSERT INTO public."WorkflowWait" ("id", "tenantId", "runId", "what", "name", "dueAt")
    SELECT p_step_id, r."tenantId", v_run_id, p_awaited, p_wait_name,
           coalesce(p_wait_until, now() + p_wait_s * interval '1 second')
    FROM public."WorkflowRun" r WHERE r."id" = v_run_id;
    RETURN public.ailydian_walk_on(p_job_id, '{}', NULL, NULL, 0);
END $$;
CALL ailydian_build_rights('ailydian_suspend_step', 'ailydian_app');


-- 90_workflow/functions/walk_on.sql

-- A walker goes on with one of the steps that may begin, or its job is done. The others get jobs.
-- Returns what it needs to know of its next step.
CREATE OR REPLACE FUNCTION ailydian_walk_on(
    p_job_id TEXT, p_opened TEXT[], p_left_run_id TEXT, p_left_position INTEGER, p_lease_s DOUBLE PRECISION
) RETURNS JSONB LANGUAGE plpgsql AS $$
DECLARE
    v_mine TEXT;
    v_job RECORD;
    v_node RECORD;
    v_fence BIGINT;
BEGIN
    IF p_opened <> '{}' AND p_lease_s > 0 AND NOT EXISTS (
        SELECT FROM public."JobHold" h JOIN public."Job" j ON j."id" = p_job_id
        WHERE (h."queue" IS NULL OR h."queue" = 'workflow')
          AND (h."tenantId" IS NULL OR h."tenantId" = j."tenantId")
          AND (h."job" IS NULL OR h."job" = 'run_step')
    ) AND NOT EXISTS (
        SELECT FROM public."JobLimit" l WHERE l."ratePerS" IS NOT NULL
          AND (l."job" IS NULL OR l."job" = 'run_step')
    ) THEN
        v_mine := p_opened[1];
        p_opened := p_opened[2:];
    END IF;
    PERFORM public.ailydian_enqueue_steps(p_opened, p_job_id);
    IF v_mine IS NULL THEN
        UPDATE public."Job" j SET "state" = 'COMPLETED', "finishedAt" = clock_timestamp(),
            "leaseUntil" = NULL, "error" = NULL
        WHERE j."id" = p_job_id
        RETURNING j."tenantId", j."dueAt", j."startedAt", j."finishedAt" INTO v_job;
        DELETE FROM public."JobFlight" f WHERE f."jobId" = p_job_id;
        INSERT INTO public."JobEvent" ("tenantId", "jobId", "job", "queue", "what", "waitedS", "tookS")
        VALUES (v_job."tenantId", p_job_id, 'run_step', 'workflow', 'COMPLETED',
                extract(epoch FROM v_job."startedAt" - v_job."dueAt"),
                extract(epoch FROM v_job."finishedAt" - v_job."startedAt"));
        RETURN NULL;
    END IF;
    SELECT n."attemptsMax", n."backoffS", n."timeoutS" INTO STRICT v_node
    FROM public."WorkflowStep" s JOIN public."WorkflowRun" r ON r."id" = s."runId"
    JOIN public."WorkflowNode" n ON n."versionId" = r."versionId" AND n."position" = s."position"
    WHERE s."id" = v_mine;
    UPDATE public."Job" j SET "stepId" = v_mine, "fence" = j."fence" + 1, "attempt" = 1,
        "attemptsMax" = v_node."attemptsMax", "backoffS" = v_node."backoffS",
        "timeLimitS" = v_node."timeoutS", "crashes" = 0, "error" = NULL,
        "leaseUntil" = now() + p_lease_s * interval '1 second'
    WHERE j."id" = p_job_id RETURNING j."fence" INTO v_fence;
    UPDATE public."WorkflowStep" s SET "state" = 'running', "status" = 'RUNNING', "jobId" = p_job_id,
        "attempt" = 1, "startedAt" = clock_timestamp() AT TIME ZONE 'UTC'
    WHERE s."id" = v_mine;
    RETURN public.ailydian_step_context(v_mine, p_left_run_id, p_left_position)
        || jsonb_build_object('fence', v_fence, 'attempt', 1, 'attemptsMax', v_node."attemptsMax");
END $$;
CALL ailydian_build_rights('ailydian_walk_on');


-- 90_workflow/triggers.sql

CALL ailydian_build_touch('Workflow');
CALL ailydian_build_child('WorkflowRun', 'workflowId', 'Workflow');
CALL ailydian_build_child('WorkflowStep', 'runId', 'WorkflowRun');
-- Versions and nodes are read by the id of their parent: they must be of its tenant.
CALL ailydian_build_child('WorkflowVersion', 'workflowId', 'Workflow');
CALL ailydian_build_child('WorkflowNode', 'versionId', 'WorkflowVersion');

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


-- 90_workflow/policies.sql

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


-- 95_judgement/tables.sql

-- ============================================================================================
-- Judgement
--
-- Verdicts and scores of messages, people, models and answers. "ExplainabilityLog" and
-- "ModerationResult" name what they are about without a foreign key: the platform may write a row
-- whose message is gone. Three rules hold for all, and for the arms of "models".
-- A score is computed from rows that are kept, so that it can be computed again: trust from
-- "TrustEvent", a bandit's arms from "ArmReward", a calibration from pairs of scores. What may come
-- twice, late or in another order is keyed by the fact it is about, and the last word about a fact
-- replaces the one before it. And what was withdrawn (an appeal granted, a document changed, a
-- rating taken back) is undone by the same statement that would have done it.
-- ============================================================================================

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
    "id"             TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "messageId"      TEXT NOT NULL UNIQUE
                     REFERENCES "Message" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
    "modelId"        TEXT NOT NULL,
    "inputHash"      TEXT NOT NULL,
    "outputHash"     TEXT NOT NULL,
    "watermark"      TEXT,
    "citations"      JSONB,
    "createdAt"      TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"       TEXT,
    "questionId"     TEXT,
    "questionSha256" TEXT,
    "inputs"         JSONB,
    "keyId"          TEXT
);

CREATE TABLE IF NOT EXISTS "ExplainabilityLog" (
    "id"         TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "messageId"  TEXT NOT NULL,
    "method"     TEXT NOT NULL,
    "features"   JSONB NOT NULL,
    "importance" JSONB NOT NULL,
    "createdAt"  TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"   TEXT,
    "subject"    TEXT,
    "subjectId"  TEXT
);

CREATE TABLE IF NOT EXISTS "ModerationResult" (
    "id"            TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "contentId"     TEXT NOT NULL,
    "contentType"   TEXT NOT NULL,
    "flagged"       BOOLEAN NOT NULL,
    "categories"    TEXT[] DEFAULT '{}',
    "scores"        JSONB NOT NULL,
    "action"        TEXT,
    "createdAt"     TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"      TEXT,
    "userId"        TEXT,
    "engine"        TEXT,
    "contentSha256" TEXT,
    "policyVersion" INTEGER,
    "superseded"    BOOLEAN NOT NULL DEFAULT false
);

CREATE TABLE IF NOT EXISTS "TrainingExample" (
    "id"          TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "prompt"      TEXT NOT NULL,
    "completion"  TEXT NOT NULL,
    "rating"      DOUBLE PRECISION NOT NULL,
    "source"      TEXT NOT NULL,
    "createdAt"   TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"    TEXT DEFAULT nullif(current_setting('app.tenant_id', true), ''),
    "messageId"   TEXT,
    "rejectedId"  TEXT,
    "userId"      TEXT,
    "rejected"    TEXT,
    "digest"      TEXT,
    "withdrawnAt" TIMESTAMPTZ
);
CALL ailydian_build_index('QualityScore', 'estimatedScore');
CALL ailydian_build_index('Provenance', 'inputHash');
CALL ailydian_build_index('Provenance', 'outputHash');
CALL ailydian_build_index('ExplainabilityLog', 'messageId');
CALL ailydian_build_index('ExplainabilityLog', 'method');
CALL ailydian_build_index('ModerationResult', 'contentId');
CALL ailydian_build_index('ModerationResult', 'flagged');
CALL ailydian_build_index('ModerationResult', 'createdAt');
CALL ailydian_build_index('TrainingExample', 'rating');
CALL ailydian_build_index('TrainingExample', 'source');
CALL ailydian_build_index('TrainingExample', 'tenantId');
COMMENT ON TABLE "QualityScore" IS 'How good an answer looked, and how good people found it.';
COMMENT ON TABLE "Provenance" IS 'Where an answer came from: hashes, citations, watermark.';
COMMENT ON TABLE "ExplainabilityLog" IS 'Which features made a score, and by how much.';
COMMENT ON TABLE "ModerationResult" IS 'The verdict on a message, a document or a comment.';
COMMENT ON TABLE "TrainingExample" IS 'Good pairs of prompt and completion, for fine-tuning.';

CREATE TABLE IF NOT EXISTS "TrustScore" (
    "id"        TEXT PRIMARY KEY DEFAULT ailydian_new_id(),
    "userId"    TEXT NOT NULL UNIQUE,
    "score"     DOUBLE PRECISION NOT NULL,
    "factors"   JSONB NOT NULL,
    "updatedAt" TIMESTAMP(3) NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    -- ours
    "tenantId"  TEXT
);
CALL ailydian_build_index('TrustScore', 'score');
COMMENT ON TABLE "TrustScore" IS 'How far a person is trusted, with the factors that add up to it.';

CALL ailydian_build_index('ModerationResult', 'tenantId', 'contentId');
CALL ailydian_build_index('ExplainabilityLog', 'subjectId');
CALL ailydian_build_index('Provenance', 'tenantId', 'questionSha256');
CALL ailydian_build_index('TrainingExample', 'messageId');
CALL ailydian_build_index('TrainingExample', 'rejectedId');

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

COMMENT ON TABLE "ModerationPolicy" IS 'What a tenant allows, flags and blocks; the last version holds.';
COMMENT ON TABLE "ModerationAppeal" IS 'An objection to a verdict; granted, its consequences are undone.';
COMMENT ON TABLE "TrustEvent" IS 'What speaks for or against a person; trust is computed from these.';
COMMENT ON TABLE "QualityCalibration" IS 'How estimates become probabilities; the last version holds.';

DO $$
BEGIN
    IF to_regclass('public."TrainingExample_digest_key"') IS NULL THEN
        CREATE UNIQUE INDEX "TrainingExample_digest_key" ON "TrainingExample" ("tenantId", "digest");
    END IF;
END $$;

DO $$
BEGIN
    IF to_regclass('public."QualityScore_rated_idx"') IS NULL THEN
        CREATE INDEX "QualityScore_rated_idx" ON "QualityScore" ("tenantId")
            WHERE "actualScore" IS NOT NULL;
    END IF;
END $$;

DO $$
BEGIN
    IF to_regclass('public."ModerationResult_flagged_newest_idx"') IS NULL THEN
        CREATE INDEX "ModerationResult_flagged_newest_idx" ON "ModerationResult" ("createdAt")
            WHERE "flagged" AND NOT "superseded";
        CREATE INDEX "QualityScore_rated_newest_idx" ON "QualityScore" ("tenantId", "createdAt")
            WHERE "actualScore" IS NOT NULL;
    END IF;
END $$;


-- 95_judgement/functions/calibration_errors.sql

-- The expected calibration error of the newest rated estimates that each tenant's last calibration
-- has made: ten bins of equal mass, as workers/domain/judgement/calibration.py has computed its own.
CREATE OR REPLACE FUNCTION ailydian_calibration_errors(p_pairs_max INTEGER)
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
                    ORDER BY s."createdAt" DESC LIMIT p_pairs_max
                ) r
            ) s GROUP BY s."bin"
        ) b
    ) e WHERE e."pairs" > 0
$$;
CALL ailydian_build_rights('ailydian_calibration_errors', 'ailydian_relay');


-- 95_judgement/functions/flagged_shares.sql

-- Of tenants with that many flagged verdicts in the window: those, all in it, and the same of the
-- day before it.
CREATE OR REPLACE FUNCTION ailydian_flagged_shares(p_since INTERVAL, p_flagged_min INTEGER)
RETURNS TABLE ("tenantId" TEXT, "flagged" BIGINT, "judged" BIGINT, "flaggedBefore" BIGINT,
               "judgedBefore" BIGINT) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT n."tenantId", n."flagged", w."judged", w."flaggedBefore", w."judgedBefore"
    FROM (SELECT m."tenantId", count(*) AS "flagged" FROM "ModerationResult" m
          WHERE m."flagged" AND NOT m."superseded" AND m."tenantId" IS NOT NULL
            AND m."createdAt" >= (now() - p_since) AT TIME ZONE 'UTC'
          GROUP BY m."tenantId" HAVING count(*) >= p_flagged_min) n
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE m."createdAt" >= (now() - p_since) AT TIME ZONE 'UTC') AS "judged",
               count(*) FILTER (WHERE m."flagged"
                   AND m."createdAt" < (now() - p_since) AT TIME ZONE 'UTC') AS "flaggedBefore",
               count(*) FILTER (WHERE m."createdAt" < (now() - p_since) AT TIME ZONE 'UTC')
                   AS "judgedBefore"
        FROM "ModerationResult" m
        WHERE m."tenantId" = n."tenantId" AND NOT m."superseded"
          AND m."createdAt" >= (now() - p_since - interval '1 day') AT TIME ZONE 'UTC'
    ) w
$$;
CALL ailydian_build_rights('ailydian_flagged_shares', 'ailydian_relay');


-- 95_judgement/functions/judgement_gone.sql

-- A tenant was deleted: delete its rows of judgement, which have no foreign key to it.
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


-- 95_judgement/functions/move_moderationresult.sql

-- Content has changed its tenant: its verdicts follow.
CREATE OR REPLACE FUNCTION public.ailydian_move_moderationresult() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    UPDATE public."ModerationResult" SET "tenantId" = NEW."tenantId"
    WHERE "contentId" = NEW."id" AND lower("contentType") = lower(TG_TABLE_NAME)
      AND "tenantId" IS DISTINCT FROM NEW."tenantId";
    RETURN NULL;
END $$;


-- 95_judgement/functions/note_trust_events.sql

-- Store trust events, one row a source: of two events of one source the greater revision counts.
-- Only events about `p_concerned`, the tenant's own people, are stored.
-- Locks: the events, by person, kind and source; the caller holds the people's locks.
-- Returns nothing.
CREATE OR REPLACE FUNCTION ailydian_note_trust_events(
    p_concerned TEXT[], p_user_ids TEXT[], p_kinds TEXT[], p_source_ids TEXT[],
    p_values DOUBLE PRECISION[], p_occurred_at TIMESTAMPTZ[], p_revisions TIMESTAMPTZ[],
    p_withdrawn BOOLEAN[]
) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_tenant_id CONSTANT TEXT := current_setting('app.tenant_id');
BEGIN
    INSERT INTO "TrustEvent" AS e ("tenantId", "userId", "kind", "sourceId", "value", "occurredAt",
                                   "revision", "withdrawn")
    SELECT DISTINCT ON (n."userId", n."kind", n."sourceId") v_tenant_id, n.*
    FROM unnest(p_user_ids, p_kinds, p_source_ids, p_values, p_occurred_at, p_revisions, p_withdrawn)
         AS n ("userId", "kind", "sourceId", "value", "occurredAt", "revision", "withdrawn")
    WHERE n."kind" IS NOT NULL AND n."userId" = ANY(p_concerned)
    ORDER BY n."userId", n."kind", n."sourceId", n."revision" DESC, n."withdrawn" DESC,
             n."value" DESC, n."occurredAt" DESC
    ON CONFLICT ("tenantId", "userId", "kind", "sourceId") DO UPDATE
    SET "value" = excluded."value", "occurredAt" = excluded."occurredAt",
        "revision" = excluded."revision", "withdrawn" = excluded."withdrawn"
    WHERE (excluded."revision", excluded."withdrawn", excluded."value", excluded."occurredAt")
        > (e."revision", e."withdrawn", e."value", e."occurredAt");
END $$;
CALL ailydian_build_rights('ailydian_note_trust_events', 'ailydian_app');


-- 95_judgement/functions/tenant_of_moderationresult.sql

-- "ModerationResult" names its content by kind and id; its tenant is that of the content, where
-- the kind is one of ours and the content is visible.
CREATE OR REPLACE FUNCTION public.ailydian_tenant_of_moderationresult() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_tenant_id text;
BEGIN
    CASE lower(NEW."contentType")
        WHEN 'message' THEN
            SELECT "tenantId" INTO v_tenant_id FROM public."Message" WHERE "id" = NEW."contentId";
        WHEN 'document' THEN
            SELECT "tenantId" INTO v_tenant_id FROM public."Document" WHERE "id" = NEW."contentId";
        WHEN 'feedback' THEN
            SELECT "tenantId" INTO v_tenant_id FROM public."Feedback" WHERE "id" = NEW."contentId";
        ELSE NULL;
    END CASE;
    IF v_tenant_id IS NULL THEN
        IF TG_OP = 'INSERT' THEN
            NEW."tenantId" := coalesce(NEW."tenantId",
                                       nullif(current_setting('app.tenant_id', true), ''));
        END IF;
    ELSIF NEW."tenantId" IS DISTINCT FROM v_tenant_id THEN
        IF NEW."tenantId" IS NOT NULL
           AND (TG_OP = 'INSERT' OR NEW."tenantId" IS DISTINCT FROM OLD."tenantId") THEN
            RAISE insufficient_privilege USING
                MESSAGE = 'the tenantId sent for "ModerationResult" is not that of its content';
        END IF;
        NEW."tenantId" := v_tenant_id;
    END IF;
    RETURN NEW;
END $$;


-- 95_judgement/functions/update_trust.sql

-- Store events and compute the trust of the people concerned at an instant: with no events, that of
-- `p_user_ids`. The factors are rows of workers/domain/judgement/trust.py, in columns; "age" is the one without
-- events. Numbers are summed in one order: the same events give the same score to the last bit. What
-- has faded by 64 halves fades no more, and a value that is all but 0 is none: smaller numbers than
-- the type holds are an error here.
-- Locks: a person's lock comes first, in the order of the ids, so that workers wait for each other
-- and each sees all that was noted before; then the events, then the scores, in the same order.
-- Returns the scores.
CREATE OR REPLACE FUNCTION ailydian_update_trust(
    p_user_ids TEXT[], p_kinds TEXT[], p_source_ids TEXT[], p_values DOUBLE PRECISION[],
    p_occurred_at TIMESTAMPTZ[], p_revisions TIMESTAMPTZ[], p_withdrawn BOOLEAN[],
    p_factors TEXT[], p_weights DOUBLE PRECISION[], p_half_lives_s DOUBLE PRECISION[],
    p_lows DOUBLE PRECISION[], p_highs DOUBLE PRECISION[], p_base DOUBLE PRECISION,
    p_now TIMESTAMPTZ
) RETURNS TABLE ("userId" TEXT, "score" DOUBLE PRECISION) LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_tenant_id CONSTANT TEXT := current_setting('app.tenant_id');
    -- The tenant's own people alone: "userId" is unique over all tenants, and nobody's to occupy.
    v_concerned CONSTANT TEXT[] := ARRAY(
        SELECT u."id" FROM "User" u WHERE u."id" = ANY(p_user_ids) ORDER BY u."id");
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('trust' || chr(1) || v_tenant_id || chr(1) || p, 0))
    FROM unnest(v_concerned) p;
    PERFORM ailydian_note_trust_events(v_concerned, p_user_ids, p_kinds, p_source_ids, p_values,
                                       p_occurred_at, p_revisions, p_withdrawn);
    RETURN QUERY
    WITH factor AS MATERIALIZED (
        SELECT f.* FROM unnest(p_factors, p_weights, p_half_lives_s, p_lows, p_highs) WITH ORDINALITY
             AS f ("kind", "weight", "halfLifeS", "low", "high", "at")
    ), part AS (
        SELECT p AS "userId", f."kind", f."at",
               round(greatest(f."low", least(f."high", CASE f."kind" WHEN 'age'
                   THEN f."weight" * (1 - power(2.0::float8,
                       -least(coalesce(u."ageS", 0) / f."halfLifeS", 64)))
                   ELSE f."weight" * coalesce(s."total", 0) END))::numeric, 12)::float8 AS "part"
        FROM unnest(v_concerned) p CROSS JOIN factor f
        LEFT JOIN LATERAL (
            SELECT greatest(extract(epoch FROM p_now - u."createdAt" AT TIME ZONE 'UTC'), 0)::float8
                   AS "ageS"
            FROM "User" u WHERE u."id" = p
        ) u ON f."kind" = 'age'
        LEFT JOIN LATERAL (
            SELECT sum(e."value" * power(2.0::float8, -least(greatest(
                       extract(epoch FROM p_now - e."occurredAt"), 0)::float8 / f."halfLifeS", 64))
                       ORDER BY e."sourceId" COLLATE "C") AS "total"
            FROM "TrustEvent" e
            WHERE e."tenantId" = v_tenant_id AND e."userId" = p AND e."kind" = f."kind"
              AND NOT e."withdrawn" AND abs(e."value") > 1e-15
        ) s ON f."kind" <> 'age'
    ), whole AS (
        SELECT p."userId", p_base + sum(p."part" ORDER BY p."at") AS "score",
               jsonb_object_agg(p."kind", p."part") || jsonb_build_object('base', p_base) AS "factors"
        FROM part p GROUP BY p."userId"
    )
    INSERT INTO "TrustScore" AS t ("userId", "score", "factors", "tenantId")
    SELECT w."userId", w."score", w."factors", v_tenant_id FROM whole w ORDER BY w."userId"
    ON CONFLICT ("userId") DO UPDATE
    SET "score" = excluded."score", "factors" = excluded."factors"
    RETURNING t."userId", t."score";
END $$;
CALL ailydian_build_rights('ailydian_update_trust', 'ailydian_app');


-- 95_judgement/triggers.sql

CALL ailydian_build_child('QualityScore', 'messageId', 'Message');
CALL ailydian_build_child('Provenance', 'messageId', 'Message');
CALL ailydian_build_child('ExplainabilityLog', 'messageId', 'Message', p_must_exist => false);

CALL ailydian_build_touch('TrustScore');
CALL ailydian_build_child('TrustScore', 'userId', 'User', p_must_exist => false);
CALL ailydian_build_trigger('ModerationResult', 'tenant',
    'BEFORE INSERT OR UPDATE OF "contentId", "contentType", "tenantId" ON ROW '
    'EXECUTE FUNCTION public.ailydian_tenant_of_moderationresult()');

CALL ailydian_build_trigger('Document', 'move_moderationresult',
    'AFTER UPDATE ON ROW WHEN (OLD."tenantId" IS DISTINCT FROM NEW."tenantId") '
    'EXECUTE FUNCTION public.ailydian_move_moderationresult()');
CALL ailydian_build_trigger('Message', 'move_moderationresult',
    'AFTER UPDATE ON ROW WHEN (OLD."tenantId" IS DISTINCT FROM NEW."tenantId") '
    'EXECUTE FUNCTION public.ailydian_move_moderationresult()');
CALL ailydian_build_trigger('Feedback', 'move_moderationresult',
    'AFTER UPDATE ON ROW WHEN (OLD."tenantId" IS DISTINCT FROM NEW."tenantId") '
    'EXECUTE FUNCTION public.ailydian_move_moderationresult()');
CALL ailydian_build_trigger('Tenant', 'judgement_gone',
    'AFTER DELETE ON ROW EXECUTE FUNCTION public.ailydian_judgement_gone()');


-- 95_judgement/policies.sql

CALL ailydian_build_security('QualityScore');
CALL ailydian_build_security('Provenance');
CALL ailydian_build_security('ExplainabilityLog');
CALL ailydian_build_security('ModerationResult');
CALL ailydian_build_security('TrainingExample');
CALL ailydian_build_security('TrustScore');

CALL ailydian_build_security('ModerationPolicy', 'SELECT, INSERT', p_platform => false);
CALL ailydian_build_security('ModerationAppeal', 'SELECT, INSERT, UPDATE', p_platform => false);
CALL ailydian_build_security('TrustEvent', p_platform => false);
CALL ailydian_build_security('QualityCalibration', 'SELECT, INSERT', p_platform => false);


-- 00_ground/versions.sql

-- The version of a new database. An existing one is upgraded by `ailydian migrate` alone.
INSERT INTO "SchemaMigration" ("version", "sha256")
SELECT split_part(applied, ' ', 1), split_part(applied, ' ', 2)
FROM unnest('{schema 3ed9a1674830899494112f99f17cbb4bdcfc7c9ad7f42a551cf802bde43c0156,0002_unpriced_uses 8ea4c9ee56c13ba2183615a92ef6a667ef6aa73d70e8c68800bee4a45b146b27,0003_closed_functions a5d6ca93489d8f6d3dea0c3fa4b48bedfefccb68e429eb28613233da0fdd4bfa,0004_tenant_depth bd973a0943dcf1d382076454c737a4aa62d7b5bd3182dff58143a7cf9894602c,0005_payload_limits 2ea21ec2390a358995b51f85354d6604b3141b24c11859388d3b3c746eb339a7,0006_publishers 8c55ad78f0a39162d1145cf03fd59b571853f818d514852770280b12e823d7dd,0007_crashed_attempts aba55ff4d5d18d781f0bc4518628bb94b824291411c8ba590e53cf23ba5c2620,0008_http_api 102a0aa7a88536a350fb835758ae1e5a9e314ea448a2a913b1e3dd1517fbf15f,0009_event_folds dcb75c45746d2bda8b572ce2e3e9d0a78310ec807f4aab0f64d95f7f7a06078e,0010_webhooks d6a462c52fa60cf4e47e2721192cb533e3b138ccd0300d6f29daf7f725cfe2ec,0011_bulk_actions 0914d39173e73d8da24fb49e272d97218b5013a1e47f6d0054f70770c6851557,0012_people ee8170fb4f3207b1e041602aceeed7464db14d2e1c4b22938e9cb2d239e57372,0013_audit_by_resource 0aebf5808ef1cf533613620ed81cc455b91e103c926facbc681bf6f6c8ad2bc6,0014_audit_seals 22f14e03c76a1f3d63792f56d90460202e27145d95e0d4ec575efb9bcb384152,0015_audit_by_transaction bff2cbaadedab16066d6672733c98fd27980559bc5c6f200bacf31f9d8e9984d}'::text[]) AS applied
WHERE current_setting('ailydian.is_new')::boolean;

RESET ailydian.is_new;


-- 00_ground/check.sql

-- ============================================================================================
-- Check: the body of every function, now that all exist
-- ============================================================================================

SET check_function_bodies = on;

DO $$
DECLARE
    v_function record;
BEGIN
    FOR v_function IN
        SELECT p.oid, l.lanname FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
        WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'ailydian\_%'
    LOOP
        IF v_function.lanname = 'plpgsql' THEN
            PERFORM plpgsql_validator(v_function.oid);
        ELSE
            PERFORM fmgr_sql_validator(v_function.oid);
        END IF;
    END LOOP;
END $$;


-- 00_ground/end.sql

-- ============================================================================================
-- End: nobody but a trigger calls a trigger function, and the tools are dropped
-- ============================================================================================

DO $$
DECLARE
    v_function regprocedure;
BEGIN
    FOR v_function IN
        SELECT p.oid FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'ailydian\_%'
          AND p.prorettype = 'trigger'::regtype AND has_function_privilege('ailydian_app', p.oid, 'EXECUTE')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', v_function);
    END LOOP;
END $$;

DROP PROCEDURE ailydian_build_child;
DROP PROCEDURE ailydian_build_touch;
DROP PROCEDURE ailydian_build_security;
DROP PROCEDURE ailydian_build_grant;
DROP PROCEDURE ailydian_build_rights;
DROP PROCEDURE ailydian_build_policy;
DROP PROCEDURE ailydian_build_trigger;
DROP PROCEDURE ailydian_build_index;

RESET ROLE;
RESET check_function_bodies;
RESET search_path;
RESET client_min_messages;
