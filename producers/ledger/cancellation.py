"""Cancelling jobs: one by its id, or all that match, noted in the audit log of their tenants."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from producers.errors import JobNotFound, NothingToCancel
from producers.queries.ledger import job_history
from producers.queries.ledger import jobs as ledger
from producers.queries.ledger.job_history import UnfinishedFilters
from producers.queries.ledger.jobs import CancelledJob, JobRow
from shared import db
from shared.db import Connection, Role
from shared.ids import JobId, TenantId
from shared.operations import audit
from shared.queries.operations.audit_logs import AuditEntry

PAGE: Final = 1_000
CANCEL_MAX: Final = 1_000_000
_ENDED: Final = frozenset({"COMPLETED", "DEAD", "CANCELLED"})


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The job, its state now, and the one that it was in."""

    id: JobId
    state: str
    was: str


def cancel_one(
    conn: Connection, job_id: str, tenant_id: TenantId | None, *, dry_run: bool = False
) -> Cancelled:
    """Cancel an unfinished job; a running attempt cannot commit any more.

    Args:
        conn: A connection in the relay's role.
        job_id: Of the job.
        tenant_id: Whose job it must be; None for any.
        dry_run: Only look.

    Raises:
        JobNotFound: There is none.
        NothingToCancel: It has ended.
    """
    row = found(conn, job_id, tenant_id)
    if dry_run:
        was = None if row.state in _ENDED else row.state
    else:
        cancelled = ledger.cancel_all(conn, [row.id])
        was = cancelled[0].was if cancelled else None
        _note(conn, cancelled, {})
    if was is None:
        ended_as = found(conn, job_id, tenant_id).state
        raise NothingToCancel(f"The job {job_id} is {ended_as}: nothing to cancel.")
    return Cancelled(row.id, row.state if dry_run else "CANCELLED", was)


def matching(scope: UnfinishedFilters) -> list[JobId]:
    """Return the unfinished jobs that match."""
    with db.transaction(None, role=Role.RELAY) as conn:
        return job_history.select_unended(conn, scope, limit=CANCEL_MAX)


def cancel(ids: Sequence[JobId], words: Mapping[str, Any]) -> int:
    """Cancel jobs a page a transaction, to hold locks only briefly.

    Args:
        ids: Of the jobs; those that have ended meanwhile are left out.
        words: The filters that found them, for the audit log.

    Returns:
        How many were cancelled.
    """
    count = 0
    in_order = sorted(ids)
    for start in range(0, len(in_order), PAGE):
        with db.transaction(None, role=Role.RELAY) as conn:
            count += len(cancel_page(conn, in_order[start : start + PAGE], words))
    return count


def cancel_page(conn: Connection, ids: Sequence[JobId], words: Mapping[str, Any]) -> list[JobId]:
    """Cancel a page of jobs in the caller's transaction. Returns those that had not ended."""
    cancelled = ledger.cancel_all(conn, sorted(ids))
    _note(conn, cancelled, words)
    return [one.id for one in cancelled]


def found(conn: Connection, job_id: str, tenant_id: TenantId | None = None) -> JobRow:
    """Return a job.

    Raises:
        JobNotFound: There is none, or it is another tenant's.
    """
    rows = ledger.select_by_ids(conn, [JobId(job_id)], tenant_id=tenant_id)
    if not rows:
        raise JobNotFound(f"No job has the id {job_id!r}: see `ailydian jobs list`.")
    return rows[0]


def _note(conn: Connection, cancelled: Sequence[CancelledJob], words: Mapping[str, Any]) -> None:
    """Write one audit entry per tenant for cancelled jobs."""
    of: dict[TenantId, list[JobId]] = defaultdict(list)
    for one in cancelled:
        of[one.tenant_id].append(one.id)
    acts = []
    for tenant_id, ids in of.items():
        what = {"count": len(ids), "jobs": ids} | ({"filters": dict(words)} if words else {})
        one_id = ids[0] if len(ids) == 1 else None
        acts.append(AuditEntry(tenant_id, audit.who(), "jobs.cancel", "Job", one_id, what))
    if acts:
        audit.write(conn, acts)
