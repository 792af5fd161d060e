"""Queue `webhooks`: an event is posted to a tenant's address, signed, until it is taken there.

Delivery is at least once and in no order: receivers deduplicate by the event's id.
"""

import json
import time
from http import HTTPStatus
from typing import Final

from shared import db
from shared.contracts import DeliverWebhook
from shared.egress import fetching, signatures
from shared.egress.fetching import FetchLimits, FetchRequest
from shared.egress.targets import policy_of
from shared.errors import TransientError
from shared.ledger.outbox import Lease, effect
from shared.models.providers.answers import retry_after_s
from shared.queries.ledger import outbox
from shared.settings import settings
from workers.process.broker import actor, signing_key
from workers.queries.ledger import webhooks
from workers.queries.ledger.webhooks import Receiver

TIMEOUT_S: Final = 10.0
OVERLAP_S: Final = 86_400.0


class WebhookFailed(TransientError):
    """The receiver of a webhook did not take an event."""

    code = "webhook_failed"


@actor(DeliverWebhook)
def deliver_webhook(job: DeliverWebhook, lease: Lease) -> None:
    """Post an event; what is not answered with 2xx is tried again."""
    with db.transaction(lease.tenant_id) as conn:
        receiver = webhooks.select_receiver(conn, job.webhook_id, overlap_s=OVERLAP_S)
    status = None if receiver is None else _post(receiver, job, lease)
    with effect(lease) as conn:
        outbox.set_outcome(conn, lease.job_id, lease.fence, json.dumps({"status": status}))


def _post(receiver: Receiver, job: DeliverWebhook, lease: Lease) -> int:
    """Post an event. Returns the status.

    Raises:
        WebhookFailed: It was not taken.
        AddressRefused: The address is not allowed any more.
        AddressUnreachable: Nobody answers there.
    """
    body = json.dumps(job.event, ensure_ascii=False, sort_keys=True).encode()
    secrets = [
        signatures.webhook_secret(signing_key(), job.webhook_id, number)
        for number in receiver.secrets
    ]
    headers = {
        "Content-Type": "application/json",
        "X-Ailydian-Delivery": lease.job_id,
        "X-Ailydian-Signature": signatures.signature(secrets, body, int(time.time())),
    }
    reply = fetching.fetch(
        FetchRequest("POST", receiver.url, headers, body),
        FetchLimits(timeout_s=TIMEOUT_S),
        policy=policy_of(settings()),
    )
    if not HTTPStatus.OK <= reply.status < HTTPStatus.MULTIPLE_CHOICES:
        raise WebhookFailed(
            f"{reply.host} answered with {reply.status}.",
            retry_after_s=retry_after_s(reply.headers),
        )
    return reply.status
