"""How the relay looks for lanes: all of them, or the known ones from where they were left.

An open transaction keeps vacuum from the outbox: each lane then begins with all the rows that were
taken since, and a look that passes them takes longer and longer. A look at all lanes that was slow
is repeated seldom. Between such looks, known lanes are looked at from shortly before their last
head on, and new lanes between them, which passes no dead rows. So only a job that is committed more
than `LATE_S` after it was due waits for the next look at all.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from shared.contracts import QUEUES
from shared.db import Connection
from shared.queries.ledger import dispatches
from shared.queries.ledger.dispatches import BEFORE_ALL, Lane, LaneKey

# A look at all lanes that takes longer is slow: it may take this part of the time, and comes after
# so many seconds in any case.
SLOW_S = 0.005
PART = 0.02
EVERY_S_MAX = 10.0
LATE_S = 1.0
# Known lanes; those that were not seen for the longest time are forgotten.
KNOWN_MAX = 1_000


class LaneLooks:
    """What a relay knows of the lanes."""

    def __init__(self) -> None:
        self._known: dict[LaneKey, datetime] = {}
        self._all_at = 0.0

    def look(
        self, conn: Connection, after: Mapping[str, tuple[str, str, str, int]], *, limit: int
    ) -> list[Lane]:
        """The lanes of all queues, due or not.

        Args:
            conn: A connection in the relay's role.
            after: The lane after which each queue is looked at: with more than `limit` lanes, looks
                go round.
            limit: Maximum lanes of a queue.
        """
        began = time.monotonic()
        goes_round = any(place != BEFORE_ALL for place in after.values())
        if goes_round or began >= self._all_at:
            lanes = dispatches.select_lanes(conn, dict(after), limit=limit)
            took_s = time.monotonic() - began
            self._all_at = began + (min(took_s / PART, EVERY_S_MAX) if took_s > SLOW_S else 0.0)
        else:
            lanes = dispatches.select_known_lanes(conn, self._known, QUEUES, limit=limit)
        self._note(lanes)
        return lanes

    def _note(self, lanes: Sequence[Lane]) -> None:
        """Note from where on each lane is looked at next."""
        now = next((_now(lane) for lane in lanes), None)
        if now is None:
            return
        late = now - timedelta(seconds=LATE_S)
        seen = {}
        for lane in lanes:
            assert lane.due_at is not None, "a lane that was read has a head"
            key = LaneKey(lane.queue, *lane.place)
            seen[key] = min(late, lane.due_at - timedelta(seconds=LATE_S))
        # What has no head now is empty from its mark on.
        known = dict.fromkeys((key for key in self._known if key not in seen), late) | seen
        self._known = dict(list(known.items())[-KNOWN_MAX:])


def _now(lane: Lane) -> datetime:
    """The time of Postgres when the lane was read."""
    assert lane.due_at is not None, "a lane that was read has a head"
    try:
        return lane.due_at + timedelta(seconds=lane.due_s)
    except OverflowError:
        return datetime.now(UTC)
