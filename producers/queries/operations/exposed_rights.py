"""Rights that get around the schema: of the server, the database and its settings.

Each is a sentence and the statement that takes it away. Watched are PUBLIC, our roles, and the
logins that have one of them and may not act as the owner, who may do all of it anyway.
"""

from dataclasses import dataclass
from typing import Final

from shared.db import Connection


@dataclass(frozen=True, slots=True)
class ExposedRight:
    """A way around the schema; `check` is the line of `ailydian verify` that it belongs to."""

    check: str
    what: str
    remedy: str


# What initdb and an extension's script granted stands in pg_init_privs; all else has been granted
# later.
SELECT_SYSTEM_RIGHTS: Final = """
    WITH watched AS (
        SELECT 0::oid AS oid, 'PUBLIC' AS "name"
        UNION ALL
        SELECT r.oid, quote_ident(r.rolname) FROM pg_roles r
        WHERE r.rolname IN ('ailydian_owner', 'ailydian_app', 'ailydian_relay',
                            'ailydian_audit_reader', 'ailydian_platform')
           OR NOT r.rolsuper AND NOT pg_has_role(r.oid, 'ailydian_owner', 'MEMBER')
              AND EXISTS (SELECT FROM pg_roles o WHERE o.rolname IN (
                              'ailydian_app', 'ailydian_relay', 'ailydian_audit_reader',
                              'ailydian_platform') AND pg_has_role(r.oid, o.oid, 'MEMBER'))
    ), objects AS (
        SELECT 'FUNCTION' AS kind, p.oid::regprocedure::text AS "name", p.tableoid AS class, p.oid,
               0 AS part, p.proacl AS acl, acldefault('f', p.proowner) AS standard
        FROM pg_proc p
        WHERE p.oid < 16384 OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = p.tableoid
                                       AND d.objid = p.oid AND d.deptype = 'e')
        UNION ALL
        SELECT 'TABLE', c.oid::regclass::text, c.tableoid, c.oid, 0, c.relacl,
               acldefault('r', c.relowner)
        FROM pg_class c WHERE c.oid < 16384 AND c.relkind IN ('r', 'v')
        UNION ALL
        SELECT 'TABLE', c.oid::regclass || ' (' || quote_ident(a.attname) || ')', c.tableoid, c.oid,
               a.attnum, a.attacl, acldefault('c', c.relowner)
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.oid < 16384 AND a.attacl IS NOT NULL
        UNION ALL
        SELECT 'LANGUAGE', l.lanname, l.tableoid, l.oid, 0, l.lanacl, acldefault('l', l.lanowner)
        FROM pg_language l
        UNION ALL
        SELECT 'SCHEMA', n.nspname, n.tableoid, n.oid, 0, n.nspacl, acldefault('n', n.nspowner)
        FROM pg_namespace n WHERE n.oid < 16384 AND n.nspname <> 'public'
        UNION ALL
        SELECT 'FOREIGN DATA WRAPPER', quote_ident(f.fdwname), f.tableoid, f.oid, 0, f.fdwacl,
               acldefault('F', f.fdwowner)
        FROM pg_foreign_data_wrapper f
        UNION ALL
        SELECT 'FOREIGN SERVER', quote_ident(f.srvname), f.tableoid, f.oid, 0, f.srvacl,
               acldefault('S', f.srvowner)
        FROM pg_foreign_server f
        UNION ALL
        SELECT 'TABLESPACE', quote_ident(s.spcname), s.tableoid, s.oid, 0, s.spcacl,
               acldefault('t', s.spcowner)
        FROM pg_tablespace s
        UNION ALL
        SELECT 'LARGE OBJECT', m.oid::text, 'pg_largeobject'::regclass, m.oid, 0, m.lomacl,
               acldefault('L', m.lomowner)
        FROM pg_largeobject_metadata m
        UNION ALL
        SELECT 'PARAMETER', p.parname, p.tableoid, p.oid, 0, p.paracl, acldefault('p', 10)
        FROM pg_parameter_acl p
    ), granted AS (
        SELECT o.kind, o."name", w."name" AS grantee, a.privilege_type AS "right",
               a.is_grantable AND coalesce(b.grantable, false) IS FALSE AS passes_on,
               b.grantable IS NULL AS is_new
        FROM objects o
        LEFT JOIN pg_init_privs i ON i.classoid = o.class AND i.objoid = o.oid
                                 AND i.objsubid = o.part
        CROSS JOIN LATERAL aclexplode(coalesce(o.acl, o.standard)) a
        JOIN watched w ON w.oid = a.grantee
        LEFT JOIN LATERAL (
            SELECT bool_or(e.is_grantable) AS grantable
            FROM aclexplode(coalesce(i.initprivs, o.standard)) e
            WHERE e.grantee = a.grantee AND e.privilege_type = a.privilege_type
        ) b ON true
        WHERE o.acl IS NOT NULL OR i.initprivs IS NOT NULL
    )
    SELECT CASE g.kind WHEN 'PARAMETER' THEN 'settings' ELSE 'grants' END AS "check",
           format('%s has %s on the %s %s%s', g.grantee, string_agg(g."right", ', '),
                  lower(g.kind), g."name", CASE WHEN bool_or(g.passes_on)
                  THEN ' and may grant it' END) AS "what",
           format('REVOKE %s ON %s %s FROM %s', string_agg(g."right", ', '), g.kind, g."name",
                  g.grantee) AS "remedy"
    FROM granted g
    -- initdb notes no rights of information_schema, which everybody may read.
    WHERE (g.is_new OR g.passes_on) AND NOT (
        g.grantee = 'PUBLIC' AND starts_with(g."name", 'information_schema')
        AND g."right" IN ('SELECT', 'USAGE'))
    GROUP BY g.kind, g."name", g.grantee
    ORDER BY 1, 2
"""

# The database and its schemas. A schema named as a role comes before public for sessions that act
# as it.
SELECT_DATABASE_RIGHTS: Final = """
    WITH watched AS (
        SELECT 0::oid AS oid, 'PUBLIC' AS "name", false AS trusted
        UNION ALL
        SELECT r.oid, quote_ident(r.rolname), r.rolsuper OR (
                   r.rolname NOT IN ('ailydian_app', 'ailydian_relay', 'ailydian_audit_reader',
                                     'ailydian_platform')
                   AND (pg_has_role(r.oid, 'ailydian_owner', 'MEMBER')
                        OR EXISTS (SELECT FROM pg_roles s
                                   WHERE s.rolname = current_setting('session_authorization')
                                     AND NOT s.rolsuper AND pg_has_role(s.oid, r.oid, 'MEMBER'))))
        FROM pg_roles r
    ), users AS (
        SELECT w.oid FROM watched w WHERE w.oid = 0 OR EXISTS (
            SELECT FROM pg_roles o WHERE o.rolname IN (
                'ailydian_owner', 'ailydian_app', 'ailydian_relay', 'ailydian_audit_reader',
                'ailydian_platform')
            AND (o.oid = w.oid OR NOT w.trusted AND pg_has_role(w.oid, o.oid, 'MEMBER')))
    ), base AS (
        SELECT d.*, quote_ident(d.datname) AS "name" FROM pg_database d
        WHERE d.datname = current_database()
    )
    SELECT 'owners' AS "check",
           format('the database %s is owned by %s, who may replace what is in it',
                  b."name", w."name") AS "what",
           format('ALTER DATABASE %s OWNER TO ailydian_owner', b."name") AS "remedy"
    FROM base b JOIN watched w ON w.oid = b.datdba WHERE NOT w.trusted
    UNION ALL
    SELECT 'owners', format('the database %s is a template: roles that create databases copy it',
                            b."name"),
           format('ALTER DATABASE %s IS_TEMPLATE false', b."name")
    FROM base b WHERE b.datistemplate
    UNION ALL
    SELECT 'grants', format('%s has %s on the database %s%s', w."name", a.privilege_type, b."name",
                            CASE WHEN a.is_grantable THEN ' and may grant it' END),
           format('REVOKE %s ON DATABASE %s FROM %s', a.privilege_type, b."name", w."name")
    FROM base b CROSS JOIN aclexplode(b.datacl) a JOIN watched w ON w.oid = a.grantee
    JOIN users u ON u.oid = a.grantee
    WHERE a.grantee <> b.datdba AND (a.is_grantable OR a.privilege_type = 'CREATE'
          OR a.privilege_type = 'TEMPORARY' AND a.grantee <> 0)
    UNION ALL
    SELECT 'owners', format('the schema public is owned by %s, who may replace what is in it',
                            w."name"), 'ALTER SCHEMA public OWNER TO pg_database_owner'
    FROM pg_namespace n JOIN watched w ON w.oid = n.nspowner
    WHERE n.nspname = 'public' AND NOT w.trusted AND w."name" <> 'pg_database_owner'
    UNION ALL
    SELECT 'grants', format('%s has CREATE on the schema public', w."name"),
           format('REVOKE CREATE ON SCHEMA public FROM %s', w."name")
    FROM pg_namespace n CROSS JOIN aclexplode(n.nspacl) a JOIN watched w ON w.oid = a.grantee
    WHERE n.nspname = 'public' AND a.privilege_type = 'CREATE' AND a.grantee <> n.nspowner
      AND NOT w.trusted AND w."name" NOT IN (
          'PUBLIC', 'ailydian_app', 'ailydian_relay', 'ailydian_audit_reader', 'ailydian_platform')
    UNION ALL
    SELECT 'owners', format('the schema %s comes before public for sessions that act as %1$s',
                            quote_ident(n.nspname)),
           format('DROP SCHEMA %I CASCADE', n.nspname)
    FROM pg_namespace n WHERE n.nspname IN ('ailydian_owner', 'ailydian_app', 'ailydian_relay',
                                            'ailydian_audit_reader', 'ailydian_platform')
    UNION ALL
    SELECT 'grants', format('%s will have %s on new objects (%s) of %s', w."name", a.privilege_type,
                            d.defaclobjtype, d.defaclrole::regrole),
           format('ALTER DEFAULT PRIVILEGES FOR ROLE %s %sREVOKE %s ON %s FROM %s',
                  d.defaclrole::regrole, 'IN SCHEMA ' || quote_ident(n.nspname) || ' ',
                  a.privilege_type, CASE d.defaclobjtype WHEN 'r' THEN 'TABLES'
                  WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS' WHEN 'T' THEN 'TYPES'
                  WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END, w."name")
    FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
    CROSS JOIN aclexplode(d.defaclacl) a JOIN watched w ON w.oid = a.grantee
    JOIN users u ON u.oid = a.grantee
    WHERE d.defaclrole <> 'ailydian_owner'::regrole AND a.grantee <> d.defaclrole
      AND coalesce(n.nspname, 'public') = 'public' AND NOT (
          d.defaclnamespace = 0 AND NOT a.is_grantable AND d.defaclobjtype IN ('f', 'T')
          AND a.grantee = 0 AND a.privilege_type IN ('EXECUTE', 'USAGE'))
    UNION ALL
    SELECT 'grants', format('%s is mapped to a user of the foreign server %s', w."name", m.srvname),
           format('DROP USER MAPPING FOR %s SERVER %I', w."name", m.srvname)
    FROM pg_user_mappings m JOIN watched w ON w.oid = m.umuser JOIN users u ON u.oid = m.umuser
    ORDER BY 1, 2
"""

# Logins that have a role of ours: what they are besides.
SELECT_LOGIN_RIGHTS: Final = """
    WITH RECURSIVE held(oid, "name") AS (
        SELECT m.member, NULL::text FROM pg_auth_members m JOIN pg_roles o ON o.oid = m.roleid
        WHERE o.rolname IN ('ailydian_owner', 'ailydian_app', 'ailydian_relay',
                            'ailydian_audit_reader', 'ailydian_platform')
        UNION
        SELECT m.member, NULL FROM pg_auth_members m JOIN held h ON h.oid = m.roleid
    ), logins AS (
        SELECT r.*, quote_ident(r.rolname) AS "name",
               pg_has_role(r.oid, 'ailydian_owner', 'MEMBER') AS owns
        FROM pg_roles r JOIN held h ON h.oid = r.oid
        WHERE r.rolname NOT IN ('ailydian_owner', 'ailydian_app', 'ailydian_relay',
                                'ailydian_audit_reader', 'ailydian_platform')
          AND NOT (r.rolsuper AND r.rolname = current_setting('session_authorization'))
    )
    SELECT 'memberships' AS "check",
           format('%s has a role of ours and %s', l."name", a.attribute) AS "what",
           format('ALTER ROLE %s %s', l."name", a.remedy) AS "remedy"
    FROM logins l CROSS JOIN LATERAL (VALUES
        ('is a superuser', 'NOSUPERUSER', l.rolsuper),
        ('bypasses row level security', 'NOBYPASSRLS', l.rolbypassrls AND NOT l.owns),
        ('can replicate the whole server', 'NOREPLICATION', l.rolreplication AND NOT l.owns),
        ('can create roles', 'NOCREATEROLE', l.rolcreaterole AND NOT l.owns)
    ) a(attribute, remedy, holds) WHERE a.holds
    UNION ALL
    SELECT 'memberships', format('%s has a role of ours and may act as %s', l."name", p.rolname),
           format('REVOKE %s FROM %s', p.rolname, l."name")
    FROM logins l JOIN pg_roles p ON pg_has_role(l.oid, p.oid, 'MEMBER')
    WHERE NOT l.rolsuper AND (
        p.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files')
        OR NOT l.owns AND p.rolname IN ('pg_read_all_data', 'pg_write_all_data', 'pg_maintain',
                                        'pg_create_subscription'))
    UNION ALL
    -- Direct members are told with the roles.
    SELECT 'memberships', format('%s has ailydian_platform and may act as %s by way of others',
                                 l."name", o.rolname),
           format('REVOKE what leads to %s from %s', o.rolname, l."name")
    FROM logins l JOIN pg_roles p ON p.rolname = 'ailydian_platform'
    JOIN pg_roles o ON o.rolname IN ('ailydian_owner', 'ailydian_app', 'ailydian_relay',
                                     'ailydian_audit_reader')
    WHERE NOT l.rolsuper AND l.rolname <> current_setting('session_authorization')
      AND pg_has_role(l.oid, p.oid, 'MEMBER') AND pg_has_role(l.oid, o.oid, 'MEMBER')
      AND (SELECT count(*) FROM pg_auth_members m
           WHERE m.member = l.oid AND m.roleid IN (p.oid, o.oid)) < 2
    UNION ALL
    SELECT 'memberships', format('%s may grant %s to others', l."name", o.rolname),
           format('REVOKE ADMIN OPTION FOR %s FROM %s', o.rolname, l."name")
    FROM logins l JOIN pg_auth_members m ON m.member = l.oid AND m.admin_option
    JOIN pg_roles o ON o.oid = m.roleid
    WHERE o.rolname IN ('ailydian_owner', 'ailydian_app', 'ailydian_relay',
                        'ailydian_audit_reader', 'ailydian_platform')
      AND NOT l.rolcreaterole AND NOT l.rolsuper
    ORDER BY 1, 2
"""


def select_system_rights(conn: Connection) -> list[ExposedRight]:
    """Rights on what the server and its extensions brought, and on its parameters."""
    return [ExposedRight(*row) for row in conn.execute(SELECT_SYSTEM_RIGHTS)]


def select_database_rights(conn: Connection) -> list[ExposedRight]:
    """Who owns the database and may make objects in it, now or by default."""
    return [ExposedRight(*row) for row in conn.execute(SELECT_DATABASE_RIGHTS)]


def select_login_rights(conn: Connection) -> list[ExposedRight]:
    """What the logins that have a role of ours are besides."""
    return [ExposedRight(*row) for row in conn.execute(SELECT_LOGIN_RIGHTS)]
