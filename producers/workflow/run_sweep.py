"""The sweep of workflow runs: none may stand still without something that will move it.

A run that goes on has a live step, and each live step a job that is at it, or a wait. The sweep
walks along the running runs, some at a time, and proves it; what lacks its job gets one, and a run
for which that is not enough becomes an incident.
"""

import structlog

from producers.queries.workflow import run_actions
from shared import db
from shared.db import Role

log = structlog.get_logger()

RUNS_MAX = 200
ROUNDS_MAX = 50


def sweep() -> int:
    """Look at all running runs once, at most `RUNS_MAX` times `ROUNDS_MAX` of them.

    Returns:
        How many were adrift.
    """
    after, total = "", 0
    for _ in range(ROUNDS_MAX):
        with db.transaction(None, role=Role.RELAY) as conn:
            adrift, last = run_actions.mend(conn, after, limit=RUNS_MAX)
            for run in adrift:
                if not run.mended:
                    run_actions.open_incident(conn, run.id, run.tenant_id)
        for run in adrift:
            log.error(
                "run.adrift",
                run_id=run.id,
                tenant_id=run.tenant_id,
                steps=run.lost,
                mended=run.mended,
            )
        total += len(adrift)
        if last is None:
            break
        after = last
    with db.transaction(None, role=Role.RELAY) as conn:
        run_actions.resolve_incidents(conn)
    return total
