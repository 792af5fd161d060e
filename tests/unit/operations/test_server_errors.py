"""What the errors of Postgres, its pooler and Redis say about the server."""

import psycopg
import pytest
import redis
from psycopg import errors

from shared import server_errors
from shared.errors import ServerUnavailable, TransactionInterrupted

OF_POSTGRES = [
    (errors.DiskFull("x"), "disk_full"),
    (errors.OutOfMemory("x"), "out_of_memory"),
    (errors.TooManyConnections("x"), "too_many_connections"),
    (errors.ConfigurationLimitExceeded("x"), "resources"),
    (errors.ReadOnlySqlTransaction("x"), "read_only"),
    (errors.AdminShutdown("x"), "shutting_down"),
    (errors.CrashShutdown("x"), "restarting"),
    (errors.CannotConnectNow("x"), "starting"),
    (errors.IdleSessionTimeout("x"), "away"),
    (errors.IoError("x"), "io_error"),
    (errors.ConnectionFailure("x"), "away"),
    (errors.ProtocolViolation("server login has been failing (server_login_retry)"), "pooler"),
    (errors.ProtocolViolation("query_wait_timeout"), "pooler"),
    (errors.ProtocolViolation("no more connections allowed (max_client_conn)"),
     "too_many_connections"),
    (psycopg.OperationalError("FATAL: sorry, too many clients already"), "too_many_connections"),
    (psycopg.OperationalError("FATAL: the database system is starting up"), "starting"),
    (psycopg.OperationalError("FATAL: password authentication failed for user x"),
     "login_refused"),
    (psycopg.OperationalError('FATAL: database "x" does not exist'), "no_database"),
    (psycopg.OperationalError("could not write: No space left on device"), "disk_full"),
    (psycopg.OperationalError("Connection refused"), "away"),
]  # fmt: skip
OF_REDIS = [
    (redis.BusyLoadingError("Redis is loading the dataset in memory"), "loading"),
    (redis.ReadOnlyError("You can't write against a read only replica."), "read_only"),
    (redis.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
     "out_of_memory"),
    (redis.ResponseError("OOM command not allowed"), "out_of_memory"),
    (redis.exceptions.MasterDownError("Link with MASTER is down"), "master_down"),
    (redis.ResponseError("MISCONF Redis is configured to save RDB snapshots"), "disk_full"),
    (redis.AuthenticationError("Authentication required."), "login_refused"),
    (redis.ResponseError("NOAUTH Authentication required."), "login_refused"),
    (redis.exceptions.NoPermissionError("this user has no permissions"), "no_permission"),
    (redis.ConnectionError("max number of clients reached"), "too_many_connections"),
    (redis.ResponseError("CLUSTERDOWN The cluster is down"), "cluster_down"),
    (redis.ResponseError("BUSY Redis is busy running a script."), "busy"),
    (redis.ResponseError("ERR unknown command"), "refused"),
    (redis.TimeoutError("Timeout reading from socket"), "away"),
    (ConnectionResetError("reset"), "away"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "code"), OF_POSTGRES, ids=lambda it: str(it)[:40])
def test_trouble_of_postgres_has_its_code(error, code):
    unavailable = server_errors.unavailable(error)

    assert type(unavailable) is ServerUnavailable
    assert unavailable.trouble == code
    assert not unavailable.counted


@pytest.mark.parametrize(
    "error",
    [
        errors.DeadlockDetected("x"),
        errors.SerializationFailure("x"),
        errors.LockNotAvailable("x"),
        errors.QueryCanceled("x"),
    ],
    ids=lambda it: type(it).__name__,
)
def test_an_interrupted_transaction_is_no_trouble_of_the_server(error):
    unavailable = server_errors.unavailable(error)

    assert isinstance(unavailable, TransactionInterrupted)
    assert "not responding" not in str(unavailable)
    assert server_errors.trouble_of(unavailable) is None


@pytest.mark.parametrize(
    "error",
    [errors.UniqueViolation("x"), errors.UndefinedTable("x"), errors.InsufficientPrivilege("x")],
    ids=lambda it: type(it).__name__,
)
def test_an_error_of_the_statement_is_left_to_it(error):
    assert server_errors.unavailable(error) is None


@pytest.mark.parametrize(("error", "code"), OF_REDIS, ids=lambda it: str(it)[:40])
def test_trouble_of_redis_has_its_code(error, code):
    assert server_errors.of_redis(error).code == code


def test_a_sentence_says_what_is_wrong_before_what_the_server_says():
    error = server_errors.unavailable(errors.DiskFull("could not extend file: No space.\nmore"))

    assert str(error) == "The disk of Postgres is full: could not extend file: No space."
