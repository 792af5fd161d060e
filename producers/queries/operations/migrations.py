"""The scripts applied to a database, and its registered contracts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Final

from psycopg import sql

from shared.db import Connection

# The lock is the transaction's: it ends with it, behind a pooler too. Asked for again and again: a
# statement that waits for it has a snapshot, and for that the holder's CREATE INDEX CONCURRENTLY
# would wait, each for the other.
TRY_LOCK: Final = """
    SELECT pg_try_advisory_xact_lock(hashtext('ailydian'), hashtext('migrate'))
"""

# Its holder does nothing else while it waits for the migration's own transactions.
KEEP: Final = """
    SELECT set_config('idle_in_transaction_session_timeout', '0', true)
"""

EXISTS: Final = """
    SELECT to_regclass('public."SchemaMigration"') IS NOT NULL
"""

IS_NEW: Final = """
    SELECT to_regclass('public."Tenant"') IS NULL
"""

SELECT_APPLIED: Final = """
    SELECT "version", "sha256" FROM "SchemaMigration" ORDER BY "version"
"""

NOTE: Final = """
    INSERT INTO "SchemaMigration" ("version", "sha256") VALUES (%(version)s, %(sha256)s)
    ON CONFLICT ("version") DO UPDATE SET "sha256" = excluded."sha256", "appliedAt" = now()
"""

FORGET: Final = """
    DELETE FROM "SchemaMigration" WHERE "version" = %(version)s
"""

# As the whole script begins; `end.sql` takes it back. A body may name what comes after it.
PREPARE_SESSION: Final = """
    SELECT set_config('client_min_messages', 'warning', true),
           set_config('search_path', 'public, pg_temp', true),
           set_config('check_function_bodies', 'off', true)
"""

LIMIT_TIME: Final = """
    SELECT set_config('lock_timeout', %(lock_ms)s::int::text, true),
           set_config('statement_timeout', %(statement_ms)s::int::text, true)
"""

# What a function is, and which writing of it: the second changes when it is written again.
SELECT_FUNCTIONS: Final = """
    SELECT p.oid::regprocedure::text AS "signature", concat_ws(' ', p.xmin, p.ctid) AS "writing"
    FROM pg_proc p
    WHERE p.pronamespace = 'public'::regnamespace AND p.proname = %(name)s
"""

PUT_JOB_KIND: Final = """
    INSERT INTO "JobKind" ("job", "queue", "schemaVersion", "attemptsMax", "audience")
    VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT ("job") DO UPDATE
    SET "queue" = excluded."queue", "schemaVersion" = excluded."schemaVersion",
        "attemptsMax" = excluded."attemptsMax", "audience" = excluded."audience"
"""

SET_OWNER: Final = """
    SET LOCAL ROLE ailydian_owner
"""

RESET_ROLE: Final = """
    RESET ROLE
"""


@contextmanager
def as_owner(conn: Connection) -> Iterator[None]:
    """Write in the owner's role while the block runs."""
    conn.execute(SET_OWNER)
    yield
    conn.execute(RESET_ROLE)


def try_lock(conn: Connection) -> bool:
    """Whether no other migration runs; the lock is freed with the transaction."""
    conn.execute(KEEP)
    row = conn.execute(TRY_LOCK).fetchone()
    return row is not None and bool(row[0])


def select_applied(conn: Connection) -> dict[str, str]:
    """The scripts applied so far, with their hashes; empty before the first."""
    found = conn.execute(EXISTS).fetchone()
    if found is None or not found[0]:
        return {}
    with as_owner(conn):
        return {version: sha256 for version, sha256 in conn.execute(SELECT_APPLIED)}


def note(conn: Connection, version: str, sha256: str) -> None:
    """Record that a script was applied."""
    with as_owner(conn):
        conn.execute(NOTE, {"version": version, "sha256": sha256})


def forget(conn: Connection, version: str) -> None:
    """Delete the record of a part that no longer exists."""
    with as_owner(conn):
        conn.execute(FORGET, {"version": version})


def is_new(conn: Connection) -> bool:
    """Whether the database has none of our tables."""
    found = conn.execute(IS_NEW).fetchone()
    return found is not None and bool(found[0])


def prepare_session(conn: Connection) -> None:
    """Have the transaction find and make everything in `public`, as the owner."""
    conn.execute(PREPARE_SESSION)
    conn.execute(SET_OWNER)


def limit_time(conn: Connection, *, lock_s: float, statement_s: float) -> None:
    """End a statement of this transaction that waits for a lock, or runs, for longer; 0: never."""
    conn.execute(
        LIMIT_TIME, {"lock_ms": ceil(lock_s * 1000), "statement_ms": ceil(statement_s * 1000)}
    )


def select_functions(conn: Connection, name: str) -> dict[str, str]:
    """The functions of a name, by their signatures, each with its writing."""
    rows = conn.execute(SELECT_FUNCTIONS, {"name": name})
    return {signature: writing for signature, writing in rows}


def drop_function(conn: Connection, signature: str) -> None:
    """Drop a function; what depends on it refuses that.

    Args:
        conn: A connection in the owner's role.
        signature: As `select_functions` gave it.
    """
    conn.execute(sql.SQL("DROP FUNCTION {}").format(sql.SQL(signature)))


def put_job_kinds(conn: Connection, kinds: Sequence[tuple[str, str, int, int, str]]) -> None:
    """Register contracts in the ledger, as `plugin_kinds.row_of` gives them; update known ones."""
    with as_owner(conn), conn.cursor() as cursor:
        cursor.executemany(PUT_JOB_KIND, kinds)


# What only an administrator can give, and whether it is there.
SELECT_PREREQUISITES: Final = """
    SELECT quote_ident(current_user) AS "user", current_database()::text AS "database",
           EXISTS (SELECT FROM pg_extension WHERE extname = 'vector') AS "extension",
           ARRAY(SELECT r FROM unnest(%(roles)s::text[]) r
                 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r)) AS "missing",
           ARRAY(SELECT r FROM unnest(%(granted)s::text[]) r
                 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r
                                   AND pg_has_role(oid, 'MEMBER'))) AS "ungranted",
           has_schema_privilege('public', 'CREATE WITH GRANT OPTION') OR EXISTS (
               SELECT FROM pg_roles WHERE rolname = 'ailydian_owner'
                  AND has_schema_privilege(oid, 'public', 'CREATE')) AS "creates"
"""


@dataclass(frozen=True, slots=True)
class Prerequisites:
    """What a migration needs from an administrator where its user, quoted, is none."""

    user: str
    database: str
    extension: bool
    missing: list[str]
    ungranted: list[str]
    creates: bool


def select_prerequisites(
    conn: Connection, roles: Sequence[str], granted: Sequence[str]
) -> Prerequisites:
    """Which of the roles are missing or not granted to this user, and what else."""
    values = {"roles": list(roles), "granted": list(granted)}
    row = conn.execute(SELECT_PREREQUISITES, values).fetchone()
    assert row is not None, "a select without a table yields a row"
    return Prerequisites(*row)
