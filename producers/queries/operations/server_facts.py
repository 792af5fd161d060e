"""Facts about the Postgres server itself: its settings, and how functions of ours use them."""

from typing import Final

from shared.db import Connection

SELECT_COMPILED_FUNCTIONS: Final = """
    SELECT proname AS "name" FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace AND starts_with(proname, 'ailydian_')
      AND EXISTS (SELECT 1 FROM unnest(proconfig) AS setting
                  WHERE setting ~ '^enable_\\w+=off$')
      AND NOT coalesce('jit=off' = ANY (proconfig), false)
    ORDER BY proname
"""

SELECT_JIT: Final = """
    SELECT current_setting('jit')
"""


def select_compiled_functions(conn: Connection) -> list[str]:
    """Functions of ours that switch plans off and leave jit as it is."""
    return [name for (name,) in conn.execute(SELECT_COMPILED_FUNCTIONS)]


def select_jit(conn: Connection) -> str:
    """The setting `jit` in this transaction."""
    row = conn.execute(SELECT_JIT).fetchone()
    assert row is not None, "a select without a table yields a row"
    return str(row[0])


SELECT_READ_ONLY: Final = """
    SELECT current_setting('transaction_read_only')::boolean
"""


def is_read_only(conn: Connection) -> bool:
    """Whether this transaction may not write: on a standby, or by a setting."""
    row = conn.execute(SELECT_READ_ONLY).fetchone()
    return row is not None and bool(row[0])


# Those that superusers and others keep for themselves cannot be had.
SELECT_CONNECTIONS_MAX: Final = """
    SELECT current_setting('max_connections')::int
           - current_setting('superuser_reserved_connections')::int
           - coalesce(current_setting('reserved_connections', true), '0')::int
"""


def select_connections_max(conn: Connection) -> int:
    """How many connections users like ours can have together."""
    row = conn.execute(SELECT_CONNECTIONS_MAX).fetchone()
    assert row is not None, "a select without a table yields a row"
    return int(row[0])


SELECT_ROLES_ALIVE: Final = """
    SELECT "role", "threads" FROM "WorkerProcess" WHERE "seenAt" > now() - interval '1 minute'
"""


def select_roles_alive(conn: Connection) -> list[tuple[str, int]]:
    """The processes heard of within a minute, as role and threads."""
    return [(role, threads) for role, threads in conn.execute(SELECT_ROLES_ALIVE)]
