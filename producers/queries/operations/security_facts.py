"""Who may do what in this database: policies, grants, owners, functions, roles; from the catalogue.

Facts are lines of text without object ids, the same on every supported version of PostgreSQL, so
that they can be compared with those of a database that schema.sql has just made.
"""

from dataclasses import dataclass
from typing import Final

from shared.db import Connection


@dataclass(frozen=True, slots=True)
class SecurityFact:
    """One fact of an object; `check` is the line of `ailydian verify` that it belongs to."""

    check: str
    object: str
    name: str
    fact: str


@dataclass(frozen=True, slots=True)
class RoleRights:
    """A role of ours: what it is, what it may act as, and who may act as it."""

    name: str
    attributes: tuple[str, ...]
    acts_as: tuple[str, ...]
    members: tuple[str, ...]
    settings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LooseObject:
    """An object that is not of the schema and gets around its row level security."""

    kind: str
    name: str
    why: str


# Found by their schemas, whatever the session's search path.
QUALIFY_NAMES: Final = """
    SELECT pg_catalog.set_config('search_path', 'pg_catalog', true)
"""

# What is read by its text must not depend on how a session prints it.
PRINT_BY_DEFAULT: Final = """
    SELECT pg_catalog.set_config(s."name", s."value", true)
    FROM (VALUES ('quote_all_identifiers', 'off'), ('intervalstyle', 'postgres'),
                 ('datestyle', 'ISO, MDY'), ('timezone', 'UTC'), ('extra_float_digits', '1'),
                 ('bytea_output', 'hex'), ('standard_conforming_strings', 'on')) s("name", "value")
"""

# The transaction has a tenant; what is left then is what a new session has.
FORGET_TENANT: Final = """
    SET LOCAL app.tenant_id TO DEFAULT
"""

# The owner's own rights are left out: it has them all. Versions differ in what they list there.
SELECT_FACTS: Final = """
    WITH tables AS (
        SELECT c.oid, c.relname::text AS "name", c.relkind, c.relowner, c.relacl,
               c.relrowsecurity, c.relforcerowsecurity
        FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace
          AND c.relkind IN ('r', 'p', 'S', 'v', 'm', 'f')
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                          AND d.objid = c.oid AND d.deptype = 'e')
    ), functions AS (
        SELECT p.*, p.oid::regprocedure::text AS "name" FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                          AND d.objid = p.oid AND d.deptype = 'e')
    ), rights("check", "object", "name", grantee, "right") AS (
        SELECT 'grants', t."name", t."name", a.grantee,
               a.privilege_type || CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
        FROM tables t, aclexplode(t.relacl) a WHERE a.grantee <> t.relowner
        UNION ALL
        SELECT 'grants', t."name", t."name" || '.' || c.attname, a.grantee,
               a.privilege_type || CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
        FROM tables t JOIN pg_attribute c ON c.attrelid = t.oid, aclexplode(c.attacl) a
        UNION ALL
        SELECT 'functions', f."name", f."name", a.grantee,
               a.privilege_type || CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
        FROM functions f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
        WHERE a.grantee <> f.proowner
        UNION ALL
        SELECT 'grants', '', 'new ' || d.defaclobjtype::text, a.grantee, a.privilege_type
        FROM pg_default_acl d, aclexplode(d.defaclacl) a
        WHERE d.defaclrole = 'ailydian_owner'::regrole AND a.grantee <> d.defaclrole
        UNION ALL
        SELECT 'grants', '', 'new f', 0, 'EXECUTE' WHERE NOT EXISTS (
            SELECT FROM pg_default_acl d WHERE d.defaclrole = 'ailydian_owner'::regrole
              AND d.defaclobjtype = 'f' AND d.defaclnamespace = 0)
        UNION ALL
        SELECT 'grants', '', 'schema public', a.grantee, 'CREATE'
        FROM pg_namespace n, aclexplode(n.nspacl) a
        WHERE n.nspname = 'public' AND a.privilege_type = 'CREATE' AND (a.grantee = 0
              OR a.grantee::regrole::text IN ('ailydian_app', 'ailydian_relay',
                                              'ailydian_audit_reader', 'ailydian_platform'))
    )
    SELECT "check", "object", "name" || ' to ' || CASE grantee WHEN 0 THEN 'PUBLIC'
               ELSE grantee::regrole::text END AS "name",
           string_agg("right", ', ' ORDER BY "right") AS "fact"
    FROM rights GROUP BY "check", "object", rights."name", grantee
    UNION ALL
    SELECT 'policies', t."name", t."name", concat_ws(' ',
           CASE WHEN t.relrowsecurity THEN 'enabled' ELSE 'disabled' END,
           CASE WHEN t.relforcerowsecurity THEN 'forced' ELSE 'not forced' END)
    FROM tables t WHERE t.relkind IN ('r', 'p')
    UNION ALL
    SELECT 'policies', t."name", t."name" || ' policy ' || p.polname, concat_ws(' | ',
           CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END, p.polcmd::text,
           (SELECT string_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE r::regrole::text END, ', '
                              ORDER BY r::regrole::text) FROM unnest(p.polroles) r),
           'sees ' || coalesce(pg_get_expr(p.polqual, p.polrelid), '-'),
           'writes ' || coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '-'))
    FROM tables t JOIN pg_policy p ON p.polrelid = t.oid
    UNION ALL
    SELECT 'owners', t."name", t."name", t.relowner::regrole::text FROM tables t
    UNION ALL
    SELECT 'owners', f."name", f."name", f.proowner::regrole::text FROM functions f
    UNION ALL
    SELECT 'owners', 'type ' || t.typname, 'type ' || t.typname, t.typowner::regrole::text
    FROM pg_type t WHERE t.typnamespace = 'public'::regnamespace AND t.typtype IN ('d', 'e')
    UNION ALL
    SELECT 'triggers', t."name", t."name" || ' trigger ' || g.tgname,
           concat_ws(' | ', g.tgenabled::text, pg_get_triggerdef(g.oid))
    FROM tables t JOIN pg_trigger g ON g.tgrelid = t.oid AND NOT g.tgisinternal
    UNION ALL
    SELECT 'triggers', t."name", t."name" || ' rule ' || r.rulename, pg_get_ruledef(r.oid)
    FROM tables t JOIN pg_rewrite r ON r.ev_class = t.oid WHERE t.relkind IN ('r', 'p')
    UNION ALL
    SELECT 'functions', f."name", f."name", concat_ws(' | ',
           CASE f.prokind WHEN 'f' THEN '' ELSE 'kind ' || f.prokind::text || ' ' END
               || pg_get_function_arguments(f.oid),
           pg_get_function_result(f.oid), l.lanname,
           CASE WHEN f.prosecdef THEN 'as its owner' ELSE 'as its caller' END, f.provolatile::text,
           CASE WHEN f.proleakproof THEN 'leakproof' END, CASE WHEN f.proisstrict THEN 'strict' END,
           'parallel ' || f.proparallel::text,
           CASE WHEN f.prosupport <> 0 THEN 'support ' || f.prosupport::regproc END,
           nullif(array_to_string(f.proconfig, ', '), ''),
           md5(concat_ws(' ', f.prosrc, f.probin, pg_get_function_sqlbody(f.oid))))
    FROM functions f JOIN pg_language l ON l.oid = f.prolang
    UNION ALL
    -- A function of the server that is replaced becomes one in SQL, if it is to take effect. Which
    -- ones are in SQL is known of the versions that are tested, and of those between them.
    SELECT 'functions', 'the server', p.oid::regprocedure::text,
           md5(concat_ws(' ', p.prosrc, pg_get_function_sqlbody(p.oid)))
    FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
    WHERE p.oid < 16384 AND l.lanname = 'sql' AND p.pronamespace = 'pg_catalog'::regnamespace
      AND current_setting('server_version_num')::int < 190000
    ORDER BY 1, 2, 3, 4
"""

SELECT_ROLE_RIGHTS: Final = """
    SELECT r.rolname AS "name", array_remove(ARRAY[
               CASE WHEN r.rolsuper THEN 'is a superuser' END,
               CASE WHEN r.rolbypassrls THEN 'bypasses row level security' END,
               CASE WHEN r.rolcanlogin THEN 'can log in' END,
               CASE WHEN r.rolcreaterole THEN 'can create roles' END,
               CASE WHEN r.rolcreatedb THEN 'can create databases' END,
               CASE WHEN r.rolreplication THEN 'can replicate' END], NULL) AS "attributes",
           ARRAY(SELECT m.roleid::regrole::text FROM pg_auth_members m
                 WHERE m.member = r.oid ORDER BY 1) AS "actsAs",
           ARRAY(SELECT m.member::regrole::text FROM pg_auth_members m
                 WHERE m.roleid = r.oid ORDER BY 1) AS "members",
           ARRAY(SELECT unnest(s.setconfig) FROM pg_db_role_setting s
                 WHERE s.setrole = r.oid ORDER BY 1) AS "settings"
    FROM pg_roles r
    WHERE r.rolname IN ('ailydian_owner', 'ailydian_app', 'ailydian_relay',
                        'ailydian_audit_reader', 'ailydian_platform')
    ORDER BY r.rolname
"""

# A view reads as its owner; where that sees all rows, so does whoever may read the view. The same
# holds for a function that runs as its owner, in the schema where ours are.
SELECT_LOOSE_OBJECTS: Final = """
    WITH RECURSIVE seers AS (
        -- Who acts as ailydian_app names the tenant.
        SELECT r.oid FROM pg_roles r WHERE r.rolsuper OR r.rolbypassrls OR r.rolname IN (
            'ailydian_owner', 'ailydian_app', 'ailydian_relay', 'ailydian_audit_reader',
            'ailydian_platform')
        UNION
        SELECT m.member FROM pg_auth_members m JOIN seers s ON s.oid = m.roleid
    ), readers AS (
        SELECT v.oid, 'tables of the schema' AS what FROM pg_class t
        JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid
                        AND d.classid = 'pg_rewrite'::regclass
        JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
        WHERE t.relowner = 'ailydian_owner'::regrole AND t.relkind IN ('r', 'p')
          AND v.relkind IN ('v', 'm')
        UNION
        -- Nothing is noted to depend on tables of the server.
        SELECT v.oid, 'tables of the server' FROM pg_rewrite w JOIN pg_class v ON v.oid = w.ev_class
        WHERE v.oid >= 16384 AND NOT EXISTS (
            SELECT FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid
            WHERE d.classid = 'pg_class'::regclass AND d.objid = v.oid AND d.deptype = 'e'
              AND x.extname <> 'vector') AND EXISTS (
            SELECT FROM unnest('{pg_authid,pg_shadow,pg_statistic,pg_user_mapping,pg_largeobject,
                                 pg_subscription}'::regclass[]) one
            WHERE w.ev_action::text ~ format(':relid %s ', one::oid))
        UNION
        SELECT v.oid, r.what FROM readers r
        JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = r.oid
                        AND d.classid = 'pg_rewrite'::regclass
        JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class
        WHERE v.oid <> r.oid
    )
    SELECT CASE v.relkind WHEN 'm' THEN 'materialized view' ELSE 'view' END AS "kind",
           v.oid::regclass::text AS "name",
           format('reads %s as its owner %s', r.what, v.relowner::regrole) AS "why"
    FROM readers r JOIN pg_class v ON v.oid = r.oid
    WHERE v.relowner IN (SELECT s.oid FROM seers s)
      AND NOT coalesce('security_invoker=true' = ANY(v.reloptions)
                       OR 'security_invoker=on' = ANY(v.reloptions), false)
      AND (v.relowner = 'ailydian_owner'::regrole OR EXISTS (
          SELECT FROM aclexplode(v.relacl) a WHERE a.grantee <> v.relowner
          UNION ALL
          SELECT FROM pg_attribute c, aclexplode(c.attacl) a WHERE c.attrelid = v.oid))
    UNION ALL
    SELECT 'function', p.oid::regprocedure::text,
           'runs as its owner ' || p.proowner::regrole || ', and others may call it'
    FROM pg_proc p
    WHERE p.prosecdef AND p.pronamespace = 'public'::regnamespace
      AND NOT starts_with(p.proname, 'ailydian_')
      AND p.proowner IN (SELECT s.oid FROM seers s) AND NOT EXISTS (
          SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
            AND d.objid = p.oid AND d.deptype = 'e')
      AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
                  WHERE a.grantee <> p.proowner)
    ORDER BY 1, 2
"""

SELECT_USER: Final = """
    SELECT current_setting('session_authorization')
"""

# Columns of a table that is not of the schema by which its rows belong to tenants.
SELECT_TENANT_TABLES: Final = """
    SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
      AND a.attname = 'tenantId' AND NOT a.attisdropped
    ORDER BY c.relname
"""


def qualify_names(conn: Connection) -> None:
    """Have names printed with their schema until the transaction ends."""
    conn.execute(QUALIFY_NAMES)


def print_by_default(conn: Connection) -> None:
    """Have names and values printed as a new server does until the transaction ends."""
    conn.execute(PRINT_BY_DEFAULT)


def forget_tenant(conn: Connection) -> None:
    """Have the tenant that the session began with until the transaction ends."""
    conn.execute(FORGET_TENANT)


def select_facts(conn: Connection) -> list[SecurityFact]:
    """Every policy, grant, owner, trigger and function; what an extension made is left out."""
    return [SecurityFact(*row) for row in conn.execute(SELECT_FACTS)]


def select_role_rights(conn: Connection) -> list[RoleRights]:
    """The five roles."""
    return [
        RoleRights(name, tuple(attributes), tuple(acts_as), tuple(members), tuple(settings))
        for name, attributes, acts_as, members, settings in conn.execute(SELECT_ROLE_RIGHTS)
    ]


def select_loose_objects(conn: Connection) -> list[LooseObject]:
    """Views and functions that show rows of the schema to more than may see them."""
    return [LooseObject(*row) for row in conn.execute(SELECT_LOOSE_OBJECTS)]


def select_tenant_tables(conn: Connection) -> set[str]:
    """The tables with a column "tenantId"."""
    return {row[0] for row in conn.execute(SELECT_TENANT_TABLES)}


def select_user(conn: Connection) -> str:
    """The connected user, whatever role it has taken."""
    row = conn.execute(SELECT_USER).fetchone()
    return "" if row is None else str(row[0])
