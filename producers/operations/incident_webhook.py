"""The incident webhook: each notification is signed and posted until it is delivered.

Delivery is at least once, and in order for each incident: receivers deduplicate by
`X-Ailydian-Delivery`. No connection to Postgres is held meanwhile.
"""

import json
import threading
import time
from http import HTTPStatus

import structlog

from producers.queries.operations import incident_notices
from producers.queries.operations.incident_notices import Notice
from shared import db
from shared.db import Role
from shared.egress import fetching
from shared.egress.fetching import FetchLimits, FetchRequest
from shared.egress.signatures import signature
from shared.egress.targets import policy_of
from shared.errors import AilydianError, ConfigurationBroken
from shared.settings import Settings

log = structlog.get_logger()

POSTS_MAX = 50
TIMEOUT_S = 10.0
# After a crash while posting, another process posts it again after this time.
LEASE_S = 60.0
BACKOFF_S = 10.0
BACKOFF_S_MAX = 3_600.0
GIVE_UP_S = 86_400.0
# Retention of delivered or abandoned notifications, and of those without a webhook.
KEPT_S = 30 * 86_400.0
UNSENT_S = 90_000.0


def sweep(config: Settings, stop: threading.Event) -> int:
    """Post due notifications until none is left or the receiver does not respond.

    Without a webhook nothing is posted; notifications are deleted after a day.

    Returns:
        Number of delivered notifications.

    Raises:
        ConfigurationBroken: A webhook is set without a secret to sign with.
    """
    with db.transaction(None, role=Role.RELAY) as conn:
        incident_notices.prune(conn, kept_s=KEPT_S, unsent_s=UNSENT_S)
    if config.incident_webhook_url is None:
        return 0
    if config.incident_webhook_secret is None:
        raise ConfigurationBroken(
            "AILYDIAN_INCIDENT_WEBHOOK_URL is set and AILYDIAN_INCIDENT_WEBHOOK_SECRET is not: "
            "set both, because receivers must verify the signature."
        )
    heard = 0
    for _ in range(POSTS_MAX):
        if stop.is_set():
            break
        with db.transaction(None, role=Role.RELAY) as conn:
            notice = incident_notices.claim_next(conn, lease_s=LEASE_S)
        if notice is None or not _deliver(config, notice):
            break
        heard += 1
    return heard


def backoff_s(attempts: int) -> float:
    """Return seconds to wait after `failed` attempts, >= 1: doubling, up to an hour."""
    return float(min(BACKOFF_S * 2.0 ** min(attempts - 1, 32), BACKOFF_S_MAX))


def _deliver(config: Settings, notice: Notice) -> bool:
    """Post a notification and record the result. Returns whether it was delivered."""
    failed = _post(config, notice)
    with db.transaction(None, role=Role.RELAY) as conn:
        if failed is None:
            incident_notices.mark_sent(conn, notice.id)
            return True
        wait_s = backoff_s(notice.attempts)
        given_up = incident_notices.mark_failed(
            conn, notice.id, failed, wait_s=wait_s, give_up_s=GIVE_UP_S
        )
    log.warning(
        "incident.unheard",
        notice_id=notice.id,
        attempts=notice.attempts,
        error=failed,
        given_up=given_up,
    )
    return False


def _post(config: Settings, notice: Notice) -> str | None:
    """Post it. Returns the reason of a failed delivery, or None."""
    assert config.incident_webhook_url is not None, "there is a webhook"
    assert config.incident_webhook_secret is not None, "there is a secret"
    body = json.dumps(notice.body, ensure_ascii=False, sort_keys=True).encode()
    headers = {
        "Content-Type": "application/json",
        "X-Ailydian-Delivery": notice.id,
        "X-Ailydian-Signature": signature([config.incident_webhook_secret], body, int(time.time())),
    }
    request = FetchRequest("POST", config.incident_webhook_url.get_secret_value(), headers, body)
    try:
        reply = fetching.fetch(request, FetchLimits(timeout_s=TIMEOUT_S), policy=policy_of(config))
    except AilydianError as error:
        return str(error)
    if HTTPStatus.OK <= reply.status < HTTPStatus.MULTIPLE_CHOICES:
        return None
    return f"{reply.host} answered with {reply.status}."
