"""Event counters: events are counted once, and finished batches get their follow-up.

The relay calls `fold` repeatedly; several relays take turns. The counters, the cursor and the
follow-ups change in one transaction, so each event counts exactly once.
"""

from psycopg.errors import DeadlockDetected, LockNotAvailable

from producers.queries.ledger import batches, events
from producers.queries.ledger.events import CountedEvents
from shared.contracts import CONTRACTS
from shared.db import Connection

EVENTS_MAX = 5_000
# Adding to a batch locks its row until commit: the relay has other work meanwhile.
WAIT_S = 0.1


def fold(conn: Connection, *, limit: int = EVENTS_MAX) -> CountedEvents:
    """Count the next events into "JobStat" and "JobBatch", finish batches, notify followers.

    Does nothing while another relay counts, or while one of the batches is locked for longer than
    `WAIT_S`; the next call catches up. Without new events it costs one index lookup.

    Args:
        conn: A connection inside `db.transaction(None, role=Role.RELAY)`; `durable=False` will
            do, for a crash takes the counters back together with the cursor.
        limit: Maximum events, >= 1; `more` of the result is true if others wait.
    """
    nothing = CountedEvents(0, more=False, tenants=[])
    if not events.has_news(conn):
        return nothing
    try:
        with conn.transaction():
            events.wait_briefly(conn, WAIT_S)
            folded, ended = events.fold(conn, list(CONTRACTS), limit=limit)
            if ended:
                batches.finish(conn, ended)
            # COMMIT itself waits in the line of those who notify; that must not be cut short.
            events.wait_briefly(conn, 0.0)
    except (LockNotAvailable, DeadlockDetected):
        return nothing
    return folded
