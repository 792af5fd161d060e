"""Ways around the schema that somebody with the owner's password, or a superuser's, could leave.

Each is run by a superuser in a transaction that is rolled back; `ailydian verify` has to name it in
the line of its check. `{database}` is the name of the database.
"""

import psycopg

from tests.support.bypass import FUNCTION, LOGIN, SCHEMA, Bypass
from tests.support.bypass_objects import DEFINITIONS, OBJECTS

SETTINGS = [
    Bypass(
        "GRANT SET ON PARAMETER session_replication_role TO ailydian_app",
        "settings",
        "ailydian_app has SET on the parameter session_replication_role: "
        "REVOKE SET ON PARAMETER session_replication_role FROM ailydian_app",
    ),
    Bypass(
        "GRANT ALTER SYSTEM ON PARAMETER session_preload_libraries TO PUBLIC",
        "settings",
        "PUBLIC has ALTER SYSTEM on the parameter session_preload_libraries",
    ),
    Bypass(
        LOGIN + "GRANT SET ON PARAMETER session_replication_role TO app_of_a_test",
        "settings",
        "app_of_a_test has SET on the parameter session_replication_role",
    ),
    *(
        Bypass(
            f"ALTER DATABASE {{database}} SET {name} = {value}",
            "settings",
            f"ALTER DATABASE {{database}} SET {name} = {told or value} weakens what is promised: "
            f"ALTER DATABASE {{database}} RESET {name}",
        )
        for name, value, told in (
            ("session_replication_role", "replica", ""),
            ("app.tenant_id", "'x'", "x"),
            ("row_security", "off", ""),
            ("search_path", "aside, public", ""),
            ("role", "ailydian_owner", ""),
            ("transform_null_equals", "on", ""),
            ("synchronous_commit", "off", ""),
        )
    ),
    Bypass(
        "ALTER ROLE ALL SET session_replication_role = replica",
        "settings",
        "ALTER ROLE ALL SET session_replication_role = replica",
    ),
    Bypass(
        LOGIN + "ALTER ROLE app_of_a_test SET search_path = aside, public",
        "settings",
        "ALTER ROLE app_of_a_test SET search_path = aside, public",
    ),
    Bypass(
        "ALTER ROLE CURRENT_USER IN DATABASE {database} SET session_replication_role = replica",
        "settings",
        "ALTER ROLE postgres IN DATABASE {database} SET session_replication_role = replica",
    ),
    Bypass(
        "ALTER ROLE ailydian_relay SET row_security = off",
        "memberships",
        "ailydian_relay has the setting row_security=off: RESET ALL settings of that role",
    ),
]

RIGHTS = [
    Bypass(
        "GRANT EXECUTE ON FUNCTION pg_read_file(text) TO ailydian_app",
        "grants",
        "ailydian_app has EXECUTE on the function pg_read_file(text): "
        "REVOKE EXECUTE ON FUNCTION pg_read_file(text) FROM ailydian_app",
    ),
    *(
        Bypass(
            f"GRANT EXECUTE ON FUNCTION {function} TO PUBLIC",
            "grants",
            f"PUBLIC has EXECUTE on the function {function}",
        )
        for function in ("pg_ls_dir(text)", "lo_import(text)", "pg_reload_conf()")
    ),
    Bypass(
        "GRANT SELECT ON pg_authid TO ailydian_relay",
        "grants",
        "ailydian_relay has SELECT on the table pg_authid",
    ),
    Bypass(
        "GRANT SELECT (rolpassword) ON pg_authid TO PUBLIC",
        "grants",
        "PUBLIC has SELECT on the table pg_authid (rolpassword)",
    ),
    Bypass(
        "GRANT CREATE ON SCHEMA pg_catalog TO ailydian_app",
        "grants",
        "ailydian_app has CREATE on the schema pg_catalog",
    ),
    Bypass(
        LOGIN + "GRANT pg_execute_server_program TO app_of_a_test",
        "memberships",
        "app_of_a_test has a role of ours and may act as pg_execute_server_program: "
        "REVOKE pg_execute_server_program FROM app_of_a_test",
    ),
    Bypass(
        LOGIN + "CREATE ROLE between; GRANT pg_read_all_data TO between;"
        " GRANT between TO app_of_a_test",
        "memberships",
        "app_of_a_test has a role of ours and may act as pg_read_all_data",
    ),
    *(
        Bypass(
            f"{LOGIN} ALTER ROLE app_of_a_test {attribute}",
            "memberships",
            f"app_of_a_test has a role of ours and {told}: ALTER ROLE app_of_a_test NO{attribute}",
        )
        for attribute, told in (
            ("SUPERUSER", "is a superuser"),
            ("BYPASSRLS", "bypasses row level security"),
            ("REPLICATION", "can replicate the whole server"),
            ("CREATEROLE", "can create roles"),
        )
    ),
    Bypass(
        LOGIN + "GRANT ailydian_app TO app_of_a_test WITH ADMIN OPTION",
        "memberships",
        "app_of_a_test may grant ailydian_app to others",
    ),
    *(
        Bypass(
            f"{LOGIN} GRANT {right} ON DATABASE {{database}} TO {role}",
            "grants",
            f"{role} has {told} on the database {{database}}: "
            f"REVOKE {told} ON DATABASE {{database}} FROM {role}",
        )
        for right, role, told in (
            ("CREATE", "ailydian_app", "CREATE"),
            ("CREATE", "PUBLIC", "CREATE"),
            ("CREATE", "app_of_a_test", "CREATE"),
            ("TEMP", "ailydian_relay", "TEMPORARY"),
        )
    ),
    Bypass(
        "ALTER DATABASE {database} OWNER TO ailydian_app",
        "owners",
        "the database {database} is owned by ailydian_app",
    ),
    Bypass(
        "CREATE ROLE stranger_of_a_test LOGIN; ALTER DATABASE {database} OWNER TO"
        " stranger_of_a_test",
        "owners",
        "the database {database} is owned by stranger_of_a_test",
    ),
    Bypass(
        "CREATE ROLE stranger_of_a_test LOGIN; GRANT CREATE ON SCHEMA public TO stranger_of_a_test",
        "grants",
        "stranger_of_a_test has CREATE on the schema public",
    ),
    Bypass(
        "ALTER DATABASE {database} IS_TEMPLATE true",
        "owners",
        "the database {database} is a template: roles that create databases copy it",
    ),
    Bypass(
        "CREATE ROLE between; GRANT ailydian_owner TO between; CREATE ROLE prisma_of_a_test LOGIN;"
        " GRANT ailydian_platform, between TO prisma_of_a_test",
        "memberships",
        "prisma_of_a_test has ailydian_platform and may act as ailydian_owner by way of others",
    ),
    Bypass(
        "ALTER SCHEMA public OWNER TO ailydian_app",
        "owners",
        "the schema public is owned by ailydian_app",
    ),
    Bypass(
        "SET allow_system_table_mods = on; CREATE SCHEMA ailydian_app",
        "owners",
        "the schema ailydian_app comes before public for sessions that act as ailydian_app",
    ),
    Bypass(
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO ailydian_app",
        "grants",
        "ailydian_app will have SELECT on new objects (r) of postgres: ALTER DEFAULT PRIVILEGES"
        " FOR ROLE postgres IN SCHEMA public REVOKE SELECT ON TABLES FROM ailydian_app",
    ),
    Bypass(
        "CREATE FOREIGN DATA WRAPPER far; CREATE SERVER elsewhere FOREIGN DATA WRAPPER far;"
        " GRANT USAGE ON FOREIGN SERVER elsewhere TO ailydian_app",
        "grants",
        "ailydian_app has USAGE on the foreign server elsewhere",
    ),
    Bypass(
        "CREATE FOREIGN DATA WRAPPER far; GRANT USAGE ON FOREIGN DATA WRAPPER far TO ailydian_app",
        "grants",
        "ailydian_app has USAGE on the foreign data wrapper far",
    ),
    Bypass(
        "CREATE FOREIGN DATA WRAPPER far; CREATE SERVER elsewhere FOREIGN DATA WRAPPER far;"
        " CREATE USER MAPPING FOR PUBLIC SERVER elsewhere",
        "grants",
        "PUBLIC is mapped to a user of the foreign server elsewhere",
    ),
    Bypass(
        "GRANT CREATE ON TABLESPACE pg_default TO PUBLIC",
        "grants",
        "PUBLIC has CREATE on the tablespace pg_default",
    ),
]

FUNCTIONS = [
    Bypass(
        f"{SCHEMA} CREATE FUNCTION aside.leak() {FUNCTION}",
        "functions",
        "the function aside.leak() runs as its owner postgres, and others may call it",
    ),
    Bypass(
        f"{SCHEMA} GRANT CREATE ON SCHEMA aside TO ailydian_owner; SET ROLE ailydian_owner;"
        f" CREATE FUNCTION aside.leak() {FUNCTION};"
        " GRANT EXECUTE ON FUNCTION aside.leak() TO ailydian_app",
        "functions",
        "the function aside.leak() runs as its owner ailydian_owner, and others may call it",
    ),
    Bypass(
        f"{LOGIN} {SCHEMA} CREATE FUNCTION aside.leak() {FUNCTION};"
        " REVOKE EXECUTE ON FUNCTION aside.leak() FROM PUBLIC;"
        " CREATE ROLE between; GRANT EXECUTE ON FUNCTION aside.leak() TO between;"
        " GRANT between TO app_of_a_test WITH INHERIT TRUE",
        "functions",
        "the function aside.leak() runs as its owner postgres, and others may call it",
    ),
    Bypass(
        f"CREATE FUNCTION leak() {FUNCTION}; ALTER EXTENSION vector ADD FUNCTION leak()",
        "functions",
        "the function public.leak() passes for one of the extension vector",
    ),
    Bypass(
        f"CREATE SCHEMA aside; CREATE FUNCTION aside.leak() {FUNCTION};"
        " ALTER FUNCTION aside.leak() OWNER TO ailydian_app",
        "functions",
        "the function aside.leak() runs as its owner ailydian_app, and others may call it",
    ),
    Bypass(
        "CREATE SCHEMA aside; CREATE FUNCTION aside.hook() RETURNS trigger LANGUAGE plpgsql"
        " SECURITY DEFINER AS 'BEGIN RETURN NEW; END'",
        "functions",
        "the function aside.hook() runs as its owner postgres, and others may call it",
    ),
    Bypass(
        'CREATE VIEW leak AS SELECT * FROM "Document"; ALTER VIEW leak OWNER TO ailydian_app;'
        " GRANT SELECT ON leak TO PUBLIC",
        "functions",
        "the view public.leak reads tables of the schema as its owner ailydian_app",
    ),
    Bypass(
        "CREATE CAST (text AS int) WITH INOUT AS IMPLICIT",
        "functions",
        "the cast from text to integer is not of the server or an extension",
    ),
    Bypass(
        "ALTER FUNCTION l2_distance(vector, vector) SECURITY DEFINER",
        "functions",
        "the function public.l2_distance(public.vector,public.vector) passes for one of the",
    ),
    Bypass(
        f"{SCHEMA} CREATE FUNCTION aside.read(text) RETURNS text LANGUAGE internal"
        " AS 'pg_read_file_all'",
        "functions",
        "the function aside.read(text) is unchecked code (internal), and others may call it",
    ),
    Bypass(
        "CREATE OR REPLACE FUNCTION pg_catalog.current_setting(text, boolean) RETURNS text"
        " LANGUAGE sql STABLE AS $$ SELECT 'x' $$",
        "functions",
        "current_setting(text,boolean) is unexpected",
    ),
    Bypass(
        "CREATE OR REPLACE FUNCTION pg_catalog.lpad(text, integer) RETURNS text"
        " LANGUAGE sql IMMUTABLE AS $$ SELECT 'x' $$",
        "functions",
        "the server's function lpad(text,integer) is changed: another body",
    ),
    Bypass(
        "CREATE FUNCTION public.lower(varchar) RETURNS text LANGUAGE sql AS $$ SELECT '' $$",
        "functions",
        "the function public.lower(character varying) has the name of one of the server's",
    ),
    Bypass(
        "ALTER FUNCTION pg_read_file(text) SECURITY DEFINER",
        "functions",
        "the server's function pg_read_file(text) is not what the server brought",
    ),
    Bypass(
        "CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq)",
        "functions",
        "the operator public.=(text,text) stands where functions of ours look names",
    ),
    Bypass(
        f"{SCHEMA} CREATE FUNCTION aside.turn(text) RETURNS int LANGUAGE sql AS 'SELECT 1';"
        " CREATE CAST (text AS int) WITH FUNCTION aside.turn(text) AS IMPLICIT",
        "functions",
        "the cast from text to integer is not of the server or an extension",
    ),
    *(
        Bypass(statement, "functions", f"public.ailydian_new_id() is changed: {told}")
        for statement, told in (
            (
                "CREATE OR REPLACE FUNCTION ailydian_new_id() RETURNS text LANGUAGE sql AS"
                " $$ SELECT 'x' $$",
                "another body",
            ),
            (
                "CREATE OR REPLACE FUNCTION ailydian_new_id() RETURNS text LANGUAGE plpgsql AS"
                " $$ BEGIN RETURN 'x'; END $$",
                "plpgsql, another body, not sql",
            ),
            ("ALTER FUNCTION ailydian_new_id() STABLE", "s, not v"),
            (
                "ALTER FUNCTION ailydian_new_id() SECURITY DEFINER",
                "as its owner, not as its caller",
            ),
            ("ALTER FUNCTION ailydian_new_id() SET search_path = aside", "search_path=aside"),
            ("ALTER FUNCTION ailydian_new_id() STRICT", "strict"),
        )
    ),
    Bypass(
        "ALTER FUNCTION ailydian_new_id() OWNER TO CURRENT_USER",
        "owners",
        "public.ailydian_new_id() is postgres, not ailydian_owner: run ALTER",
    ),
    Bypass(
        "CREATE FUNCTION ailydian_late() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "functions",
        "public.ailydian_late() is unexpected",
    ),
    Bypass(
        "CREATE VIEW leak AS SELECT * FROM pg_authid; GRANT SELECT ON leak TO ailydian_app",
        "functions",
        "the view public.leak reads tables of the server as its owner postgres",
    ),
    Bypass(
        'CREATE SCHEMA aside; CREATE VIEW aside.leak AS SELECT * FROM public."Document";'
        " ALTER VIEW aside.leak OWNER TO ailydian_owner",
        "functions",
        "the view aside.leak reads tables of the schema as its owner ailydian_owner",
    ),
]

EVERY = [*SETTINGS, *RIGHTS, *FUNCTIONS, *OBJECTS, *DEFINITIONS]


def run(conn: psycopg.Connection, one: Bypass) -> None:
    """Do it, in the transaction that is open."""
    conn.execute("SET LOCAL search_path = public, pg_temp")
    conn.execute(placed(conn, one.statement).encode())
    conn.execute("RESET ROLE")


def told_in(conn: psycopg.Connection, one: Bypass) -> str:
    """What the line of `verify` must say of it."""
    return placed(conn, one.told)


def placed(conn: psycopg.Connection, text: str) -> str:
    """A statement or a sentence with the name of this database."""
    (database,) = conn.execute("SELECT quote_ident(current_database())").fetchone()
    return text.replace("{database}", database)
