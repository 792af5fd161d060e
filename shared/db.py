"""The connection pool and transactions. Role and tenant are set here and nowhere else."""

import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from typing import Any, Final

import psycopg
from pgvector.psycopg import register_vector
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.types.json import set_json_loads
from psycopg_pool import ConnectionPool, PoolTimeout
from psycopg_pool.base import AttemptWithBackoff

from shared import forks, server_errors, timestamps
from shared.errors import ConfigurationBroken, ServerUnavailable
from shared.ids import TenantId
from shared.json_values import stored_json
from shared.observability import error_texts, outages
from shared.server_errors import POSTGRES

Connection = psycopg.Connection[Any]


class Role(StrEnum):
    """The roles a transaction may take; all are NOLOGIN, and the connection's user has them."""

    APP = "ailydian_app"
    RELAY = "ailydian_relay"
    OWNER = "ailydian_owner"
    AUDIT_READER = "ailydian_audit_reader"


# Before PostgreSQL 18 a plan that is switched off costs 1e10, and a statement that costs so much is
# compiled: a second, for one that takes a millisecond. Ours are never worth it.
_NO_JIT = "SET LOCAL jit = off; "
# The ledger's statements name jobs by id, a few at a time. Their plans are made once and by index:
# neither replanned for each call, nor stuck with a plan from when the tables were empty.
_BY_INDEX = (
    "SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off; "
    "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; "
)
# The ledger repeats what a crash of Postgres loses (less than a second): a lost claim is claimed
# again, a lost receipt is lost with its effects. So such a commit need not wait for disk.
_REDOABLE = "SET LOCAL synchronous_commit = off; "


_REPLACE_EVERY_S = 1.0
# The library doubles its retry delay without limit: after a restart of three seconds fifteen
# would pass. With this it retries once a second.
AttemptWithBackoff.DELAY_BACKOFF = 1.0


class _Stack(deque[Connection]):
    """Idle connections, the last one used first: it has its plans and catalogues at hand.

    The library hands them out in turn, so that every one of a process's connections plans every
    statement; when a burst of work opens forty, that costs more than the work.
    """

    def popleft(self) -> Connection:
        return self.pop()


class _Connections(ConnectionPool[Connection]):
    """The library's pool, which also knows why it cannot connect: it only logs that."""

    failed: psycopg.Error | None = None

    def _connect(self, timeout: float | None = None) -> Connection:
        try:
            conn = super()._connect(timeout)
        except psycopg.Error as error:
            self.failed = error
            raise
        self.failed = None
        return conn


class _Thread(threading.local):
    is_inside = False  # a transaction


_this_thread: Final = _Thread()


class Pool:
    """Connections of one process, handed out only inside `transaction`.

    Attributes:
        one_a_thread: Whether a thread that holds a connection and asks for a second is a mistake:
            with more threads than connections, all of them wait for each other.
        statement_s: How long a statement may take; None without a limit.
    """

    one_a_thread = False
    statement_s: int | None = None

    def __init__(self, url: str, *, size: int, prepared_statements: bool = True) -> None:
        self._prepare_threshold = 5 if prepared_statements else None
        self._pool = _Connections(
            url,
            min_size=0,
            max_size=size,
            max_idle=60,
            timeout=10,
            open=True,
            kwargs={
                "autocommit": True,
                "application_name": "ailydian",
                "connect_timeout": 5,
                # A network that drops all packets is noticed in seconds, not in hours.
                "keepalives_idle": 10,
                "keepalives_interval": 3,
                "keepalives_count": 3,
                "tcp_user_timeout": 10_000,
            },
            configure=self._configure,
        )
        self._pool._pool = _Stack()
        self._replaced_at = 0.0
        self._process_id = os.getpid()

    def _configure(self, conn: Connection) -> None:
        conn.prepare_threshold = self._prepare_threshold
        set_json_loads(stored_json, conn)
        timestamps.clamp(conn)
        try:
            register_vector(conn)
        except psycopg.ProgrammingError as error:
            if "vector type not found" not in str(error):
                raise
            # A database before its first `ailydian migrate`: there are no vectors to read yet.

    @contextmanager
    def transaction(
        self,
        tenant_id: TenantId | None,
        *,
        role: Role = Role.APP,
        first: str = "",
        durable: bool = True,
    ) -> Iterator[Connection]:
        """Open a transaction whose first statement sets its role and its tenant.

        Args:
            tenant_id: The tenant whose rows are visible; None with a role that serves all tenants.
            role: The database role the transaction runs as.
            first: SQL without parameters that travels in the same round trip as BEGIN.
            durable: Whether COMMIT waits for the disk; False only for writes that the ledger
                repeats if they are lost.

        Yields:
            A connection inside the transaction. Leaving the block commits, an exception rolls
            back. No other code can reach a connection, so none runs without a role.

        Raises:
            ServerUnavailable: Postgres is not responding, the connection was lost, or the server is
                in trouble, such as a full disk. After a lost COMMIT the outcome is unknown: retry,
                receipts make it safe.
            TransactionInterrupted: A deadlock, a lock that stayed taken, or a time limit.
            ConnectionClosed: The block has closed the connection itself.
        """
        if self.one_a_thread:
            assert not _this_thread.is_inside, "a thread waits for a second connection"
        if self.statement_s is not None:
            first = f"SET LOCAL statement_timeout = '{self.statement_s}s'; {first}"
        conn = self._connection()
        use = server_errors.ConnectionUse(conn)
        outside, _this_thread.is_inside = not _this_thread.is_inside, True
        try:
            _begin(conn, tenant_id, role, first if durable else _REDOABLE + first)
            with use, forks.ending():
                yield conn
            _commit(conn)
            outages.worked(POSTGRES)
        except psycopg.Error as error:
            lost = conn.closed and not use.closed
            if (trouble := self._trouble(conn, error, lost=lost)) is not None:
                raise trouble from error
            raise
        finally:
            _this_thread.is_inside = not outside
            _roll_back_what_is_left(conn)
            self._pool.putconn(conn)

    def call(
        self,
        tenant_id: TenantId,
        statement: str,
        values: Mapping[str, object],
        *,
        role: Role = Role.APP,
        durable: bool = True,
    ) -> str | None:
        """Run one statement in its own transaction, in one round trip.

        The statements of one message are one transaction, which Postgres commits with the last.

        Returns:
            The only value of its only row, as text.

        Raises:
            ServerUnavailable: As `transaction`; the outcome is then unknown.
        """
        conn = self._connection()
        try:
            tenant = psycopg.sql.Literal(tenant_id).as_string(conn)
            text = psycopg.ClientCursor(conn).mogrify(statement, values)
            first = "" if durable else _REDOABLE
            message = (
                f"SET LOCAL ROLE {role.value}; SET LOCAL app.tenant_id = {tenant}; "
                f"{_NO_JIT}{first}{text}"
            )
            result = _result_of(conn, message.encode())
            value = result.get_value(0, 0)
            outages.worked(POSTGRES)
            return None if value is None else value.decode()
        except psycopg.Error as error:
            if (trouble := self._trouble(conn, error, lost=conn.closed)) is not None:
                raise trouble from error
            raise
        finally:
            _roll_back_what_is_left(conn)
            self._pool.putconn(conn)

    def _connection(self) -> Connection:
        if os.getpid() != self._process_id:
            raise RuntimeError("A forked process opens a pool of its own: this is its parent's.")
        try:
            return self._pool.getconn()
        except PoolTimeout as error:
            failed = self._pool.failed
            trouble = failed and server_errors.unavailable(failed, lost=True)
            if trouble is not None:
                raise trouble from failed
            raise ServerUnavailable(
                f"All {self._pool.max_size} connections of this process to Postgres are in use.",
                trouble="pool_full",
            ) from error

    def _trouble(
        self, conn: Connection, error: psycopg.Error, *, lost: bool
    ) -> ServerUnavailable | None:
        """Return what to raise instead of an error that is not the statement's fault."""
        trouble = server_errors.unavailable(error, lost=lost)
        if trouble is not None and trouble.trouble == "read_only":
            conn.close()  # after a failover: the next connection may find the new server
            lost = True
        if lost:
            self._replace_idle()
        return trouble

    def _replace_idle(self) -> None:
        """Replace the idle connections: what broke one, such as a restart, broke them all.

        Otherwise each would be found by a failing transaction.
        """
        now = time.monotonic()
        if now - self._replaced_at > _REPLACE_EVERY_S:
            self._replaced_at = now
            self._pool.drain()

    def close(self) -> None:
        """Close every connection; transactions in flight are rolled back by the server."""
        self._pool.close()


def _begin(conn: Connection, tenant_id: TenantId | None, role: Role, first: str) -> None:
    tenant = psycopg.sql.Literal(tenant_id or "").as_string(conn)
    plans = _BY_INDEX if role is Role.RELAY else ""
    # One simple-protocol message: BEGIN, the two settings and what must come first.
    begin = (
        f"BEGIN; SET LOCAL ROLE {role.value}; SET LOCAL app.tenant_id = {tenant}; "
        f"{_NO_JIT}{plans}{first}"
    )
    try:
        _send(conn, begin.encode())
    except psycopg.errors.InvalidParameterValue as error:
        raise ConfigurationBroken(
            f"The database has no role {role.value}: run `ailydian migrate` first."
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        if "role" not in str(error):
            raise
        raise ConfigurationBroken(
            f"The database user {conn.info.user} lacks the role {role.value}: "
            f"GRANT {role.value} TO {conn.info.user}."
        ) from error


def _commit(conn: Connection) -> None:
    tag = _send(conn, b"COMMIT")
    # Postgres answers COMMIT of a failed transaction with ROLLBACK and no error.
    assert tag == b"COMMIT", "a statement failed inside the transaction and its error was ignored"


def _send(conn: Connection, statements: bytes) -> bytes | None:
    """Run statements without results by libpq: a quarter of the cost of a cursor.

    Returns:
        The command tag of the last one.
    """
    return _result_of(conn, statements).command_status


def _result_of(conn: Connection, statements: bytes) -> PGresult:
    result = conn.pgconn.exec_(statements)
    if result.status == ExecStatus.FATAL_ERROR:
        error = psycopg.errors.error_from_result(result, conn.info.encoding)
        if error.sqlstate is None:  # libpq's own: no response, the connection is lost
            conn.close()
        raise error
    return result


def _roll_back_what_is_left(conn: Connection) -> None:
    if not conn.closed and conn.info.transaction_status != TransactionStatus.IDLE:
        try:
            _send(conn, b"ROLLBACK")
        except psycopg.DatabaseError:
            conn.close()  # the pool replaces a closed connection


class _Process:
    """Return the pool of this process."""

    pool: Pool | None = None


def open_pool(url: str, *, size: int = 4, prepared_statements: bool = True) -> Pool:
    """Open this process's pool; a second call replaces the first."""
    close_pool()
    _Process.pool = Pool(url, size=size, prepared_statements=prepared_statements)
    return _Process.pool


def answer_requests(*, statement_s: int) -> None:
    """Hold this process to what many requests at once allow.

    Args:
        statement_s: A statement that takes longer is ended; a thread has one connection at a time.
    """
    assert _Process.pool is not None, "call db.open_pool() first"
    _Process.pool.one_a_thread = True
    _Process.pool.statement_s = statement_s


def close_pool() -> None:
    """Close this process's pool, if one is open."""
    if _Process.pool is not None:
        _Process.pool.close()
        _Process.pool = None


def transaction(
    tenant_id: TenantId | None, *, role: Role = Role.APP, first: str = "", durable: bool = True
) -> AbstractContextManager[Connection]:
    """`Pool.transaction` of this process's pool."""
    assert _Process.pool is not None, "call db.open_pool() before the first transaction"
    return _Process.pool.transaction(tenant_id, role=role, first=first, durable=durable)


def call(
    tenant_id: TenantId,
    statement: str,
    values: Mapping[str, object],
    *,
    role: Role = Role.APP,
    durable: bool = True,
) -> str | None:
    """`Pool.call` of this process's pool."""
    assert _Process.pool is not None, "call db.open_pool() before the first transaction"
    return _Process.pool.call(tenant_id, statement, values, role=role, durable=durable)


def sentence(error: BaseException) -> str:
    """Return any error's message, without the DETAIL in which Postgres quotes row values."""
    return error_texts.message(error)
