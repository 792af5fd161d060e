"""Queue `audit`: audit log entries for callers that have no open transaction."""

from shared.contracts import AppendAudit
from shared.ledger.outbox import Lease, effect
from shared.operations import audit
from shared.queries.operations.audit_logs import AuditEntry
from workers.process.broker import actor


@actor(AppendAudit)
def append_audit(job: AppendAudit, lease: Lease) -> None:
    """Write one entry; a repeated `entry_id` is written once."""
    act = AuditEntry(
        tenant_id=lease.tenant_id,
        actor=job.actor,
        action=job.action,
        resource=job.resource,
        resource_id=job.resource_id,
        what=job.what,
        ip_address=job.ip_address,
        user_agent=job.user_agent,
    )
    with effect(lease, durable=True) as conn:
        audit.write(conn, [act])
