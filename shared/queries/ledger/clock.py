"""Postgres's clock, which dates all events of jobs."""

from datetime import datetime
from typing import Final

from shared.db import Connection

SELECT_NOW: Final = """
    SELECT now()
"""


def select_now(conn: Connection) -> datetime:
    """When this transaction began."""
    row = conn.execute(SELECT_NOW).fetchone()
    assert row is not None, "a select without a table yields a row"
    found: datetime = row[0]
    return found


SELECT_MOMENT: Final = """
    SELECT clock_timestamp()
"""


def select_moment(conn: Connection) -> datetime:
    """This very moment, by which what transactions that waited for each other did is ordered."""
    row = conn.execute(SELECT_MOMENT).fetchone()
    assert row is not None, "a select without a table yields a row"
    found: datetime = row[0]
    return found
