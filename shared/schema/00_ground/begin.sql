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
        FROM unnest('{/* applied */}'::text[]) AS step
        WHERE NOT EXISTS (SELECT FROM public."SchemaMigration" m
                          WHERE m."version" = split_part(step, ' ', 1)
                            AND (m."version" <> 'schema' OR m."sha256" = split_part(step, ' ', 2)));
    END IF;
    IF v_missing IS NOT NULL THEN
        RAISE EXCEPTION 'this database is of an older version: it lacks %', v_missing
            USING HINT = 'Run `ailydian migrate`.';
    END IF;
END $$;
