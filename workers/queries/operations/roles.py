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
                                  WHERE c.oid = '"Document"'::regclass), 'MEMBER'))
"""

SELECT_UNPROTECTED: Final = """
    SELECT c.relname FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
      AND c.relname IN ('Document', 'DocumentChunk', 'ChunkEmbedding', 'ChunkVector', 'ChunkText',
                        'Message', 'MessageEmbedding', 'Job', 'Upload')
      AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
    ORDER BY 1
"""


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
    table = conn.execute(SELECT_UNPROTECTED).fetchone()
    if table is not None:
        raise ConfigurationBroken(
            f'The table "{table[0]}" has no enforced row level security: workers refuse to '
            f"start. Run `ailydian migrate`."
        )
