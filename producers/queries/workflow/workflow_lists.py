"""Lists of runs and definitions, and counts of runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.db import Connection
from shared.ids import RunId, TenantId


@dataclass(frozen=True, slots=True)
class RunFilters:
    """Filters of runs; None means any.

    Attributes:
        where: Dotted path of the input -> its value.
        before: Time and id of the run that the list goes on after.
    """

    workflow: str | None = None
    state: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    fingerprint: str | None = None
    where: Mapping[str, str] | None = None
    before: tuple[datetime, str] | None = None


@dataclass(frozen=True, slots=True)
class ListedRun:
    """One run in a list."""

    id: RunId
    workflow: str
    version: int
    status: str
    state: str
    key: str | None
    error: str | None
    fingerprint: str | None
    started_at: datetime
    completed_at: datetime | None


# Newest first within each workflow by its index, so that no sort of all runs is needed.
SELECT_RUNS: Final = """
    SELECT r."id", w."name" AS "workflow", r."version", r."status"::text, r."state", r."key",
           r."error", r."fingerprint", r."startedAt" AT TIME ZONE 'UTC' AS "startedAt",
           r."completedAt" AT TIME ZONE 'UTC' AS "completedAt"
    FROM (SELECT "id", "name" FROM "Workflow"
          WHERE "tenantId" = %(tenant_id)s
            AND (%(workflow)s::text IS NULL OR "name" = %(workflow)s)) w
    CROSS JOIN LATERAL (
        SELECT r.*, v."version" FROM "WorkflowRun" r
        JOIN "WorkflowVersion" v ON v."id" = r."versionId"
        WHERE r."workflowId" = w."id"
          AND (%(state)s::text IS NULL OR r."state" = %(state)s)
          AND (%(fingerprint)s::text IS NULL OR r."fingerprint" = %(fingerprint)s)
          AND (%(since)s::timestamptz IS NULL
               OR r."startedAt" >= %(since)s::timestamptz AT TIME ZONE 'UTC')
          AND (%(until)s::timestamptz IS NULL
               OR r."startedAt" < %(until)s::timestamptz AT TIME ZONE 'UTC')
          AND (%(before)s::timestamptz IS NULL
               OR (r."startedAt", r."id")
                  < (%(before)s::timestamptz AT TIME ZONE 'UTC', %(before_id)s::text))
          AND (%(paths)s::text[] IS NULL OR NOT EXISTS (
              SELECT FROM unnest(%(paths)s::text[], %(values)s::text[]) AS f("path", "value")
              WHERE r."input" #>> string_to_array(f."path", '.') IS DISTINCT FROM f."value"))
        ORDER BY r."startedAt" DESC, r."id" DESC LIMIT %(limit)s
    ) r
    ORDER BY r."startedAt" DESC, r."id" DESC LIMIT %(limit)s
"""


def select_runs(
    conn: Connection, tenant_id: TenantId, wanted: RunFilters, *, limit: int
) -> list[ListedRun]:
    """Return the tenant's runs, newest first."""
    where = wanted.where or {}
    values = {
        "tenant_id": tenant_id,
        "workflow": wanted.workflow,
        "state": wanted.state,
        "since": wanted.since,
        "until": wanted.until,
        "fingerprint": wanted.fingerprint,
        "before": wanted.before and wanted.before[0],
        "before_id": wanted.before and wanted.before[1],
        "paths": list(where) or None,
        "values": list(where.values()) or None,
        "limit": limit,
    }
    # Planned for its values: an unused filter is not part of the plan.
    return [ListedRun(*row) for row in conn.execute(SELECT_RUNS, values, prepare=False)]


@dataclass(frozen=True, slots=True)
class DefinitionRow:
    """One version of a workflow."""

    workflow: str
    version: int
    description: str | None
    steps: int
    digest: str
    created_at: datetime
    created_by: str | None


SELECT_DEFINITIONS: Final = """
    SELECT w."name" AS "workflow", v."version", w."description", v."steps", v."digest",
           v."createdAt", v."createdBy"
    FROM "Workflow" w JOIN "WorkflowVersion" v ON v."workflowId" = w."id"
    WHERE w."tenantId" = %(tenant_id)s AND (%(workflow)s::text IS NULL OR w."name" = %(workflow)s)
      AND (%(workflow)s::text IS NOT NULL OR v."version" = w."version")
      AND (%(version)s::int IS NULL OR v."version" = %(version)s)
      AND w."name" > %(after)s
    ORDER BY w."name", v."version" DESC LIMIT %(limit)s
"""


def select_definitions(
    conn: Connection,
    tenant_id: TenantId,
    workflow: str | None,
    *,
    version: int | None = None,
    after: str = "",
    limit: int,
) -> list[DefinitionRow]:
    """Return the latest version of each workflow; with a name, its versions, newest first.

    Args:
        conn: A connection inside `db.transaction(tenant_id)`.
        tenant_id: Whose.
        workflow: Only of this name.
        version: Only this one.
        after: Name of the last row of the page before.
        limit: Rows at most.
    """
    values: dict[str, object] = {"tenant_id": tenant_id, "workflow": workflow, "version": version}
    values |= {"after": after, "limit": limit}
    return [DefinitionRow(*row) for row in conn.execute(SELECT_DEFINITIONS, values)]


COUNT_RUNS: Final = """
    SELECT "state", "runs" FROM ailydian_count_runs(%(limit)s::int)
"""


def count_runs(conn: Connection, *, limit: int = 10_000) -> dict[str, int]:
    """State -> runs of all tenants that have not ended, and `failed`: those of the last hour.

    Each is counted up to `limit`. In the relay's role, which sees no run itself.
    """
    return {state: runs for state, runs in conn.execute(COUNT_RUNS, {"limit": limit})}
