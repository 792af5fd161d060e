"""Migrate a database to this version's schema: one migration at a time, short transactions.

A new database gets the whole schema at once. Any other gets the steps it lacks, then the functions,
triggers and policies whose text has changed; see shared/schema/README.md. Old and new processes
keep working meanwhile: nothing holds a lock for longer than a second, or waits for one so long
that others queue behind it.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from producers.models import shipped_catalogue
from producers.operations import administrator
from producers.queries.operations import migrations
from shared import schema
from shared.contracts import CONTRACTS
from shared.db import Connection
from shared.errors import MigrationBusy, MigrationRefused, ServerUnavailable
from shared.ledger import plugin_kinds
from shared.schema import statements, versions
from shared.schema.versions import SCHEMA, Part, SchemaStep

# The row of "SchemaMigration" that records which list of models was last seeded.
MODELS: Final = "models"

# How long a step may hold its locks, and wait for one: other sessions queue behind it.
HOLD_S: Final = 1.0
LOCK_S: Final = 0.25
# How long a step that does not get its locks is retried, and the pause between retries.
PATIENCE_S: Final = 120.0
PAUSE_S: Final = 0.5

_BUSY: Final = (errors.LockNotAvailable, errors.QueryCanceled, errors.DeadlockDetected)


@dataclass(frozen=True, slots=True)
class Migrated:
    """The result of a migration: the scripts applied now, and the database's version."""

    applied: list[str]
    version: str


def migrate(database_url: str) -> Migrated:
    """Apply the missing parts of this version's schema.

    Safe while workers run; a second call changes nothing. A database of a newer version is left
    unchanged.

    Args:
        database_url: A connection whose user may create tables and roles.

    Raises:
        ServerUnavailable: Postgres is not responding.
        MigrationBusy: A step did not get its locks for two minutes; what was applied stays.
        MigrationRefused: Other objects depend on the old form of a function.
        AdministratorNeeded: The user may not create what is missing.
    """
    with _connect(database_url) as guard, _connect(database_url) as conn:
        while not migrations.try_lock(guard):
            guard.rollback()
            time.sleep(LOCK_S)
        conn.autocommit = True
        done = _applied(conn)
        if _is_newer(done):
            return Migrated([], _version(done))
        try:
            applied = (
                _make(conn) if migrations.is_new(conn) else _bring_on(conn, done, database_url)
            )
        except (errors.InsufficientPrivilege, errors.UndefinedObject) as error:
            administrator.refuse_if_needed(conn, error)
            raise
        _note_contracts(conn, done)
        return Migrated(applied, _version(_applied(conn)))


def _connect(database_url: str) -> Connection:
    try:
        # Prepared statements are the session's, and behind a pooler that is somebody else's next.
        return psycopg.connect(database_url, connect_timeout=5, prepare_threshold=None)
    except psycopg.OperationalError as error:
        raise ServerUnavailable(f"Postgres is not responding: {error}") from error


def _applied(conn: Connection) -> dict[str, str]:
    with conn.transaction():
        return migrations.select_applied(conn)


def _is_newer(done: dict[str, str]) -> bool:
    """Whether a later version has migrated it: an unknown step is recorded."""
    last = max((step.name for step in versions.steps()), default="")
    return any(name[:4].isdigit() and name > last for name in done if "/" not in name)


def _version(done: dict[str, str]) -> str:
    """Return the version number with a hash of everything applied."""
    digest = hashlib.sha256("".join(sorted(done.values())).encode()).hexdigest()
    return f"{1 + len(versions.steps())}-{digest[:8]}"


def _make(conn: Connection) -> list[str]:
    with conn.transaction():
        conn.execute(schema.text().encode())
        for part in versions.parts():
            migrations.note(conn, part.name, part.digest)
    return [SCHEMA]


def _bring_on(conn: Connection, done: dict[str, str], database_url: str) -> list[str]:
    applied = []
    first = versions.first()
    if done.get(SCHEMA) != first.digest:
        with conn.transaction():
            conn.execute(first.script.encode())
            migrations.note(conn, SCHEMA, first.digest)
        applied.append(SCHEMA)
    for step in versions.steps():
        if step.name not in done:
            _apply_step(conn, step, database_url)
            applied.append(step.name)
    changed = [part for part in versions.parts() if done.get(part.name) != part.digest]
    gone = _gone(done)
    functions = [part for part in changed if part.function]
    if functions or gone:
        _apply_functions(conn, functions, gone)
    for part in changed:
        if not part.function:
            _apply_bounded(conn, part)
    return [*applied, *(part.name for part in changed), *gone]


def _apply_step(conn: Connection, step: SchemaStep, database_url: str) -> None:
    if not step.online:
        _apply_bounded(conn, step)
        return
    # The role is the connection's, not the session's: a pooler that would hand a session on with it
    # refuses such a connection.
    options = conninfo_to_dict(database_url).get("options") or ""
    url = make_conninfo(database_url, options=f"{options} -c role=ailydian_owner".strip())
    with _connect(url) as online:
        online.autocommit = True
        for statement in statements.split(step.script):
            online.execute(statement.encode())
    with conn.transaction():
        migrations.note(conn, step.name, step.digest)


def _apply_bounded(conn: Connection, step: SchemaStep | Part) -> None:
    """Apply a step that locks tables; retry while other sessions hold its locks."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            _try_bounded(conn, step)
        except _BUSY as error:
            if time.monotonic() > end:
                raise MigrationBusy(
                    f"{step.name} did not get its locks, or held them for longer than "
                    f"{HOLD_S:g} s, for {PATIENCE_S:g} s: {str(error).strip()}"
                ) from error
            time.sleep(PAUSE_S)
        else:
            return


def _try_bounded(conn: Connection, step: SchemaStep | Part) -> None:
    with conn.transaction():
        with _tools(conn):
            end = time.monotonic() + HOLD_S
            for statement in statements.split(step.script):
                left = end - time.monotonic()
                if left <= 0:
                    raise errors.QueryCanceled(f"longer than {HOLD_S:g} s")
                migrations.limit_time(conn, lock_s=min(LOCK_S, left), statement_s=left)
                conn.execute(statement.encode())
            migrations.limit_time(conn, lock_s=0, statement_s=0)
        migrations.note(conn, step.name, step.digest)


def _apply_functions(conn: Connection, functions: Sequence[Part], gone: Sequence[str]) -> None:
    """Replace and drop functions in one transaction, which locks no table."""
    try:
        with conn.transaction():
            with _tools(conn):
                for part in functions:
                    _write_function(conn, part)
                for name in gone:
                    _drop_functions(conn, str(versions.function_of(name)))
                conn.execute(versions.ground("check").encode())
            for part in functions:
                migrations.note(conn, part.name, part.digest)
            for name in gone:
                migrations.forget(conn, name)
    except errors.DependentObjectsStillExist as error:
        raise MigrationRefused(
            f"a function that other objects depend on must keep its arguments and result: {error}"
        ) from error


def _write_function(conn: Connection, part: Part) -> None:
    """Replace a function; drop one with other arguments or result first."""
    name = str(part.function)
    before = migrations.select_functions(conn, name)
    try:
        with conn.transaction():
            conn.execute(part.script.encode())
    except errors.InvalidFunctionDefinition:
        _drop_functions(conn, name)
        conn.execute(part.script.encode())
        return
    after = migrations.select_functions(conn, name)
    for signature in before.keys() & after.keys():
        if len(after) > 1 and before[signature] == after[signature]:
            migrations.drop_function(conn, signature)


def _drop_functions(conn: Connection, name: str) -> None:
    for signature in migrations.select_functions(conn, name):
        migrations.drop_function(conn, signature)


def _gone(done: dict[str, str]) -> list[str]:
    """Return the functions of the database that this version no longer has."""
    kept = {part.function for part in versions.parts()}
    noted = [name for name in done if versions.function_of(name)]
    if not noted:
        noted = versions.functions_of_first()
    return sorted(name for name in noted if versions.function_of(name) not in kept)


@contextmanager
def _tools(conn: Connection) -> Iterator[None]:
    """Set the owner's role and load tools.sql for the rest of a transaction."""
    migrations.prepare_session(conn)
    conn.execute(versions.ground("tools").encode())
    yield
    conn.execute(versions.ground("end").encode())


def _note_contracts(conn: Connection, done: dict[str, str]) -> None:
    """Register the contracts in the ledger, and the built-in models in the catalogue."""
    kinds = [plugin_kinds.row_of(contract) for contract in CONTRACTS.values()]
    with conn.transaction():
        migrations.put_job_kinds(conn, kinds)
        # Once per list: models that operators removed from the catalogue stay removed.
        if done.get(MODELS) != shipped_catalogue.digest():
            with migrations.as_owner(conn):
                shipped_catalogue.seed(conn)
            migrations.note(conn, MODELS, shipped_catalogue.digest())
