"""The incident sweep: detect, open, escalate and resolve, in one transaction.

An incident resolves once its cause was not seen for `QUIET_S`. A sweep that fails changes
nothing.
"""

import structlog

from producers.operations import incident_rules
from producers.operations.incident_rules import Signs
from producers.queries.ledger import queue_figures
from producers.queries.operations import audit_sinks, horizons
from producers.queries.operations import incidents as queries
from shared import db
from shared.contracts import QUEUES
from shared.db import Connection, Role
from shared.observability import outages

log = structlog.get_logger()

# Twenty rounds: an intermittent cause stays one incident.
QUIET_S = 300.0
OPEN_MAX = 10_000
CRASHES_MAX = EVENTS_MAX = 5_000
PINS_MAX = SINKS_MAX = 10


def sweep() -> int:
    """Run all detectors once.

    Returns:
        Number of incidents opened, escalated or resolved.
    """
    changed = 0
    outages.probe_redis()
    with db.transaction(None, role=Role.RELAY) as conn:
        found = incident_rules.findings(_signs(conn))
        for one in sorted(found, key=lambda it: (it.tenant_id or "", it.cause)):
            event = queries.raise_incident(conn, one)
            if event is not None:
                changed += 1
                log.warning(
                    "incident.raised",
                    what=event,
                    cause=one.cause,
                    tenant_id=one.tenant_id,
                    severity=one.severity,
                    measured=one.measured,
                )
        kinds = [*incident_rules.KINDS, *incident_rules.TOLD_KINDS]
        resolved = queries.settle(conn, kinds, quiet_s=QUIET_S)
    if resolved:
        log.info("incident.resolved", incidents=resolved)
    return changed + resolved


def _signs(conn: Connection) -> Signs:
    return Signs(
        dead=queries.select_dead_spikes(conn),
        crashes=queries.select_crash_loops(conn, limit=CRASHES_MAX),
        ended=queries.select_ended(conn, limit=EVENTS_MAX),
        quarantined=queries.select_quarantine_spikes(conn),
        lags=_lags(conn),
        providers=queries.select_failing_providers(conn),
        drifts=queries.select_calibration_errors(conn, pairs_max=incident_rules.DRIFT_PAIRS_MAX),
        flagged=queries.select_flagged_shares(
            conn, flagged_min=round(incident_rules.FLAGGED_MIN * incident_rules.STILL)
        ),
        budgets=queries.select_spent_budgets(conn),
        troubles=outages.lasting(),
        pins=horizons.select_pins(conn, older_s=incident_rules.PINNED_S, limit=PINS_MAX),
        broken=audit_sinks.select_broken(conn),
        silent=audit_sinks.select_silent(conn, seconds=incident_rules.SILENT_S, limit=SINKS_MAX),
        open=queries.select_open_causes(conn, limit=OPEN_MAX),
    )


def _lags(conn: Connection) -> dict[str, float]:
    """Return how long the oldest job waits by queue, unsent or unclaimed; paused ones left out."""
    found = queries.select_untaken(conn)
    for lag in queue_figures.select_lags(conn, QUEUES):
        if lag.why == "free":
            found[lag.queue] = max(lag.seconds, found.get(lag.queue, 0.0))
    return found
