"""Event counters: events are placed and counted once, and finished batches get their follow-up.

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
    """Place events, count the next into "JobStat" and "JobBatch", finish batches, notify followers.

    Does nothing while another relay counts, or while one of the batches is locked for longer than
    `WAIT_S`; the next call catches up, and followers see them meanwhile. Without new events it
    costs a few index lookups.

    Args:
        conn: A connection inside `db.transaction(None, role=Role.RELAY)`. Its commit is durable,
            and with it the events that followers then see: a crash does not take them back.
        limit: Maximum events, >= 1; `more` of the result is true if others wait.
    """
    nothing = CountedEvents(0, more=False, tenants=[])
    events.place(conn)
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
