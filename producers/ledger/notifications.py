"""Listening for notifications of Postgres, on a connection of its own."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from shared import server_errors
from shared.db import Connection
from shared.errors import ServerUnavailable


class Listener:
    """A connection that only listens."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def wait(self, timeout_s: float) -> bool:
        """Wait for a notification, at most `timeout_s` seconds. Returns whether one came.

        Raises:
            ServerUnavailable: The connection was lost.
        """
        try:
            return any(True for _ in self._conn.notifies(timeout=timeout_s, stop_after=1))
        except psycopg.OperationalError as error:
            raise _lost(error) from error


@contextmanager
def listening(url: str, channel: str) -> Iterator[Listener]:
    """Listen on a channel. Behind a transaction-mode pooler nothing arrives: poll as well.

    Raises:
        ServerUnavailable: Postgres is not responding, or does not let anybody listen.
    """
    try:
        conn = psycopg.connect(url, autocommit=True, connect_timeout=5, application_name="ailydian")
    except psycopg.OperationalError as error:
        raise _lost(error) from error
    with conn:
        try:
            conn.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel)))
        except psycopg.Error as error:
            raise _lost(error) from error
        yield Listener(conn)


def _lost(error: psycopg.Error) -> ServerUnavailable:
    found = server_errors.unavailable(error, lost=True)
    assert found is not None, "an error of a lost connection is the server's"
    return found
