"""A dead job in full, and its payload edited: validated by its contract, in the audit log."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from producers.errors import JobNotFound
from producers.json_rows import as_document
from producers.queries.ledger import dead_letter_edits, dead_letters
from producers.queries.ledger.dead_letter_edits import Edit, LetterRow
from producers.queries.ledger.dead_letters import DeadLetterFilters, DeadRow
from shared.contracts import Contract, contract_named
from shared.db import Connection
from shared.errors import EditRefused
from shared.ids import TenantId
from shared.ledger.outbox import payload_of
from shared.operations import audit
from shared.queries.ledger import attempts, clock
from shared.queries.ledger.attempts import AttemptRow
from shared.queries.operations.audit_logs import AuditEntry

Changes = dict[str, dict[str, Any]]


def edit(
    conn: Connection, job_id: str, payload: dict[str, Any], tenant_id: TenantId | None = None
) -> Changes:
    """Replace a dead job's payload and record the change, in the caller's transaction.

    The idempotency key stays. A payload that another job already has is rejected, because the
    work would be done twice.

    Args:
        conn: A connection in the relay's role.
        job_id: The job's, or the letter's.
        payload: The whole new payload, of the contract's latest version.
        tenant_id: Whose job it must be; None for any.

    Returns:
        By field, its value `before` and `after`; one that was or is missing lacks that entry.

    Raises:
        JobNotFound: No dead job has this id.
        PayloadRefused: It does not fit the contract.
        PayloadTooLarge: Above 64 kB.
        EditRefused: Another job has this payload, or the job was changed concurrently.
    """
    return change(conn, *found(conn, job_id, tenant_id), payload)


def change(conn: Connection, row: DeadRow, letter: LetterRow, payload: dict[str, Any]) -> Changes:
    """Replace the payload of a dead job as it was read; see `edit`."""
    contract = contract_named(row.job)
    job = contract.from_payload(payload, contract.schema_version)
    changes = _changes(letter.payload, json.loads(payload_of(job)))
    if changes:
        _refuse_double(conn, row, letter, job)
        _write(conn, row, letter, job, changes)
    return changes


def found(
    conn: Connection, job_id: str, tenant_id: TenantId | None = None
) -> tuple[DeadRow, LetterRow]:
    """Return a dead job, by its id or its letter's, with its payload and edits.

    Raises:
        JobNotFound: There is none, or it is another tenant's.
    """
    wanted = DeadLetterFilters(tenant_id=tenant_id)
    rows = dead_letters.select_dead(conn, wanted, ids=[job_id], limit=1)
    letter = dead_letter_edits.select_letter(conn, rows[0].id) if rows else None
    if letter is None:
        raise JobNotFound(f"No dead job has the id {job_id!r}: see `ailydian dead list`.")
    return rows[0], letter


@dataclass(frozen=True, slots=True)
class DeadJob:
    """A dead job: its letter, its payload with all edits, and every attempt."""

    row: DeadRow
    letter: LetterRow
    history: list[AttemptRow]

    def document(self) -> dict[str, Any]:
        """Return it as JSON, without its attempts."""
        return as_document(self.row) | {
            "payload": self.letter.payload,
            "schemaVersion": self.letter.schema_version,
            "key": self.letter.key,
            "edits": self.letter.edits,
        }


def read(conn: Connection, job_id: str, tenant_id: TenantId | None = None) -> DeadJob:
    """Return a dead job with all that is known of it.

    Raises:
        JobNotFound: There is none, or it is another tenant's.
    """
    row, letter = found(conn, job_id, tenant_id)
    return DeadJob(row, letter, attempts.select_history(conn, row.id))


def _write(
    conn: Connection, row: DeadRow, letter: LetterRow, job: Contract, changes: Changes
) -> None:
    now = clock.select_now(conn)
    diff = {"at": now.isoformat(), "by": audit.who(), "changes": changes}
    done = dead_letter_edits.edit(
        conn,
        Edit(
            job_id=row.id,
            before=letter.payload,
            payload=payload_of(job),
            schema_version=job.schema_version,
            limit_key=job.limit_key(),
            cost=job.cost(),
            diff=diff,
        ),
    )
    if not done:
        raise EditRefused(
            f"The job {row.id} was changed or replayed concurrently: check it and try again."
        )
    act = AuditEntry(
        letter.tenant_id, audit.who(), "dead.edit", "Job", row.id, {"changes": changes}
    )
    audit.write(conn, [act])


def _refuse_double(conn: Connection, row: DeadRow, letter: LetterRow, job: Contract) -> None:
    holder = dead_letter_edits.select_holder(conn, letter.tenant_id, row.job, job.key())
    if holder is not None and holder != row.id:
        raise EditRefused(
            f"The job {holder} already has this payload: check that job, or discard {row.id}."
        )


def _changes(before: Mapping[str, Any] | str, after: Mapping[str, Any]) -> Changes:
    if isinstance(before, str):  # nobody could say which fields it had
        before = {}
    changes: Changes = {}
    for name in sorted(before.keys() | after.keys()):
        was = {"before": before[name]} if name in before else {}
        now = {"after": after[name]} if name in after else {}
        if name not in before or name not in after or before[name] != after[name]:
            changes[name] = was | now
    return changes
