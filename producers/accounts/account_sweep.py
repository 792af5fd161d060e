"""The sweep of accounts: what nobody needs any more is deleted."""

from typing import Final

from producers.queries.accounts import login_links, request_buckets, sessions
from shared import db
from shared.db import Role

ROWS_MAX: Final = 10_000  # of each kind; the next sweep goes on


def sweep() -> None:
    """Delete what ended a day ago: buckets, links, and sessions of ours."""
    with db.transaction(None, role=Role.OWNER) as conn:
        request_buckets.delete_full(conn, limit=ROWS_MAX)
        login_links.delete_old_links(conn, limit=ROWS_MAX)
        sessions.delete_ended(conn, limit=ROWS_MAX)
