"""Which scripts a database has received, and the contracts it knows."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from shared.db import Connection

# The lock is the transaction's: it ends with it, behind a pooler too.
LOCK: Final = """
    SELECT pg_advisory_xact_lock(hashtext('ailydian'), hashtext('migrate'))
"""

EXISTS: Final = """
    SELECT to_regclass('public."SchemaMigration"') IS NOT NULL
"""

SELECT_APPLIED: Final = """
    SELECT "version", "sha256" FROM "SchemaMigration" ORDER BY "version"
"""

NOTE: Final = """
    INSERT INTO "SchemaMigration" ("version", "sha256") VALUES (%(version)s, %(sha256)s)
    ON CONFLICT ("version") DO UPDATE SET "sha256" = excluded."sha256", "appliedAt" = now()
"""

PUT_JOB_KIND: Final = """
    INSERT INTO "JobKind" ("job", "queue", "schemaVersion", "attemptsMax")
    VALUES (%s, %s, %s, %s)
    ON CONFLICT ("job") DO UPDATE
    SET "queue" = excluded."queue", "schemaVersion" = excluded."schemaVersion",
        "attemptsMax" = excluded."attemptsMax"
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


def lock(conn: Connection) -> None:
    """Wait until no other migration runs; the lock is freed with the transaction."""
    conn.execute(LOCK)


def select_applied(conn: Connection) -> dict[str, str]:
    """The scripts applied so far, with their hashes; empty before the first."""
    found = conn.execute(EXISTS).fetchone()
    if found is None or not found[0]:
        return {}
    with as_owner(conn):
        return {version: sha256 for version, sha256 in conn.execute(SELECT_APPLIED)}


def note(conn: Connection, version: str, sha256: str) -> None:
    """Note that a script was applied."""
    with as_owner(conn):
        conn.execute(NOTE, {"version": version, "sha256": sha256})


def put_job_kinds(conn: Connection, kinds: Sequence[tuple[str, str, int, int]]) -> None:
    """Tell the ledger the contracts, as (job, queue, schema version, attempts)."""
    with as_owner(conn), conn.cursor() as cursor:
        cursor.executemany(PUT_JOB_KIND, kinds)
