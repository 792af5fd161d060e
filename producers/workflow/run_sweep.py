"""The workflow run sweep: finds runs that are stuck.

A running run has a live step, and each live step has a job or a wait. The sweep checks this for
all running runs, page by page; a step without a job gets one, and a run that stays stuck becomes
an incident.
"""

import structlog

from producers.queries.workflow import run_actions
from shared import db
from shared.db import Role

log = structlog.get_logger()

RUNS_MAX = 200
ROUNDS_MAX = 50


def sweep() -> int:
    """Check all running runs once, at most `RUNS_MAX` times `ROUNDS_MAX` of them.

    Returns:
        Number of stuck runs.
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
