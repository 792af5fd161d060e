"""Editing a quarantined message: the result is a valid wake-up of an existing job."""

import hashlib
import json
from typing import Any

import psycopg

from producers.errors import JobNotFound
from producers.ledger.ingress_entries import entry_of, quarantined, read_request
from producers.queries.ledger import jobs
from shared.db import Connection
from shared.errors import EditRefused, PayloadRefused
from shared.ids import JobId
from shared.ledger.wakeups import Wire
from shared.operations import audit
from shared.queries.ledger import clock, quarantines
from shared.queries.ledger.quarantines import QuarantinedRow
from shared.queries.operations.audit_logs import AuditEntry

_SHOWN = 200


def edit(conn: Connection, signing: Wire, message_id: str, fields: dict[str, Any]) -> None:
    """Replace a quarantined message in the caller's transaction; the diff is stored and audited.

    A wake-up becomes a signed one, an entry of the Redis door one that the door can read.

    Args:
        conn: A connection in the relay's role.
        signing: What a wake-up is signed with.
        message_id: The message's.
        fields: Of a wake-up `job`, an id, and `attempt`, the number of attempts made; `v` and
            `sig` are accepted and replaced. Of an entry `job`, `tenant`, `key`, `payload` (an
            object, or its text) and `traceparent`: those that change.

    Raises:
        JobNotFound: No message has this id.
        PayloadRefused: Invalid fields, or no job of this queue has the id.
        EditRefused: The same message is quarantined already, or it was changed concurrently.
    """
    row = found(conn, message_id)
    if row.source == "door":
        message, after = _entry(row, fields)
    else:
        message, after = _wakeup(conn, signing, row, fields)
    sha256 = hashlib.sha256(message).hexdigest()
    before = {
        "sha256": row.sha256,
        "bytes": row.size_bytes,
        "head": ascii(row.message[:_SHOWN]),
    }
    changes = {"before": before, "after": {"sha256": sha256} | after}
    now = clock.select_now(conn)
    diff = {"at": now.isoformat(), "by": audit.who(), "changes": changes}
    try:
        done = quarantines.edit(conn, row, message, sha256, diff)
    except psycopg.errors.UniqueViolation:
        raise EditRefused(f"This message is in the quarantine of {row.queue} already.") from None
    if not done:
        raise EditRefused(
            f"The message {message_id} was changed concurrently: check it and try again."
        )
    act = AuditEntry(None, audit.who(), "quarantine.edit", "Quarantine", row.id, changes)
    audit.write(conn, [act])


def found(conn: Connection, message_id: str) -> QuarantinedRow:
    """Return a message.

    Raises:
        JobNotFound: None has this id.
    """
    wanted = quarantines.QuarantineFilters()
    rows = quarantines.select_quarantined(conn, wanted, ids=[message_id], limit=1)
    if not rows:
        raise JobNotFound(f"No message has the id {message_id!r}: see `ailydian quarantine list`.")
    return rows[0]


def _wakeup(
    conn: Connection, signing: Wire, row: QuarantinedRow, fields: dict[str, Any]
) -> tuple[bytes, dict[str, Any]]:
    job_id, attempt = _checked(fields)
    known = jobs.select_by_ids(conn, [job_id])
    if not known or known[0].queue != row.queue:
        raise PayloadRefused(f"The queue {row.queue} has no job with the id {job_id!r}.")
    return signing.wakeup(row.queue, job_id, attempt), {"job": job_id, "attempt": attempt}


def _entry(row: QuarantinedRow, fields: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    before = entry_of(row.message)
    if before is None:
        raise EditRefused(
            "The entry was kept truncated or lacks a field: publish it again by hand."
        )
    texts = {
        name: one if isinstance(one, str) else json.dumps(one, ensure_ascii=False)
        for name, one in fields.items()
    }
    entry = before[1] | {name.encode(): one.encode() for name, one in texts.items()}
    read_request(b"", entry)  # what the door would refuse is refused now
    return quarantined(row.reason, before[0], entry).head, {"fields": sorted(texts)}


def _checked(fields: dict[str, Any]) -> tuple[JobId, int]:
    job_id, attempt = fields.get("job"), fields.get("attempt")
    if fields.keys() - {"v", "job", "attempt", "sig"}:
        raise PayloadRefused("A wake-up must have exactly the fields job and attempt.")
    if not isinstance(job_id, str) or type(attempt) is not int or attempt < 0:
        raise PayloadRefused("job must be an id and attempt a number.")
    return JobId(job_id), attempt
