"""The platform's own writes: what it puts into its tables through Prisma becomes work here."""

from collections.abc import Iterable

from shared import db, providers
from shared.contracts import ApplyFeedback, Contract, EmbedMessages, IngestDocument
from shared.db import Connection, Role
from shared.ids import MessageId, TenantId
from shared.outbox import publish_many, published_by
from shared.queries import platform_changes
from shared.queries.platform_changes import Change

CHANGES_MAX = 500
MESSAGES_MAX = 64


def sweep() -> int:
    """Publish the work that the platform's writes ask for.

    A change leaves the list in the transaction that publishes its job, so it is never lost and
    never published twice; the job's key makes a later write of the same content no work.

    Returns:
        How many changes were taken.
    """
    with db.transaction(None, role=Role.RELAY) as conn:
        tenants = platform_changes.select_tenants(conn)
    return sum(_sweep_tenant(tenant_id) for tenant_id in tenants)


def _sweep_tenant(tenant_id: TenantId) -> int:
    total = 0
    while True:
        with db.transaction(tenant_id) as conn:
            changes = platform_changes.take(conn, limit=CHANGES_MAX)
            with published_by("platform"):
                publish_many(conn, list(_jobs(conn, changes)))
        total += len(changes)
        if len(changes) < CHANGES_MAX:
            return total


def _jobs(conn: Connection, changes: list[Change]) -> Iterable[Contract]:
    yield from _documents(conn, [one.row_id for one in changes if one.table == "Document"])
    yield from _messages([one for one in changes if one.table == "Message"])
    yield from _feedback(conn, [one for one in changes if one.table == "Feedback"])


def _documents(conn: Connection, ids: list[str]) -> Iterable[Contract]:
    for document_id, version, sha256 in platform_changes.select_uningested(conn, ids):
        yield IngestDocument(
            document_id=document_id, content_sha256=sha256, replaces_version=version
        )


def _messages(changes: list[Change]) -> Iterable[Contract]:
    unique = sorted({MessageId(one.row_id) for one in changes})
    for start in range(0, len(unique), MESSAGES_MAX):
        yield EmbedMessages(
            message_ids=unique[start : start + MESSAGES_MAX],
            model=providers.live_model(),
            changed_at=max(one.changed_at for one in changes).isoformat(),
        )


def _feedback(conn: Connection, changes: list[Change]) -> Iterable[Contract]:
    changed_at = {one.row_id: one.changed_at.isoformat() for one in changes}
    for feedback_id, message_id in platform_changes.select_feedback(conn, list(changed_at)):
        yield ApplyFeedback(
            message_id=message_id, feedback_id=feedback_id, changed_at=changed_at[feedback_id]
        )
