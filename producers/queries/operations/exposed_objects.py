"""Objects that get around the schema: functions, operators, publications, settings.

Each is a sentence and the statement that takes it away, as in exposed_rights.py. What belongs to
the superuser of a provider of managed servers is the provider's.
"""

from dataclasses import dataclass
from typing import Final

from shared.db import Connection


@dataclass(frozen=True, slots=True)
class ExposedObject:
    """A way around the schema; `check` is the line of `ailydian verify` that it belongs to."""

    check: str
    what: str
    remedy: str


# Functions that run as somebody who sees all rows, in whatever schema; those of the server that
# were turned into such; and those that come into the way of the names which our functions use.
SELECT_FUNCTIONS: Final = """
    WITH callers AS (
        SELECT r.oid FROM pg_roles r
        WHERE r.rolname IN ('ailydian_app', 'ailydian_relay', 'ailydian_audit_reader',
                            'ailydian_platform')
           OR NOT r.rolsuper AND NOT pg_has_role(r.oid, 'ailydian_owner', 'MEMBER')
              AND EXISTS (SELECT FROM pg_roles o WHERE o.rolname IN (
                              'ailydian_app', 'ailydian_relay', 'ailydian_audit_reader',
                              'ailydian_platform') AND pg_has_role(r.oid, o.oid, 'MEMBER'))
    ), providers AS (
        SELECT r.oid FROM pg_roles r WHERE r.oid = 10 AND r.rolname IN (
            'rdsadmin', 'cloudsqladmin', 'alloydbadmin', 'azuresu', 'supabase_admin', 'cloud_admin')
    ), functions AS (
        SELECT p.*, p.oid::regprocedure::text AS "name", n.nspname, l.lanname, l.lanpltrusted,
               (SELECT x.extname FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid
                WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
                   AS extension,
               o.rolname IN ('ailydian_owner', 'ailydian_app', 'ailydian_relay',
                             'ailydian_audit_reader', 'ailydian_platform') AS is_ours,
               -- Rows of any tenant: who acts as ailydian_app names the tenant.
               o.rolsuper OR o.rolbypassrls OR EXISTS (
                   SELECT FROM pg_roles r WHERE r.rolname IN (
                       'ailydian_owner', 'ailydian_app', 'ailydian_relay', 'ailydian_audit_reader',
                       'ailydian_platform') AND pg_has_role(o.oid, r.oid, 'MEMBER')) AS sees_rows
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        JOIN pg_language l ON l.oid = p.prolang JOIN pg_roles o ON o.oid = p.proowner
        WHERE p.oid >= 16384 AND p.proowner NOT IN (SELECT v.oid FROM providers v)
    )
    SELECT 'functions' AS "check",
           format('the function %s runs as its owner %s, and others may call it', f."name",
                  f.proowner::regrole) AS "what",
           format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC, or drop it', f."name") AS "remedy"
    FROM functions f
    WHERE f.prosecdef AND f.nspname <> 'public' AND f.extension IS NULL AND f.sees_rows
      AND f.prorettype <> 'event_trigger'::regtype
      AND (f.is_ours AND EXISTS (
              SELECT FROM aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
              WHERE a.grantee <> f.proowner)
           OR EXISTS (SELECT FROM callers c WHERE has_function_privilege(c.oid, f.oid, 'EXECUTE')))
    UNION ALL
    SELECT 'functions', format('the function %s passes for one of the extension %s', f."name",
                               f.extension),
           format('ALTER EXTENSION %s DROP FUNCTION %s, then drop it', f.extension, f."name")
    FROM functions f
    WHERE f.extension = 'vector' AND f.prokind <> 'a' AND (
              f.prosecdef OR f.lanname <> 'c' OR f.probin <> '$libdir/vector')
       OR f.extension IS NOT NULL AND f.is_ours AND (f.prosecdef OR f.extension = 'plpgsql')
    UNION ALL
    SELECT 'functions', format('the function %s is unchecked code (%s), and others may call it',
                               f."name", f.lanname),
           format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC, or drop it', f."name")
    FROM functions f
    WHERE f.extension IS NULL AND NOT f.lanpltrusted AND f.lanname <> 'sql'
      AND EXISTS (SELECT FROM callers c WHERE has_function_privilege(c.oid, f.oid, 'EXECUTE'))
    UNION ALL
    SELECT 'functions', format('the function %s has the name of one of the server''s', f."name"),
           format('DROP FUNCTION %s', f."name")
    FROM functions f
    WHERE f.extension IS NULL AND (f.nspname = 'pg_catalog' OR f.nspname = 'public' AND EXISTS (
        SELECT FROM pg_proc b WHERE b.proname = f.proname AND b.oid < 16384))
    UNION ALL
    SELECT 'functions', format('the server''s function %s is not what the server brought',
                               p.oid::regprocedure),
           'ALTER FUNCTION ... SECURITY INVOKER RESET ALL, or restore it from a new server'
    FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
    WHERE p.oid < 16384 AND (p.prosecdef OR p.proconfig IS NOT NULL
                             OR l.lanname NOT IN ('internal', 'c', 'sql'))
    UNION ALL
    SELECT 'functions', format('the operator %s stands where functions of ours look names up',
                               o.oid::regoperator), format('DROP OPERATOR %s', o.oid::regoperator)
    FROM pg_operator o
    WHERE o.oid >= 16384 AND o.oprnamespace IN ('public'::regnamespace, 'pg_catalog'::regnamespace)
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_operator'::regclass
                      AND d.objid = o.oid AND d.deptype = 'e')
    UNION ALL
    SELECT 'functions', format('the cast from %s to %s is not of the server or an extension',
                               format_type(c.castsource, NULL), format_type(c.casttarget, NULL)),
           format('DROP CAST (%s AS %s)', format_type(c.castsource, NULL),
                  format_type(c.casttarget, NULL))
    FROM pg_cast c
    WHERE c.oid >= 16384
      AND (c.castmethod <> 'i'
           OR c.castcontext = 'i' AND greatest(c.castsource, c.casttarget) < 16384)
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_cast'::regclass
                      AND d.objid = c.oid AND d.deptype = 'e')
    UNION ALL
    SELECT 'functions', format('the language %s is trusted', l.lanname),
           format('DROP LANGUAGE %I', l.lanname)
    FROM pg_language l
    WHERE l.lanpltrusted AND (l.lanname IN ('c', 'internal') OR l.lanname LIKE '%u')
    ORDER BY 1, 2
"""

# What runs by itself when a row or a table of the schema changes: expressions of columns,
# constraints, indexes and policies that call a function which is not of the schema.
SELECT_CALLS: Final = """
    WITH tables AS (
        SELECT c.oid, c.relname FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relowner = 'ailydian_owner'::regrole
          AND c.relkind IN ('r', 'p')
    ), expressions AS (
        SELECT t.relname, 'column ' || a.attname AS "name", 'pg_attrdef'::regclass AS class, d.oid
        FROM tables t JOIN pg_attrdef d ON d.adrelid = t.oid
        JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.adnum
        UNION ALL
        SELECT t.relname, 'constraint ' || k.conname, 'pg_constraint'::regclass, k.oid
        FROM tables t JOIN pg_constraint k ON k.conrelid = t.oid
        UNION ALL
        SELECT t.relname, 'index ' || i.indexrelid::regclass, 'pg_class'::regclass, i.indexrelid
        FROM tables t JOIN pg_index i ON i.indrelid = t.oid
        UNION ALL
        SELECT t.relname, 'policy ' || p.polname, 'pg_policy'::regclass, p.oid
        FROM tables t JOIN pg_policy p ON p.polrelid = t.oid
    )
    SELECT 'definitions' AS "check",
           format('%s of %s calls %s', e."name", e.relname, p.oid::regprocedure) AS "what",
           format('drop the %s', e."name") AS "remedy"
    FROM expressions e
    JOIN pg_depend d ON d.classid = e.class AND d.objid = e.oid
                    AND d.refclassid = 'pg_proc'::regclass
    JOIN pg_proc p ON p.oid = d.refobjid
    WHERE p.oid >= 16384 AND NOT (p.pronamespace = 'public'::regnamespace
                                  AND starts_with(p.proname, 'ailydian_'))
      AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_proc'::regclass
                      AND x.objid = p.oid AND x.deptype = 'e')
    UNION ALL
    SELECT 'triggers', format('the event trigger %s runs %s', quote_ident(g.evtname),
                              g.evtfoid::regprocedure), format('DROP EVENT TRIGGER %I', g.evtname)
    FROM pg_event_trigger g
    WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_event_trigger'::regclass
                      AND d.objid = g.oid AND d.deptype = 'e')
      AND g.evtowner NOT IN (
          SELECT r.oid FROM pg_roles r WHERE r.oid = 10 AND r.rolname IN (
              'rdsadmin', 'cloudsqladmin', 'alloydbadmin', 'azuresu', 'supabase_admin',
              'cloud_admin'))
    ORDER BY 1, 2
"""

# What takes rows of the schema out of the database, or brings others' in.
SELECT_REPLICATION: Final = """
    SELECT 'replication' AS "check",
           format('the publication %s hands out %s', quote_ident(p.pubname), CASE
                  WHEN p.puballtables THEN 'all tables' ELSE o.names END) AS "what",
           format('DROP PUBLICATION %I', p.pubname) AS "remedy"
    FROM pg_publication p
    LEFT JOIN LATERAL (
        SELECT string_agg(one."name", ', ' ORDER BY one."name") AS names FROM (
            SELECT c.relname::text AS "name" FROM pg_publication_rel r
            JOIN pg_class c ON c.oid = r.prrelid
            WHERE r.prpubid = p.oid AND c.relowner = 'ailydian_owner'::regrole
            UNION ALL
            SELECT 'the schema public' FROM pg_publication_namespace n
            WHERE n.pnpubid = p.oid AND n.pnnspid = 'public'::regnamespace
        ) one
    ) o ON true
    WHERE p.puballtables OR o.names IS NOT NULL
    UNION ALL
    SELECT 'replication', format('the subscription %s writes rows of another server',
                                 quote_ident(s.subname)),
           format('DROP SUBSCRIPTION %I', s.subname)
    FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
    WHERE d.datname = current_database()
    ORDER BY 1, 2
"""

# Settings that change who may do what, or what a statement means; `safe` is what is no fault.
# Those of our five roles are told with the roles.
SELECT_SETTINGS: Final = """
    WITH weak("name", safe) AS (VALUES
        ('session_replication_role', '^origin$'), ('row_security', '^on$'),
        ('search_path', '^("\\$user", *)?(pg_catalog, *)?public(,|$)'), ('role', '^none$'),
        ('session_authorization', '^$'), ('app.tenant_id', '^$'),
        ('local_preload_libraries', '^$'), ('session_preload_libraries', '^$'),
        ('dynamic_library_path', '^\\$libdir$'), ('allow_system_table_mods', '^off$'),
        ('transform_null_equals', '^off$'), ('lo_compat_privileges', '^off$'),
        ('plpgsql.variable_conflict', '^error$'), ('ignore_system_indexes', '^off$'),
        ('backslash_quote', '^safe_encoding$'), ('standard_conforming_strings', '^on$'),
        ('createrole_self_grant', '^$'), ('default_transaction_read_only', '^off$'),
        ('synchronous_commit', '^(on|local|remote_write|remote_apply)$'),
        ('plpgsql.check_asserts', '^on$'), ('array_nulls', '^on$')
    ), stored AS (
        SELECT s.setrole, s.setdatabase, lower(split_part(one, '=', 1)) AS "name",
               substr(one, strpos(one, '=') + 1) AS "value"
        FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) AS one
        WHERE s.setdatabase = 0
           OR s.setdatabase = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
    ), users AS (
        SELECT r.oid FROM pg_roles r WHERE r.rolname = current_setting('session_authorization')
        UNION ALL SELECT 0
        UNION ALL
        SELECT r.oid FROM pg_roles r WHERE NOT r.rolsuper AND EXISTS (
            SELECT FROM pg_roles o WHERE o.rolname IN (
                'ailydian_owner', 'ailydian_app', 'ailydian_relay', 'ailydian_audit_reader',
                'ailydian_platform') AND o.oid <> r.oid AND pg_has_role(r.oid, o.oid, 'MEMBER'))
    ), placed AS (
        SELECT s.*, concat('ALTER ',
                   CASE s.setrole WHEN 0 THEN
                       CASE s.setdatabase WHEN 0 THEN 'ROLE ALL' END
                   ELSE format('ROLE %s', s.setrole::regrole) END,
                   CASE WHEN s.setdatabase <> 0 THEN format(
                       CASE s.setrole WHEN 0 THEN 'DATABASE %I' ELSE ' IN DATABASE %I' END,
                       current_database()) END) AS place
        FROM stored s
    )
    SELECT 'settings' AS "check",
           format('%s SET %s = %s weakens what is promised', p.place, p."name", p."value")
               AS "what",
           format('%s RESET %s', p.place, p."name") AS "remedy"
    FROM placed p JOIN users u ON u.oid = p.setrole JOIN weak w ON w."name" = p."name"
    WHERE p."value" !~ w.safe
    UNION ALL
    SELECT 'settings', format('%s is %s for every new session', s.name, s.reset_val),
           format('ALTER SYSTEM RESET %s, and take it out of postgresql.conf and of options',
                  s.name)
    FROM pg_settings s JOIN weak w ON w."name" = s.name
    WHERE s.name IN ('session_replication_role', 'row_security', 'allow_system_table_mods',
                     'transform_null_equals', 'lo_compat_privileges', 'ignore_system_indexes',
                     'plpgsql.variable_conflict', 'standard_conforming_strings')
      AND s.reset_val !~ w.safe
      AND s.name NOT IN (SELECT p."name" FROM placed p JOIN users u ON u.oid = p.setrole)
    UNION ALL
    SELECT 'settings', format('app.tenant_id is %s for every new session',
                              current_setting('app.tenant_id', true)),
           'ALTER SYSTEM RESET app.tenant_id, and take it out of postgresql.conf and of options'
    WHERE current_setting('app.tenant_id', true) <> ''
    ORDER BY 1, 2
"""

# For readers of the report: no rule can say which of them are yours.
SELECT_LOGINS: Final = """
    SELECT 'may do everything: ' || string_agg(r.rolname, ', ' ORDER BY r.rolname) AS "line"
    FROM pg_roles r
    WHERE NOT starts_with(r.rolname, 'pg_') AND r.rolname <> 'ailydian_owner'
      AND (r.rolsuper OR r.rolbypassrls OR r.rolreplication
           OR pg_has_role(r.oid, 'ailydian_owner', 'MEMBER'))
    UNION ALL
    SELECT o.rolname || ': ' || string_agg(r.rolname, ', ' ORDER BY r.rolname)
    FROM pg_roles o JOIN pg_roles r ON r.oid <> o.oid AND NOT r.rolsuper
     AND pg_has_role(r.oid, o.oid, 'MEMBER')
    WHERE o.rolname IN ('ailydian_app', 'ailydian_relay', 'ailydian_audit_reader',
                        'ailydian_platform')
    GROUP BY o.rolname ORDER BY 1 DESC
"""


def select_functions(conn: Connection) -> list[ExposedObject]:
    """Functions, operators, casts and languages that get around the schema."""
    return [ExposedObject(*row) for row in conn.execute(SELECT_FUNCTIONS)]


def select_calls(conn: Connection) -> list[ExposedObject]:
    """Foreign functions that run when rows or tables of the schema change."""
    return [ExposedObject(*row) for row in conn.execute(SELECT_CALLS)]


def select_replication(conn: Connection) -> list[ExposedObject]:
    """Publications that hold tables of the schema, and subscriptions."""
    return [ExposedObject(*row) for row in conn.execute(SELECT_REPLICATION)]


def select_settings(conn: Connection) -> list[ExposedObject]:
    """Settings, stored or of the server, that weaken what the schema promises."""
    return [ExposedObject(*row) for row in conn.execute(SELECT_SETTINGS)]


def select_logins(conn: Connection) -> list[str]:
    """Logins that may do everything, and those that may act as each of our roles."""
    return [row[0] for row in conn.execute(SELECT_LOGINS)]
