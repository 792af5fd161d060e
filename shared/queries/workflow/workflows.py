"""Workflows and their versions: put, found by name, read for a start."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared.db import Connection


@dataclass(frozen=True, slots=True)
class VersionRow:
    """The newest version of a workflow."""

    id: str
    workflow_id: str
    version: int
    digest: str
    definition: dict[str, Any]


@dataclass(frozen=True, slots=True)
class NewNode:
    """A row of "WorkflowNode"; `spec` is JSON text."""

    position: int
    name: str
    uses: str
    spec: str
    needs: int
    dependents: Sequence[int]
    reads: Sequence[int]
    list_reads: Sequence[int]
    compensates: int | None
    mapped: bool
    on_error: str
    attempts_max: int
    backoff_s: float | None
    timeout_s: float | None


# Puts of one name come one after the other.
LOCK: Final = """
    SELECT pg_advisory_xact_lock(
        hashtextextended('workflow/' || current_setting('app.tenant_id') || '/' || %(name)s, 0))
"""

UPSERT_WORKFLOW: Final = """
    WITH found AS (
        SELECT w."id" FROM "Workflow" w WHERE w."name" = %(name)s
        ORDER BY w."createdAt", w."id" LIMIT 1
    ), made AS (
        INSERT INTO "Workflow" ("name", "description", "dag")
        SELECT %(name)s, %(description)s, %(dag)s::jsonb WHERE NOT EXISTS (SELECT FROM found)
        RETURNING "id"
    )
    SELECT "id" FROM found UNION ALL SELECT "id" FROM made
"""


def lock_workflow(conn: Connection, name: str, description: str | None, dag: str) -> str:
    """Lock and return the id of the tenant's workflow of this name, created if needed."""
    conn.execute(LOCK, {"name": name})
    row = conn.execute(
        UPSERT_WORKFLOW, {"name": name, "description": description, "dag": dag}
    ).fetchone()
    assert row is not None, "found or made"
    return str(row[0])


SELECT_NEWEST: Final = """
    SELECT v."id", v."workflowId", v."version", v."digest", v."definition"
    FROM "Workflow" w JOIN "WorkflowVersion" v ON v."workflowId" = w."id"
    WHERE w."name" = %(name)s ORDER BY w."createdAt", w."id", v."version" DESC LIMIT 1
"""


def select_newest(conn: Connection, name: str) -> VersionRow | None:
    """The newest version of the tenant's workflow of this name."""
    row = conn.execute(SELECT_NEWEST, {"name": name}).fetchone()
    return None if row is None else VersionRow(*row)


SELECT_VERSION: Final = """
    SELECT v."id", v."workflowId", v."version", v."digest", v."definition"
    FROM "Workflow" w JOIN "WorkflowVersion" v ON v."workflowId" = w."id"
    WHERE w."name" = %(name)s AND v."version" = %(version)s ORDER BY w."createdAt" LIMIT 1
"""


def select_version(conn: Connection, name: str, version: int) -> VersionRow | None:
    """A given version of the tenant's workflow of this name."""
    row = conn.execute(SELECT_VERSION, {"name": name, "version": version}).fetchone()
    return None if row is None else VersionRow(*row)


SELECT_UNREAD: Final = """
    SELECT w."dag" FROM "Workflow" w
    WHERE w."name" = %(name)s AND NOT EXISTS (
        SELECT FROM "WorkflowVersion" v WHERE v."workflowId" = w."id" AND v."definition" = w."dag")
    ORDER BY w."createdAt", w."id" LIMIT 1
"""


def select_unread(conn: Connection, name: str) -> object | None:
    """The DAG that the platform wrote for this name and that is not a version yet."""
    row = conn.execute(SELECT_UNREAD, {"name": name}).fetchone()
    return None if row is None else row[0]


INSERT_VERSION: Final = """
    WITH changed AS (
        UPDATE "Workflow" w SET "version" = w."version" + 1, "dag" = %(dag)s::jsonb,
            "description" = %(description)s
        WHERE w."id" = %(workflow_id)s RETURNING w."id", w."version", w."tenantId"
    )
    INSERT INTO "WorkflowVersion" ("tenantId", "workflowId", "version", "definition", "digest",
                                   "steps", "ends", "timeoutS", "createdBy")
    SELECT "tenantId", "id", "version", %(dag)s::jsonb, %(digest)s, %(steps)s, %(ends)s,
           %(timeout_s)s, %(created_by)s FROM changed
    RETURNING "id", "version"
"""


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A row of "WorkflowVersion"; `dag` is the definition as JSON text."""

    workflow_id: str
    description: str | None
    dag: str
    digest: str
    steps: int
    ends: int
    timeout_s: float
    created_by: str | None


def insert_version(conn: Connection, new: NewVersion) -> tuple[str, int]:
    """Store a definition as the newest version of its workflow. Returns its id and number."""
    row = conn.execute(
        INSERT_VERSION,
        {
            "workflow_id": new.workflow_id,
            "description": new.description,
            "dag": new.dag,
            "digest": new.digest,
            "steps": new.steps,
            "ends": new.ends,
            "timeout_s": new.timeout_s,
            "created_by": new.created_by,
        },
    ).fetchone()
    assert row is not None, "the workflow is locked"
    id_, version = row
    return id_, version


INSERT_NODES: Final = """
    INSERT INTO "WorkflowNode" ("tenantId", "versionId", "position", "name", "uses", "spec",
        "needs", "dependents", "reads", "listReads", "compensates", "mapped", "onError",
        "attemptsMax", "backoffS", "timeoutS")
    SELECT current_setting('app.tenant_id'), %(version_id)s, n."position", n."name", n."uses",
           n."spec"::jsonb, n."needs", n."dependents"::int[], n."reads"::int[],
           n."listReads"::int[], n."compensates", n."mapped", n."onError", n."attemptsMax",
           n."backoffS", n."timeoutS"
    FROM unnest(%(positions)s::int[], %(names)s::text[], %(uses)s::text[], %(specs)s::text[],
                %(needs)s::int[], %(dependents)s::text[], %(reads)s::text[],
                %(list_reads)s::text[], %(compensates)s::int[], %(mapped)s::bool[],
                %(on_errors)s::text[], %(attempts)s::int[], %(backoffs)s::float8[],
                %(timeouts)s::float8[])
         AS n("position", "name", "uses", "spec", "needs", "dependents", "reads", "listReads",
              "compensates", "mapped", "onError", "attemptsMax", "backoffS", "timeoutS")
"""


def insert_nodes(conn: Connection, version_id: str, nodes: Sequence[NewNode]) -> None:
    """Store the compiled steps of a version, in one statement."""
    conn.execute(
        INSERT_NODES,
        {
            "version_id": version_id,
            "positions": [node.position for node in nodes],
            "names": [node.name for node in nodes],
            "uses": [node.uses for node in nodes],
            "specs": [node.spec for node in nodes],
            "needs": [node.needs for node in nodes],
            "dependents": [_array(node.dependents) for node in nodes],
            "reads": [_array(node.reads) for node in nodes],
            "list_reads": [_array(node.list_reads) for node in nodes],
            "compensates": [node.compensates for node in nodes],
            "mapped": [node.mapped for node in nodes],
            "on_errors": [node.on_error for node in nodes],
            "attempts": [node.attempts_max for node in nodes],
            "backoffs": [node.backoff_s for node in nodes],
            "timeouts": [node.timeout_s for node in nodes],
        },
    )


def _array(numbers: Sequence[int]) -> str:
    return "{" + ",".join(map(str, numbers)) + "}"


START: Final = """
    SELECT "id", "state", "duplicate" FROM ailydian_start_run(
        NULL, %(version_id)s::text, %(input)s::jsonb, %(key)s::text,
        %(slot_key)s::text, %(on_conflict)s::text, %(parent_step)s::text, %(depth)s::int,
        %(producer)s::text, %(traceparent)s::text)
"""


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to start; `input` is JSON text."""

    version_id: str
    input: str
    key: str | None = None
    slot_key: str | None = None
    on_conflict: str = "queue"
    parent_step: str | None = None
    depth: int = 0
    producer: str | None = None
    traceparent: str | None = None


def start_run(conn: Connection, new: NewRun) -> tuple[str, str, bool]:
    """Start a run with all its steps. Returns the run's id, its state, whether it was there."""
    row = conn.execute(
        START,
        {
            "version_id": new.version_id,
            "input": new.input,
            "key": new.key,
            "slot_key": new.slot_key,
            "on_conflict": new.on_conflict,
            "parent_step": new.parent_step,
            "depth": new.depth,
            "producer": new.producer,
            "traceparent": new.traceparent,
        },
    ).fetchone()
    assert row is not None, "a run was started or found"
    id_, state, duplicate = row
    return id_, state, duplicate
