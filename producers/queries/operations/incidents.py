"""Incidents and the input of their detectors. In the relay's role."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from shared.db import Connection
from shared.ids import TenantId


@dataclass(frozen=True, slots=True)
class Spike:
    """Counts of one kind in the last ten minutes and in the hour before."""

    key: str
    label: str
    now: int
    before: int
    queue: str


# By time of death: letters discarded or replayed since do not count. Tenant by tenant, because
# the index is per tenant.
SELECT_DEAD_SPIKES: Final = """
    SELECT d."job" || ':' || d."fingerprint" AS "key", d."job" AS "label",
           count(*) FILTER (WHERE d."diedAt" >= now() - interval '10 minutes') AS "now",
           count(*) FILTER (WHERE d."diedAt" < now() - interval '10 minutes') AS "before",
           max(d."queue") AS "queue"
    FROM (SELECT "id" FROM "Tenant") t CROSS JOIN LATERAL (
        SELECT x."job", x."queue", x."fingerprint", x."diedAt" FROM "DeadLetter" x
        WHERE x."tenantId" = t."id" AND x."diedAt" >= now() - interval '70 minutes' OFFSET 0
    ) d
    GROUP BY 1, 2 HAVING count(*) FILTER (WHERE d."diedAt" >= now() - interval '10 minutes') > 0
    ORDER BY 1
"""

SELECT_QUARANTINE_SPIKES: Final = """
    SELECT q."queue" AS "key", q."queue" AS "label",
           count(*) FILTER (WHERE q."receivedAt" >= now() - interval '10 minutes') AS "now",
           count(*) FILTER (WHERE q."receivedAt" < now() - interval '10 minutes') AS "before",
           q."queue"
    FROM "Quarantine" q WHERE q."receivedAt" >= now() - interval '70 minutes'
    GROUP BY 1 HAVING count(*) FILTER (WHERE q."receivedAt" >= now() - interval '10 minutes') > 0
    ORDER BY 1
"""


def select_dead_spikes(conn: Connection) -> list[Spike]:
    """Count dead letters by job and fingerprint."""
    return [Spike(*row) for row in conn.execute(SELECT_DEAD_SPIKES)]


def select_quarantine_spikes(conn: Connection) -> list[Spike]:
    """Count quarantined messages by queue."""
    return [Spike(*row) for row in conn.execute(SELECT_QUARANTINE_SPIKES)]


@dataclass(frozen=True, slots=True)
class CrashLoop:
    """Processes that ended in ten minutes while they ran a kind of job; `error` is the latest."""

    job: str
    queue: str
    deaths: int
    jobs: int
    error: str


SELECT_CRASH_LOOPS: Final = """
    SELECT j."job", j."queue", count(DISTINCT a."worker") AS "deaths",
           count(DISTINCT a."jobId") AS "jobs",
           (array_agg(a."error" ORDER BY a."endedAt" DESC))[1] AS "error"
    FROM (
        SELECT x."jobId", x."worker", x."error", x."endedAt" FROM "JobAttempt" x
        WHERE (x."verdict" = 'crashed' OR x."signal" IS NOT NULL)
          AND x."endedAt" >= now() - interval '10 minutes'
        ORDER BY x."endedAt" DESC LIMIT %(limit)s
    ) a JOIN "Job" j ON j."id" = a."jobId"
    GROUP BY 1, 2 ORDER BY 1, 2
"""


def select_crash_loops(conn: Connection, *, limit: int) -> list[CrashLoop]:
    """Count the processes that jobs of each kind ended, by the latest `limit` attempts."""
    return [CrashLoop(*row) for row in conn.execute(SELECT_CRASH_LOOPS, {"limit": limit})]


# By position, newest first: a look at the last few thousand costs the same on every plant.
SELECT_ENDED: Final = """
    SELECT e."queue", count(*) AS "ended" FROM (
        SELECT x."queue", x."what", x."at" FROM "JobEvent" x
        WHERE strpos(x."what", '_') = 0
        ORDER BY x."xid" DESC, x."position" DESC LIMIT %(limit)s
    ) e
    WHERE e."what" IN ('COMPLETED', 'DEAD') AND e."at" >= now() - interval '10 minutes'
    GROUP BY 1
"""


def select_ended(conn: Connection, *, limit: int) -> dict[str, int]:
    """Return how many jobs of each queue ended in ten minutes, among the last `limit` of jobs."""
    return {queue: ended for queue, ended in conn.execute(SELECT_ENDED, {"limit": limit})}


# In flight and not begun: woken up in Redis, and no worker has taken it.
SELECT_UNTAKEN: Final = """
    SELECT f."queue", extract(epoch FROM greatest(now(), min(j."dueAt"))
                                         - min(j."dueAt"))::float8 AS "seconds"
    FROM "JobFlight" f JOIN "Job" j ON j."id" = f."jobId"
    WHERE j."state" = 'PENDING' AND NOT EXISTS (
        SELECT FROM "JobHold" h WHERE coalesce(h."queue", f."queue") = f."queue"
          AND coalesce(h."tenantId", f."tenantId") = f."tenantId"
          AND coalesce(h."job", f."job") = f."job")
    GROUP BY f."queue"
"""


def select_untaken(conn: Connection) -> dict[str, float]:
    """Return by queue how long the oldest sent but unclaimed job has been due, in seconds."""
    return {queue: seconds for queue, seconds in conn.execute(SELECT_UNTAKEN)}


@dataclass(frozen=True, slots=True)
class FailingProvider:
    """A provider whose circuit breaker is open or half open."""

    slug: str
    failures: int
    opened_at: datetime | None


SELECT_FAILING_PROVIDERS: Final = """
    SELECT "slug", "failures", "openedAt" FROM ailydian_failing_providers() ORDER BY "slug"
"""


def select_failing_providers(conn: Connection) -> list[FailingProvider]:
    """Providers that are not called, or just on trial."""
    return [FailingProvider(*row) for row in conn.execute(SELECT_FAILING_PROVIDERS)]


@dataclass(frozen=True, slots=True)
class Drift:
    """A tenant's calibration: the error it promised, and that of the pairs rated since."""

    tenant_id: TenantId
    version: int
    promised: float
    found: float
    pairs: int


SELECT_CALIBRATION_ERRORS: Final = """
    SELECT "tenantId", "version", "promised", "found", "pairs"
    FROM ailydian_calibration_errors(%(pairs_max)s::int) ORDER BY "tenantId"
"""


def select_calibration_errors(conn: Connection, *, pairs_max: int) -> list[Drift]:
    """Expected calibration errors, of each tenant's newest pairs at most `pairs_max`."""
    rows = conn.execute(SELECT_CALIBRATION_ERRORS, {"pairs_max": pairs_max})
    return [Drift(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class FlaggedShare:
    """Verdicts on a tenant's content: in the last quarter of an hour, and in the day before it."""

    tenant_id: TenantId
    flagged: int
    judged: int
    flagged_before: int
    judged_before: int


SELECT_FLAGGED_SHARES: Final = """
    SELECT "tenantId", "flagged", "judged", "flaggedBefore", "judgedBefore"
    FROM ailydian_flagged_shares(interval '15 minutes', %(flagged_min)s::int) ORDER BY "tenantId"
"""


def select_flagged_shares(conn: Connection, *, flagged_min: int) -> list[FlaggedShare]:
    """Return tenants with at least `flagged_min` flagged verdicts in the window."""
    rows = conn.execute(SELECT_FLAGGED_SHARES, {"flagged_min": flagged_min})
    return [FlaggedShare(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class SpentBudget:
    """A budget that is exhausted until its reset."""

    tenant_id: TenantId
    id: str
    name: str
    spent_usd: Decimal
    limit_usd: Decimal
    reset_at: datetime


SELECT_SPENT_BUDGETS: Final = """
    SELECT "tenantId", "id", "name", "spentUsd", "limitUsd", "resetAt"
    FROM ailydian_spent_budgets() ORDER BY "id"
"""


def select_spent_budgets(conn: Connection) -> list[SpentBudget]:
    """Return exhausted budgets."""
    return [SpentBudget(*row) for row in conn.execute(SELECT_SPENT_BUDGETS)]


@dataclass(frozen=True, slots=True)
class NewIncident:
    """A detector's finding; it escalates when `measured` doubles."""

    tenant_id: TenantId | None
    cause: str
    title: str
    description: str
    severity: str
    measured: float


RAISE_INCIDENT: Final = """
    SELECT ailydian_raise_incident(%(tenant_id)s::text, %(cause)s, %(title)s, %(description)s,
                                   %(severity)s::"IncidentSeverity", %(measured)s::float8)
"""


def raise_incident(conn: Connection, new: NewIncident) -> str | None:
    """Open an incident, or record that its cause persists.

    Returns:
        `opened`, `escalated`, or None if no notification is needed.
    """
    values = {
        "tenant_id": new.tenant_id,
        "cause": new.cause,
        "title": new.title,
        "description": new.description,
        "severity": new.severity,
        "measured": new.measured,
    }
    row = conn.execute(RAISE_INCIDENT, values).fetchone()
    assert row is not None, "a select without a table yields a row"
    event: str | None = row[0]
    return event


SETTLE_INCIDENTS: Final = """
    SELECT ailydian_settle_incidents(%(kinds)s::text[], %(quiet_s)s::float8 * interval '1 second')
"""


def settle(conn: Connection, kinds: list[str], *, quiet_s: float) -> int:
    """Resolve open incidents of these kinds whose cause was not seen for `quiet_s`."""
    row = conn.execute(SETTLE_INCIDENTS, {"kinds": kinds, "quiet_s": quiet_s}).fetchone()
    assert row is not None, "a select without a table yields a row"
    return int(row[0])


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """An incident in a list."""

    id: str
    tenant: str | None
    cause: str | None
    title: str
    description: str
    severity: str
    status: str
    escalations: int
    detected_at: datetime
    last_seen_at: datetime | None
    resolved_at: datetime | None
    handled_by: str | None
    reason: str | None


SELECT_INCIDENTS: Final = """
    SELECT i."id", t."slug" AS "tenant", i."cause", i."title", i."description", i."severity"::text,
           i."status"::text, i."escalations", i."detectedAt" AT TIME ZONE 'UTC' AS "detectedAt",
           i."lastSeenAt",
           i."resolvedAt" AT TIME ZONE 'UTC' AS "resolvedAt", i."handledBy", i."reason"
    FROM ailydian_list_incidents(%(id)s::text, %(tenant_id)s::text, %(system)s::boolean,
                                 %(only_open)s::boolean, %(limit)s::int,
                                 %(before)s::timestamptz AT TIME ZONE 'UTC',
                                 %(before_id)s::text) i
    LEFT JOIN "Tenant" t ON t."id" = i."tenantId"
    ORDER BY i."detectedAt" DESC, i."id" DESC
"""


@dataclass(frozen=True, slots=True)
class IncidentFilters:
    """Filters of incidents; by default all."""

    id: str | None = None
    tenant_id: TenantId | None = None
    system: bool = False
    only_open: bool = False


def select_incidents(
    conn: Connection,
    wanted: IncidentFilters,
    *,
    before: tuple[datetime, str] | None = None,
    limit: int,
) -> list[IncidentRow]:
    """Return incidents, newest first; those without a tenant are the system's.

    Args:
        conn: A connection in the relay's role.
        wanted: Filters.
        before: Time and id of the last row of the page before.
        limit: Maximum rows.
    """
    at, before_id = before or (None, None)
    values = {
        "before": at,
        "before_id": before_id,
        "id": wanted.id,
        "tenant_id": wanted.tenant_id,
        "system": wanted.system,
        "only_open": wanted.only_open,
        "limit": limit,
    }
    return [IncidentRow(*row) for row in conn.execute(SELECT_INCIDENTS, values)]


COUNT_OPEN: Final = """
    SELECT "severity", "incidents" FROM ailydian_count_incidents()
"""


def count_open(conn: Connection) -> dict[str, int]:
    """Count unresolved incidents by severity."""
    return {severity: incidents for severity, incidents in conn.execute(COUNT_OPEN)}


SELECT_OPEN_CAUSES: Final = """
    SELECT coalesce(i."tenantId", '') AS "tenant", i."cause"
    FROM ailydian_list_incidents(NULL, NULL, false, true, %(limit)s::int) i
    WHERE i."cause" IS NOT NULL
"""


def select_open_causes(conn: Connection, *, limit: int) -> set[tuple[str, str]]:
    """Return tenant ('' for the system) and cause of open incidents."""
    return {(tenant, cause) for tenant, cause in conn.execute(SELECT_OPEN_CAUSES, {"limit": limit})}


ANSWER: Final = """
    SELECT "tenantId", "status"
    FROM ailydian_answer_incident(%(id)s, %(status)s::"IncidentStatus", %(who)s, %(why)s::text)
"""


def take(conn: Connection, incident_id: str, who: str) -> tuple[TenantId | None, str] | None:
    """Acknowledge an incident. Returns its tenant and former status; None if not open."""
    return _answer(conn, {"id": incident_id, "status": "INVESTIGATING", "who": who, "why": None})


def close(
    conn: Connection, incident_id: str, who: str, why: str
) -> tuple[TenantId | None, str] | None:
    """Close an incident. Returns its tenant and its former status; None if it is not open."""
    return _answer(conn, {"id": incident_id, "status": "CLOSED", "who": who, "why": why})


def _answer(conn: Connection, values: dict[str, Any]) -> tuple[TenantId | None, str] | None:
    row = conn.execute(ANSWER, values).fetchone()
    if row is None:
        return None
    tenant_id, status = row
    return tenant_id, status
