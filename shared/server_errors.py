"""What an error says about the server it comes from: whether it is in trouble, and which.

An error of a server in trouble is nobody's fault but the server's: processes stay up and try again,
and no job uses up an attempt. Any other error belongs to the statement that raised it.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

import psycopg
import redis

from shared.errors import ConnectionClosed, ServerUnavailable, TransactionInterrupted
from shared.observability import error_texts

POSTGRES: Final = "postgres"
REDIS: Final = "redis"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A server's trouble: a stable code, and a sentence for a person, without its full stop."""

    server: str
    code: str
    sentence: str


# By SQLSTATE. Class 53, 57P and 58 are the server's own state whatever else they say.
_STATES: Final = {
    "53100": ("disk_full", "the disk of Postgres is full"),
    "53200": ("out_of_memory", "Postgres is out of memory"),
    "53300": ("too_many_connections", "Postgres accepts no more connections (max_connections)"),
    "25006": ("read_only", "Postgres is read-only: a standby, or set to be so"),
    "57P01": ("shutting_down", "Postgres ended the connection by an administrator's command"),
    "57P02": ("restarting", "Postgres is restarting after a crash"),
    "57P03": ("starting", "Postgres is starting, stopping or in recovery"),
    "58030": ("io_error", "Postgres cannot read or write its files"),
    "28P01": ("login_refused", "Postgres refuses the login"),
    "28000": ("login_refused", "Postgres refuses the login"),
    "3D000": ("no_database", "the database does not exist"),
}
_CLASSES: Final = {
    "53": ("resources", "Postgres is short of a resource"),
    "57P": ("away", "Postgres ended the connection"),
    "58": ("io_error", "Postgres has a system error"),
    "08": ("away", "Postgres is not responding"),
}
# The transaction was ended for the sake of others, or took too long: it may simply be repeated.
_INTERRUPTED: Final = {
    "40001": "the transaction conflicts with another one",
    "40P01": "the transaction was in a deadlock with another one",
    "55P03": "a row or table stayed locked by another transaction",
    "57014": "the statement was cancelled, by a time limit or an administrator",
    "25P03": "the transaction was idle for too long",
    "25P04": "the transaction took too long",
}
# With these Postgres can still be read, so that whoever only reads does not notice.
READABLE: Final = {
    code: sentence
    for state, (code, sentence) in _STATES.items()
    if state in ("53100", "53200", "53300", "25006", "58030")
}
# A connection that is refused has no SQLSTATE, and neither has a pooler's own.
_MESSAGES: Final = (
    (
        r"max_client_conn|no more connections allowed",
        "too_many_connections",
        "the connection pooler accepts no more connections",
    ),
    (
        r"too many clients already|too many connections|connection slots are reserved",
        "too_many_connections",
        "Postgres accepts no more connections (max_connections)",
    ),
    (
        r"server login has been failing|server_login_retry|query_wait_timeout|pgbouncer"
        r"|server conn crashed|server closed .* by pooler|cannot connect to server",
        "pooler",
        "the connection pooler cannot reach Postgres",
    ),
    (r"the database system is", "starting", "Postgres is starting, stopping or in recovery"),
    (
        r"password authentication failed|no pg_hba\.conf entry|role \".*\" (does not exist|is not"
        r" permitted)",
        "login_refused",
        "Postgres refuses the login",
    ),
    (
        r"database \".*\" (does not exist|is not currently)",
        "no_database",
        "the database does not exist",
    ),
    (r"No space left on device", "disk_full", "the disk of Postgres is full"),
)
_OF_REDIS: Final = (
    (r"LOADING|BusyLoading|loading the dataset", "loading", "Redis is loading its data"),
    (r"READONLY|ReadOnlyError|read only replica", "read_only", "Redis is a read-only replica"),
    (r"OOM|OutOfMemoryError|maxmemory", "out_of_memory", "the memory of Redis is full (maxmemory)"),
    (
        r"MASTERDOWN|MasterDownError|Link with MASTER",
        "master_down",
        "the replica lost its Redis master",
    ),
    (r"MISCONF|Errors writing to the AOF", "disk_full", "Redis cannot write to its disk"),
    (
        r"NOAUTH|WRONGPASS|Authentication|invalid username-password",
        "login_refused",
        "Redis refuses the login",
    ),
    (
        r"NOPERM|NoPermissionError|has no permissions",
        "no_permission",
        "the user of Redis lacks a permission",
    ),
    (r"max number of clients", "too_many_connections", "Redis accepts no more connections"),
    (
        r"CLUSTERDOWN|ClusterDownError|NOREPLICAS|TryAgain",
        "cluster_down",
        "Redis accepts no writes for now",
    ),
    (r"\bBUSY\b", "busy", "Redis is busy with a script"),
)


class ConnectionUse:
    """Tells a connection that the code inside a transaction has closed from one that was lost.

    Attributes:
        closed: Whether that code has closed it, once the block is left.
    """

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self._conn = conn
        self.closed = False

    def __enter__(self) -> None:
        """Enter the code that uses the connection."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Leave it.

        Raises:
            ConnectionClosed: It has closed the connection, and at most noticed that itself.
        """
        self.closed = self._conn.closed and not self._conn.broken  # broken: by the other side
        own = isinstance(error, psycopg.OperationalError) and error.sqlstate is None
        if self.closed and (error is None or (own and "connection is closed" in str(error))):
            raise ConnectionClosed(
                "The connection of a transaction was closed by the code that used it."
            ) from error


def of_postgres(error: psycopg.Error, *, lost: bool = False) -> Trouble | None:
    """The trouble of Postgres that an error shows; None if the statement itself is at fault.

    Args:
        error: As psycopg raised it.
        lost: Whether the connection is gone with it.
    """
    state, text = error.sqlstate or "", str(error)
    if state in _STATES:
        return Trouble(POSTGRES, *_STATES[state])
    if lost or not state or state.startswith("08"):
        for pattern, code, sentence in _MESSAGES:
            if re.search(pattern, text):
                return Trouble(POSTGRES, code, sentence)
    for prefix, (code, sentence) in _CLASSES.items():
        if state.startswith(prefix):
            return Trouble(POSTGRES, code, sentence)
    if lost or (not state and isinstance(error, psycopg.OperationalError)):
        return Trouble(POSTGRES, "away", "Postgres is not responding")
    return None


def of_redis(error: Exception) -> Trouble:
    """The trouble of Redis that an error of its client shows."""
    text = f"{type(error).__name__} {error}"
    if isinstance(error, redis.ResponseError | redis.ConnectionError):
        for pattern, code, sentence in _OF_REDIS:
            if re.search(pattern, text):
                return Trouble(REDIS, code, sentence)
    if isinstance(error, redis.ResponseError):
        return Trouble(REDIS, "refused", "Redis refuses a command")
    return Trouble(REDIS, "away", "Redis is not responding")


def unavailable(error: psycopg.Error, *, lost: bool = False) -> ServerUnavailable | None:
    """The error to raise in place of one that shows trouble of the server, or None.

    Args:
        error: As psycopg raised it.
        lost: Whether the connection is gone with it.
    """
    said = error_texts.message(error)
    if not lost and error.sqlstate in _INTERRUPTED:
        why = _INTERRUPTED[error.sqlstate]
        return TransactionInterrupted(_sentence(why, said), trouble="interrupted")
    trouble = of_postgres(error, lost=lost)
    if trouble is None:
        return None
    return ServerUnavailable(_sentence(trouble.sentence, said), trouble=trouble.code)


def trouble_of(error: Exception) -> Trouble | None:
    """The trouble that an error shows, whichever server it comes from; None if it shows none."""
    if isinstance(error, TransactionInterrupted):
        return None
    if isinstance(error, ServerUnavailable):
        sentence = str(error).rstrip(".")
        return Trouble(POSTGRES, error.trouble, sentence)
    if isinstance(error, psycopg.Error):
        return of_postgres(error)
    if isinstance(error, redis.RedisError | OSError):
        trouble = of_redis(error)
        return Trouble(REDIS, trouble.code, _sentence(trouble.sentence, str(error)).rstrip("."))
    return None


def _sentence(what: str, said: str) -> str:
    first = said.strip().partition("\n")[0].rstrip(".")
    return f"{what[0].upper()}{what[1:]}: {first}."
