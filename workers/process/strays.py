"""Jobs that this process has claimed and does not know of: the answer to the claim was lost.

After an outage of Postgres they are looked for and given back. Otherwise their leases would lapse,
and each would count the crash of a worker that lives.
"""

import time
from typing import Final

import structlog

from shared import db
from shared.db import Role
from shared.ids import JobId
from shared.queries.ledger import attempts, outbox
from workers.process.leases import HeldLeases

log = structlog.get_logger()

# A claim whose answer is on its way is no stray: what two looks this far apart both find is one.
APART_S: Final = 2.0
LOOKS: Final = 3


class Strays:
    """The jobs of one process that it does not hold."""

    def __init__(self, held: HeldLeases, worker_id: str) -> None:
        self._held = held
        self._worker_id = worker_id
        self._seen: set[tuple[JobId, int]] = set()
        self._looks = 0
        self._look_at = 0.0

    def expect(self) -> None:
        """Look for some, a few times: Postgres was in trouble."""
        self._looks = LOOKS

    def give_back(self) -> int:
        """Give back what an earlier look has found too, when it is time to. Returns how many.

        Raises:
            ServerUnavailable: Postgres is in trouble; the look is repeated.
        """
        if not self._looks or time.monotonic() < self._look_at:
            return 0
        with db.transaction(None, role=Role.RELAY) as conn:
            claimed = set(outbox.select_claimed(conn, self._worker_id))
            found = claimed - set(self._held.all())
            strays = sorted(found & self._seen)
            given = attempts.give_back(conn, strays) if strays else 0
        self._seen, self._look_at, self._looks = found, time.monotonic() + APART_S, self._looks - 1
        if given:
            log.warning("claims.lost", jobs=given)
        return given
