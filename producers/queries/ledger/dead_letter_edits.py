"""A dead letter's payload and edits. In the relay's role."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from psycopg.types.json import Jsonb

from shared.db import Connection
from shared.ids import JobId, TenantId


@dataclass(frozen=True, slots=True)
class LetterRow:
    """The fields of a dead letter that lists leave out; an unreadable payload is its text."""

    tenant_id: TenantId
    key: str | None
    payload: dict[str, Any] | str
    schema_version: int
    edits: list[dict[str, Any]]


SELECT_LETTER: Final = """
    SELECT j."tenantId", j."key", j."payload", j."schemaVersion", d."edits"
    FROM "Job" j JOIN "DeadLetter" d ON d."tenantId" = j."tenantId" AND d."jobId" = j."id"
    WHERE j."id" = %(id)s
"""


def select_letter(conn: Connection, job_id: JobId) -> LetterRow | None:
    """Return the payload of a dead job and its edits."""
    row = conn.execute(SELECT_LETTER, {"id": job_id}).fetchone()
    return None if row is None else LetterRow(*row)


@dataclass(frozen=True, slots=True)
class Edit:
    """A dead job's new payload and its derived values. `diff` records who changed what."""

    job_id: JobId
    before: Mapping[str, Any] | str
    payload: str
    schema_version: int
    limit_key: str
    cost: int
    diff: Mapping[str, Any]


# The payload is compared with the one that was read: one of two concurrent edits fails.
EDIT: Final = """
    WITH edited AS (
        UPDATE "Job" j
        SET "payload" = %(payload)s::jsonb, "schemaVersion" = %(schema_version)s,
            "limitKey" = %(limit_key)s, "cost" = %(cost)s
        WHERE j."id" = %(id)s AND j."state" = 'DEAD' AND j."payload" = %(before)s::jsonb
        RETURNING j."id", j."tenantId"
    )
    UPDATE "DeadLetter" d SET "edits" = d."edits" || %(diff)s::jsonb
    FROM edited e WHERE d."tenantId" = e."tenantId" AND d."jobId" = e."id"
"""


def edit(conn: Connection, change: Edit) -> bool:
    """Change a dead job's payload. Returns False if it is not dead any more or was changed."""
    before = change.before
    values = {
        "id": change.job_id,
        "before": before if isinstance(before, str) else Jsonb(dict(before)),
        "payload": change.payload,
        "schema_version": change.schema_version,
        "limit_key": change.limit_key,
        "cost": change.cost,
        "diff": Jsonb([dict(change.diff)]),
    }
    return conn.execute(EDIT, values).rowcount == 1


SELECT_HOLDER: Final = """
    SELECT j."id" FROM "Job" j
    WHERE j."tenantId" = %(tenant_id)s AND j."job" = %(job)s AND j."key" = %(key)s
"""


def select_holder(conn: Connection, tenant_id: TenantId, job: str, key: str) -> JobId | None:
    """Return the job that has this idempotency key."""
    row = conn.execute(SELECT_HOLDER, {"tenant_id": tenant_id, "job": job, "key": key}).fetchone()
    return None if row is None else JobId(row[0])
