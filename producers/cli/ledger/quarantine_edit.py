"""Editing a quarantined message: the result is a valid wake-up of an existing job."""

import hashlib
from typing import Any

import psycopg

from producers.cli.terminal import session
from producers.cli.terminal.failures import JobNotFound
from producers.queries.ledger import jobs
from shared import db
from shared.db import Role
from shared.errors import EditRefused, PayloadRefused
from shared.ids import JobId
from shared.ledger.wakeups import Wire
from shared.operations import audit
from shared.queries.ledger import clock, quarantines
from shared.queries.operations.audit_logs import AuditEntry
from shared.servers import embedded
from shared.settings import settings

_SHOWN = 200


def wire() -> Wire:
    """Return the Redis key names and the signing key of this installation."""
    config = settings()
    return Wire(config.redis_namespace, embedded.signing_key(config))


def edit(message_id: str, fields: dict[str, Any]) -> None:
    """Replace a quarantined message by a signed wake-up; the diff is stored and audited.

    Args:
        message_id: The message's.
        fields: `job`, an id, and `attempt`, the number of attempts made; `v` and `sig` are
            accepted and replaced.

    Raises:
        JobNotFound: No message has this id.
        PayloadRefused: Invalid fields, or no job of this queue has the id.
        EditRefused: The same message is quarantined already, or it was changed concurrently.
    """
    job_id, attempt = _checked(fields)
    with db.transaction(None, role=Role.RELAY) as conn:
        rows = quarantines.select_quarantined(
            conn, quarantines.QuarantineFilters(), ids=[message_id], limit=1
        )
        if not rows:
            raise JobNotFound(f"No message has the id {message_id!r}: see `quarantine list`.")
        row = rows[0]
        known = jobs.select_by_ids(conn, [job_id])
        if not known or known[0].queue != row.queue:
            raise PayloadRefused(f"The queue {row.queue} has no job with the id {job_id!r}.")
        message = wire().wakeup(row.queue, job_id, attempt)
        sha256 = hashlib.sha256(message).hexdigest()
        before = {
            "sha256": row.sha256,
            "bytes": row.size_bytes,
            "head": ascii(row.message[:_SHOWN]),
        }
        changes = {"before": before, "after": {"sha256": sha256, "job": job_id, "attempt": attempt}}
        now = clock.select_now(conn)
        diff = {"at": now.isoformat(), "by": session.actor(), "changes": changes}
        try:
            done = quarantines.edit(conn, row, message, sha256, diff)
        except psycopg.errors.UniqueViolation:
            raise EditRefused(
                f"This wake-up is in the quarantine of {row.queue} already."
            ) from None
        if not done:
            raise EditRefused(
                f"The message {message_id} was changed concurrently: check it and try again."
            )
        act = AuditEntry(None, session.actor(), "quarantine.edit", "Quarantine", row.id, changes)
        audit.write(conn, [act])


def _checked(fields: dict[str, Any]) -> tuple[JobId, int]:
    job_id, attempt = fields.get("job"), fields.get("attempt")
    if fields.keys() - {"v", "job", "attempt", "sig"}:
        raise PayloadRefused("A wake-up must have exactly the fields job and attempt.")
    if not isinstance(job_id, str) or type(attempt) is not int or attempt < 0:
        raise PayloadRefused("job must be an id and attempt a number.")
    return JobId(job_id), attempt
