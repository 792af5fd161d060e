"""Waiting for jobs and their follow-ups."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator

from producers.queries.ledger import jobs
from producers.queries.ledger.jobs import Progress
from shared import db
from shared.db import Role
from shared.ids import JobId

LOOK_S_MIN, LOOK_S_MAX = 0.02, 0.25
ENDED = frozenset({"COMPLETED", "DEAD", "CANCELLED"})


def follow(
    ids: Iterable[JobId],
    check: Callable[[], None],
    *,
    alone: bool = False,
    ignore: Collection[str] = (),
) -> Iterator[tuple[JobId, list[Progress]]]:
    """Wait for jobs of one tenant, each with its direct follow-ups.

    Args:
        ids: The jobs.
        check: Called at each poll; an exception from it ends the wait.
        alone: Whether to leave follow-ups out.
        ignore: Names of jobs whose follow-ups are left out, such as those due much later.

    Yields:
        As each ends: the job's id, and how it and its follow-ups ended, the job first.
    """
    waiting = set(ids)
    look_s = LOOK_S_MIN
    while waiting:
        with db.transaction(None, role=Role.RELAY) as conn:
            rows = jobs.select_progress(conn, list(waiting))
        families: dict[JobId, list[Progress]] = {}
        for row in sorted(rows, key=lambda row: row.id != row.root_id):
            if row.id == row.root_id or not (alone or row.job in ignore):
                families.setdefault(row.root_id, []).append(row)
        # Follow-ups are written with their job's end, so a job that has ended shows them all.
        ended = [
            (root, family)
            for root, family in families.items()
            if all(one.state in ENDED for one in family)
        ]
        for root, family in ended:
            waiting.discard(root)
            yield root, family
        waiting &= families.keys()  # a job deleted with its tenant is not waited for
        look_s = LOOK_S_MIN if ended else min(look_s * 1.5, LOOK_S_MAX)
        if waiting:
            check()
            time.sleep(look_s)
