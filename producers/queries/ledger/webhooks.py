"""Webhooks: subscriptions in their tenant's role, and the fan-out of events in the relay's."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.db import Connection


@dataclass(frozen=True, slots=True)
class WebhookRow:
    """A webhook; `jobs` are the kinds whose events are posted, none for all."""

    id: str
    tenant: str
    url: str
    events: list[str]
    jobs: list[str]
    enabled: bool
    created_by: str
    created_at: datetime
    rotated_at: datetime | None


INSERT_WEBHOOK: Final = """
    INSERT INTO "Webhook" ("url", "events", "jobs", "createdBy")
    VALUES (%(url)s, %(events)s::text[], %(jobs)s::text[], %(created_by)s) RETURNING "id"
"""


def insert_webhook(
    conn: Connection, url: str, *, events: Sequence[str], jobs: Sequence[str], created_by: str
) -> str:
    """Store a webhook of the transaction's tenant. Returns its id."""
    values = {"url": url, "events": list(events), "jobs": list(jobs), "created_by": created_by}
    row = conn.execute(INSERT_WEBHOOK, values).fetchone()
    assert row is not None, "an insert returns its row"
    return str(row[0])


COUNT_WEBHOOKS: Final = """
    SELECT count(*) FROM "Webhook" WHERE "tenantId" = current_setting('app.tenant_id')
"""


def count_webhooks(conn: Connection) -> int:
    """Return how many the transaction's tenant has."""
    row = conn.execute(COUNT_WEBHOOKS).fetchone()
    assert row is not None, "a count returns its row"
    return int(row[0])


SELECT_WEBHOOKS: Final = """
    SELECT w."id", t."slug" AS "tenant", w."url", w."events", w."jobs", w."enabled",
           w."createdBy" AS "created_by", w."createdAt" AS "created_at",
           w."rotatedAt" AS "rotated_at"
    FROM "Webhook" w JOIN "Tenant" t ON t."id" = w."tenantId"
    WHERE (%(tenant_id)s::text IS NULL OR w."tenantId" = %(tenant_id)s)
      AND (%(id)s::text IS NULL OR w."id" = %(id)s)
    ORDER BY w."createdAt" DESC, w."id" DESC LIMIT %(limit)s
"""


def select_webhooks(
    conn: Connection, tenant_id: str | None, *, webhook_id: str | None = None, limit: int
) -> list[WebhookRow]:
    """Return webhooks, newest first."""
    values = {"tenant_id": tenant_id, "id": webhook_id, "limit": limit}
    return [WebhookRow(*row) for row in conn.execute(SELECT_WEBHOOKS, values)]


ENABLE: Final = """
    UPDATE "Webhook" SET "enabled" = %(enabled)s
    WHERE "tenantId" = current_setting('app.tenant_id') AND "id" = %(id)s
"""


def enable(conn: Connection, webhook_id: str, *, enabled: bool) -> bool:
    """Post events, or do not. Returns whether the tenant has such a webhook."""
    return conn.execute(ENABLE, {"id": webhook_id, "enabled": enabled}).rowcount == 1


ROTATE: Final = """
    UPDATE "Webhook" SET "secret" = "secret" + 1, "rotatedAt" = now()
    WHERE "tenantId" = current_setting('app.tenant_id') AND "id" = %(id)s RETURNING "secret"
"""


def rotate(conn: Connection, webhook_id: str) -> int | None:
    """Take the next secret. Returns its number; None if the tenant has no such webhook."""
    row = conn.execute(ROTATE, {"id": webhook_id}).fetchone()
    return None if row is None else int(row[0])


DELETE_WEBHOOK: Final = """
    DELETE FROM "Webhook" WHERE "tenantId" = current_setting('app.tenant_id') AND "id" = %(id)s
"""


def delete_webhook(conn: Connection, webhook_id: str) -> bool:
    """Delete a webhook. Returns whether the tenant had it."""
    return conn.execute(DELETE_WEBHOOK, {"id": webhook_id}).rowcount == 1


# It begins at the present: what happened before the first webhook was created is not posted.
PUT_CURSOR: Final = """
    INSERT INTO "EventCursor" ("reader", "xid", "position")
    SELECT 'webhooks', coalesce(max(f."fold"), '0'), 9223372036854775807 FROM "EventFold" f
    ON CONFLICT DO NOTHING
"""


def put_cursor(conn: Connection) -> None:
    """Let events be read from now on, if they are not yet. In the relay's role."""
    conn.execute(PUT_CURSOR)


# One statement: it locks the cursor's row, publishes a delivery for each webhook of each event and
# moves the cursor, so no event is posted twice by it, and none is left out. `jobs` of a webhook are
# kinds of jobs and names of workflows: an event of a batch, a step or an incident has a name of it.
FAN_OUT: Final = """
    WITH cursor AS MATERIALIZED (
        SELECT c."xid", c."position" FROM "EventCursor" c
        WHERE c."reader" = 'webhooks' FOR UPDATE SKIP LOCKED
    ), news AS MATERIALIZED (
        SELECT e.* FROM cursor c CROSS JOIN LATERAL ailydian_read_events(
            c."xid", c."position", (SELECT max(f."fold") FROM "EventFold" f), %(limit)s) e
    ), wanted AS (
        SELECT w."tenantId", w."id" AS "webhookId", e."jobId",
               e."fold"::text || '-' || e."position" AS "id", e."at",
               e."what", e."job", e."queue", e."batchId"
        FROM news e JOIN "Webhook" w ON w."tenantId" = e."tenantId" AND w."enabled"
        WHERE w."createdAt" <= e."at" AND e."what" = ANY (w."events")
          AND (e."what" ~ '^(BATCH|STEP|INCIDENT)_'
               OR e."job" <> 'deliver_webhook'
                  AND (w."jobs" = '{}' OR e."job" = ANY (w."jobs")))
    ), published AS (
        INSERT INTO "Job" ("tenantId", "job", "queue", "payload", "schemaVersion", "key",
                           "attemptsMax", "limitKey", "parentId", "producer")
        SELECT w."tenantId", k."job", k."queue",
               jsonb_build_object('webhook_id', w."webhookId", 'event', jsonb_build_object(
                   'id', w."id", 'at', w."at", 'what', w."what", 'tenantId', w."tenantId",
                   'jobId', w."jobId", 'job', w."job", 'queue', w."queue",
                   'batchId', w."batchId")),
               k."schemaVersion", w."webhookId" || ':' || w."id", k."attemptsMax",
               w."webhookId", w."jobId", 'scheduler:webhooks'
        FROM wanted w JOIN "JobKind" k ON k."job" = 'deliver_webhook'
        ON CONFLICT ("tenantId", "job", "key") WHERE "key" IS NOT NULL DO NOTHING
        RETURNING "id"
    ), moved AS (
        UPDATE "EventCursor" c SET "xid" = l."fold", "position" = l."position", "movedAt" = now()
        FROM (SELECT e."fold", e."position" FROM news e
              ORDER BY e."fold" DESC, e."position" DESC LIMIT 1) l
        WHERE c."reader" = 'webhooks'
    )
    SELECT (SELECT count(*) FROM news) AS "events", (SELECT count(*) FROM published) AS "published"
"""


@dataclass(frozen=True, slots=True)
class FannedOut:
    """How many events were read, and how many deliveries they became."""

    events: int
    published: int


def fan_out(conn: Connection, *, limit: int) -> FannedOut:
    """Publish the deliveries of the next events. Nothing, while another process does.

    Args:
        conn: A connection of the relay.
        limit: Maximum events.
    """
    row = conn.execute(FAN_OUT, {"limit": limit}).fetchone()
    assert row is not None, "a count returns its row"
    return FannedOut(*row)
