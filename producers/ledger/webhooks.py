"""Webhooks of tenants: who is told of which events, and the deliveries that events become.

A delivery is a job, `deliver_webhook`: its retries, dead letters and replays are those of jobs.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from producers.queries.ledger import webhooks as queries
from producers.queries.ledger.webhooks import WebhookRow
from shared import db
from shared.db import Connection, Role
from shared.egress import targets
from shared.egress.signatures import webhook_secret
from shared.errors import UsageError
from shared.ids import TenantId
from shared.operations import audit
from shared.servers import embedded
from shared.settings import settings

WEBHOOKS_MAX: Final = 20
PAGE: Final = 1_000
What = Literal[
    "COMPLETED",
    "DEAD",
    "CANCELLED",
    "RETRY",
    "REPLAYED",
    "DISCARDED",
    "BATCH_FINISHED",
    "RUN_COMPLETED",
    "RUN_FAILED",
    "RUN_CANCELLED",
    "STEP_COMPLETED",
    "STEP_FAILED",
    "STEP_SKIPPED",
    "STEP_CANCELLED",
    "INCIDENT_OPENED",
    "INCIDENT_ESCALATED",
    "INCIDENT_RESOLVED",
]
WHATS: Final[tuple[str, ...]] = get_args(What)


class WebhookNotFound(UsageError):
    """The tenant has no such webhook."""

    code = "webhook_not_found"


class WebhookRefused(UsageError):
    """A tenant has as many webhooks as it may have."""

    code = "webhook_refused"


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """A webhook and the secret that its deliveries are signed with."""

    id: str
    secret: str = field(repr=False)


def create(
    tenant_id: TenantId, url: str, *, events: Sequence[str], jobs: Sequence[str]
) -> WebhookSecret:
    """Create a webhook. Events from now on are posted to it.

    Args:
        tenant_id: Whose events.
        url: Where to post: https, to a public address, if the settings of egress do not say more.
        events: What is posted, of `WHATS`.
        jobs: Of jobs and runs, only events of these kinds of jobs and of these workflows; none for
            all. Events of batches, steps and incidents are posted in any case.

    Raises:
        AddressRefused: The URL is invalid or not allowed.
        AddressUnreachable: Its host is not found.
        WebhookRefused: The tenant has `WEBHOOKS_MAX` already.
    """
    targets.target(url, targets.policy_of(settings()))
    with db.transaction(None, role=Role.RELAY) as conn:
        queries.put_cursor(conn)
    with db.transaction(tenant_id) as conn:
        if queries.count_webhooks(conn) >= WEBHOOKS_MAX:
            raise WebhookRefused(f"A tenant has at most {WEBHOOKS_MAX} webhooks: delete one.")
        webhook_id = queries.insert_webhook(
            conn,
            url,
            events=sorted(set(events)),
            jobs=sorted(set(jobs)),
            created_by=audit.who(),
        )
        audit.note(conn, "webhook.create", "Webhook", webhook_id, {"events": list(events)})
    return WebhookSecret(webhook_id, _secret(webhook_id, 1))


def list_webhooks(tenant_id: TenantId | None, *, limit: int) -> list[WebhookRow]:
    """Return webhooks, newest first; None is all tenants'."""
    with db.transaction(None, role=Role.RELAY) as conn:
        return queries.select_webhooks(conn, tenant_id, limit=limit)


def show(tenant_id: TenantId | None, webhook_id: str) -> WebhookRow:
    """Return a webhook.

    Raises:
        WebhookNotFound: The tenant has no such webhook.
    """
    with db.transaction(None, role=Role.RELAY) as conn:
        return found(conn, tenant_id, webhook_id)


def found(conn: Connection, tenant_id: TenantId | None, webhook_id: str) -> WebhookRow:
    """Return a webhook, in the role of the relay or of its tenant.

    Raises:
        WebhookNotFound: The tenant has no such webhook.
    """
    rows = queries.select_webhooks(conn, tenant_id, webhook_id=webhook_id, limit=1)
    if not rows:
        raise _not_found(webhook_id)
    return rows[0]


def enable(conn: Connection, tenant_id: TenantId, webhook_id: str, *, enabled: bool) -> WebhookRow:
    """Post events from now on, or post none, in the transaction of the tenant.

    Raises:
        WebhookNotFound: The tenant has no such webhook.
    """
    if not queries.enable(conn, webhook_id, enabled=enabled):
        raise _not_found(webhook_id)
    audit.note(conn, f"webhook.{'enable' if enabled else 'disable'}", "Webhook", webhook_id)
    return found(conn, tenant_id, webhook_id)


def rotate(tenant_id: TenantId, webhook_id: str) -> WebhookSecret:
    """Sign with a new secret; for a day the old one signs too.

    Raises:
        WebhookNotFound: The tenant has no such webhook.
    """
    with db.transaction(tenant_id) as conn:
        number = queries.rotate(conn, webhook_id)
        if number is None:
            raise _not_found(webhook_id)
        audit.note(conn, "webhook.rotate", "Webhook", webhook_id)
    return WebhookSecret(webhook_id, _secret(webhook_id, number))


def delete(conn: Connection, tenant_id: TenantId, webhook_id: str) -> WebhookRow:
    """Delete a webhook in the transaction of its tenant; deliveries that wait end unposted.

    Raises:
        WebhookNotFound: The tenant has no such webhook.
    """
    row = found(conn, tenant_id, webhook_id)
    if not queries.delete_webhook(conn, webhook_id):
        raise _not_found(webhook_id)
    audit.note(conn, "webhook.delete", "Webhook", webhook_id)
    return row


def sweep(stop: threading.Event) -> int:
    """Publish the deliveries of new events. Returns how many."""
    published = 0
    while not stop.is_set():
        with db.transaction(None, role=Role.RELAY) as conn:
            done = queries.fan_out(conn, limit=PAGE)
        published += done.published
        if done.events < PAGE:
            break
    return published


def _secret(webhook_id: str, number: int) -> str:
    key = embedded.signing_key(settings())
    return webhook_secret(key, webhook_id, number).get_secret_value()


def _not_found(webhook_id: str) -> WebhookNotFound:
    return WebhookNotFound(
        f"No webhook has the id {webhook_id[:64]!r}: see `ailydian webhooks list`."
    )
