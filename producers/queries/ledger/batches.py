"""Batches: jobs published together, their progress and their follow-up.

Lock order: "Job" rows, then the batch. An ended batch is finished by the relay that counts its
last event, or by the publisher who seals it after that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from shared.db import Connection
from shared.ids import JobId, TenantId


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A batch in a list; `waiting` jobs have not ended or are not counted yet."""

    id: str
    tenant: str | None
    name: str
    state: str
    total: int
    completed: int
    dead: int
    cancelled: int
    waiting: int
    then_job: str | None
    then_id: JobId | None
    created_at: datetime
    sealed_at: datetime | None
    finished_at: datetime | None


INSERT_BATCH: Final = """
    INSERT INTO "JobBatch" ("id", "name", "thenJob", "thenPayload")
    VALUES (coalesce(%(id)s::text, ailydian_new_id()), %(name)s, %(then_job)s::text,
            %(then_payload)s::jsonb)
    ON CONFLICT ("tenantId", "id") DO NOTHING RETURNING "id"
"""

SELECT_KIND: Final = """
    SELECT EXISTS (SELECT FROM "JobKind" WHERE "job" = %(job)s)
"""

ADD: Final = """
    UPDATE "JobBatch" SET "total" = "total" + %(count)s::int
    WHERE "id" = %(id)s AND "tenantId" = current_setting('app.tenant_id') AND "sealedAt" IS NULL
"""

SEAL: Final = """
    UPDATE "JobBatch" SET "sealedAt" = coalesce("sealedAt", clock_timestamp())
    WHERE "id" = %(id)s AND "tenantId" = current_setting('app.tenant_id')
    RETURNING "tenantId", "finishedAt" IS NULL
        AND "completed" + "dead" + "cancelled" = "total" AS "ended"
"""


def insert_batch(
    conn: Connection,
    *,
    batch_id: str | None,
    name: str,
    then_job: str | None,
    then_payload: str | None,
) -> str | None:
    """Open a batch of the transaction's tenant; `then_payload` is JSON text.

    Returns:
        Its id; None if the tenant has a batch with this id.
    """
    values = {"id": batch_id, "name": name, "then_job": then_job, "then_payload": then_payload}
    row = conn.execute(INSERT_BATCH, values).fetchone()
    return None if row is None else str(row[0])


def is_known(conn: Connection, job: str) -> bool:
    """Whether the ledger knows the job's queue and can publish it."""
    row = conn.execute(SELECT_KIND, {"job": job}).fetchone()
    return row is not None and bool(row[0])


def add(conn: Connection, batch_id: str, count: int) -> bool:
    """Add to the expected jobs of a batch of the transaction's tenant.

    Returns:
        False if there is no such batch, or it is sealed.
    """
    return conn.execute(ADD, {"id": batch_id, "count": count}).rowcount == 1


@dataclass(frozen=True, slots=True)
class SealedBatch:
    """A sealed batch; `ended` if all its jobs had ended before."""

    tenant_id: TenantId
    ended: bool


def seal(conn: Connection, batch_id: str) -> SealedBatch | None:
    """Seal a batch; None if the transaction's tenant has no such batch."""
    row = conn.execute(SEAL, {"id": batch_id}).fetchone()
    return None if row is None else SealedBatch(*row)


class Ended(Protocol):
    """A batch whose jobs have all ended, and its last job, if any."""

    @property
    def tenant_id(self) -> TenantId: ...  # noqa: D102
    @property
    def batch_id(self) -> str: ...  # noqa: D102
    @property
    def job_id(self) -> JobId | None: ...  # noqa: D102


# The job that ended last is the parent of what follows: so a full queue lets it through, and the
# trace goes on. The ledger's own knowledge of the kind will do: limits by key or cost are none.
FINISH: Final = """
    WITH ended AS (
        UPDATE "JobBatch" b
        SET "finishedAt" = clock_timestamp(),
            "thenId" = CASE WHEN b."thenJob" IS NOT NULL THEN ailydian_new_id() END
        FROM unnest(%(tenants)s::text[], %(batches)s::text[], %(jobs)s::text[])
             AS m("tenantId", "id", "jobId")
        WHERE b."tenantId" = m."tenantId" AND b."id" = m."id" AND b."finishedAt" IS NULL
          AND b."sealedAt" IS NOT NULL
          AND b."completed" + b."dead" + b."cancelled" = b."total"
        RETURNING b.*, m."jobId"
    ), followed AS (
        INSERT INTO "Job" ("id", "tenantId", "job", "queue", "payload", "schemaVersion", "key",
                           "attemptsMax", "parentId", "producer", "traceparent")
        SELECT e."thenId", e."tenantId", e."thenJob", k."queue", e."thenPayload",
               k."schemaVersion", 'batch:' || e."id", k."attemptsMax", e."jobId",
               'batch:' || e."id",
               (SELECT j."traceparent" FROM "Job" j WHERE j."id" = e."jobId")
        FROM ended e JOIN "JobKind" k ON k."job" = e."thenJob"
        ON CONFLICT ("tenantId", "job", "key") WHERE "key" IS NOT NULL DO NOTHING
    )
    SELECT count(*) FROM ended
"""


def finish(conn: Connection, ended: Sequence[Ended]) -> int:
    """Finish sealed batches whose jobs have all ended, and publish their follow-ups.

    Returns:
        How many were not finished before.
    """
    values = {
        "tenants": [one.tenant_id for one in ended],
        "batches": [one.batch_id for one in ended],
        "jobs": [one.job_id for one in ended],
    }
    row = conn.execute(FINISH, values).fetchone()
    assert row is not None, "an aggregate yields a row"
    return int(row[0])


SELECT_BATCHES: Final = """
    SELECT b."id", t."slug" AS "tenant", b."name",
           CASE WHEN b."finishedAt" IS NOT NULL THEN 'FINISHED'
                WHEN b."sealedAt" IS NOT NULL THEN 'SEALED' ELSE 'OPEN' END AS "state",
           b."total", b."completed", b."dead", b."cancelled",
           b."total" - b."completed" - b."dead" - b."cancelled" AS "waiting", b."thenJob",
           b."thenId", b."createdAt", b."sealedAt", b."finishedAt"
    FROM "JobBatch" b LEFT JOIN "Tenant" t ON t."id" = b."tenantId"
    WHERE (%(tenant_id)s::text IS NULL OR b."tenantId" = %(tenant_id)s)
      AND (%(id)s::text IS NULL OR b."id" = %(id)s)
      AND (NOT %(unfinished)s::bool OR b."finishedAt" IS NULL)
      AND (%(before)s::timestamptz IS NULL
           OR (b."createdAt", b."id") < (%(before)s, %(before_id)s::text))
    ORDER BY b."createdAt" DESC, b."id" DESC LIMIT %(limit)s
"""


def select_batches(
    conn: Connection,
    tenant_id: TenantId | None,
    *,
    unfinished: bool,
    before: tuple[datetime, str] | None = None,
    limit: int,
) -> list[BatchRow]:
    """Return batches of a tenant, or of all in the relay's role, newest first.

    Args:
        conn: A connection in the relay's role.
        tenant_id: Whose; None for all.
        unfinished: Only those that have not finished.
        before: Time and id of the last row of the page before.
        limit: Maximum rows.
    """
    at, before_id = before or (None, None)
    values: dict[str, object] = {"tenant_id": tenant_id, "id": None, "unfinished": unfinished}
    values |= {"limit": limit} | {"before": at, "before_id": before_id}
    return [BatchRow(*row) for row in conn.execute(SELECT_BATCHES, values)]


def select_progress(
    conn: Connection, batch_id: str, tenant_id: TenantId | None = None
) -> BatchRow | None:
    """Return a batch's progress as of the relay's last count; None if it does not exist."""
    values: dict[str, object] = {"tenant_id": tenant_id, "id": batch_id, "unfinished": False}
    values |= {"limit": 1} | {"before": None, "before_id": None}
    row = conn.execute(SELECT_BATCHES, values).fetchone()
    return None if row is None else BatchRow(*row)
