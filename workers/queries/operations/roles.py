"""Checks that the database roles keep tenants apart."""

from typing import Final

from shared.db import Connection
from shared.errors import ConfigurationBroken

SELECT_BYPASSES: Final = """
    SELECT r.rolname AS "role",
           CASE WHEN r.rolsuper THEN 'is a superuser' WHEN r.rolbypassrls THEN 'has BYPASSRLS'
                ELSE 'owns the tables' END AS "power"
    FROM pg_roles r
    WHERE r.rolname IN ('ailydian_app', 'ailydian_relay')
      AND (r.rolsuper OR r.rolbypassrls
           OR pg_has_role(r.oid, (SELECT c.relowner FROM pg_class c
                                  WHERE c.oid = to_regclass('public."Document"')), 'MEMBER'))
"""

SELECT_MISSING: Final = """
    SELECT 'table "' || t."name" || '"' AS "thing"
    FROM unnest(%(tables)s::text[]) AS t("name")
    WHERE to_regclass(format('public.%%I', t."name")) IS NULL
    UNION ALL
    SELECT 'function ' || f."name" FROM unnest(%(functions)s::text[]) AS f("name")
    WHERE NOT EXISTS (SELECT FROM pg_proc p WHERE p.proname = f."name"
                      AND p.pronamespace = 'public'::regnamespace)
    LIMIT 1
"""

SELECT_UNPROTECTED: Final = """
    SELECT c.relname FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
      AND c.relname = ANY(%(tables)s::text[])
      AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
    ORDER BY 1
"""


def refuse_if_schema_lacks(conn: Connection, tables: list[str], functions: list[str]) -> None:
    """Make sure that this version's tables and functions are there, and the tables protected.

    Raises:
        ConfigurationBroken: One is missing, or has no enforced row level security.
    """
    missing = conn.execute(SELECT_MISSING, {"tables": tables, "functions": functions}).fetchone()
    if missing is not None:
        raise ConfigurationBroken(
            f"The database has no {missing[0]}: its schema is older than this version, or half "
            f"migrated. Workers refuse to start. Run `ailydian migrate`."
        )
    table = conn.execute(SELECT_UNPROTECTED, {"tables": tables}).fetchone()
    if table is not None:
        raise ConfigurationBroken(
            f'The table "{table[0]}" has no enforced row level security: workers refuse to '
            f"start. Run `ailydian migrate`."
        )


def refuse_if_policies_are_bypassed(conn: Connection) -> None:
    """Make sure that row level security binds the role that does the work.

    Raises:
        ConfigurationBroken: The role could see every tenant's rows; the message says why.
    """
    bypass = conn.execute(SELECT_BYPASSES).fetchone()
    if bypass is not None:
        role, power = bypass
        raise ConfigurationBroken(
            f"The role {role} {power}, so row level security would not bind it: "
            f"workers refuse to start. Run `ailydian verify` and mend the role."
        )
