-- What an administrator does once in a new database, before `ailydian migrate`: the extension, the
-- five roles, and two logins that are no superusers. `ailydian_migrator` owns the schema, for
-- `migrate`, `verify` and tenants; `ailydian` is what relay, scheduler, web and workers log in as,
-- and may neither own nor change a table. Passwords come from the files of docker-compose.yml:
--   psql -v secrets=/run/secrets -f postgres_logins.sql
\set ON_ERROR_STOP on
\if :{?secrets}
\else
\set secrets /run/secrets
\endif
\set app_password `cat :secrets/database_password`
\set migrator_password `cat :secrets/migrator_password`

CREATE EXTENSION IF NOT EXISTS vector;

SELECT format('CREATE ROLE %I NOLOGIN', name)
FROM unnest(ARRAY['ailydian_owner', 'ailydian_app', 'ailydian_relay', 'ailydian_audit_reader',
                  'ailydian_platform']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec

CREATE ROLE ailydian LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD :'app_password';
CREATE ROLE ailydian_migrator LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS
    PASSWORD :'migrator_password';

-- They act as these roles where they say so; as themselves they see no row.
GRANT ailydian_app, ailydian_relay, ailydian_audit_reader TO ailydian WITH INHERIT FALSE, SET TRUE;
GRANT ailydian_owner, ailydian_app, ailydian_relay, ailydian_audit_reader
    TO ailydian_migrator WITH INHERIT FALSE, SET TRUE;

SELECT format('ALTER DATABASE %I OWNER TO ailydian_migrator', current_database()) \gexec
