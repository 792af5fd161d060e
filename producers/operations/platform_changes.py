"""Turns rows that the platform writes through Prisma into jobs."""

from collections.abc import Iterable

from producers.queries.operations import platform_changes
from producers.queries.operations.platform_changes import Change
from shared import db
from shared.contract import Contract
from shared.contracts import (
    AnalyseConversation,
    ApplyFeedback,
    EmbedMessages,
    IngestDocument,
    ModerateContent,
    ScoreQuality,
)
from shared.db import Connection, Role
from shared.ids import TenantId
from shared.ledger.outbox import publish_many, published_by
from shared.models.embedding_model import live_model

CHANGES_MAX = 500
MESSAGES_MAX = 64
QUESTION_CHARS_MAX = 10_000


def sweep() -> int:
    """Publish jobs for the platform's writes.

    A change is removed from the list in the transaction that publishes its job, so it is never lost
    or published twice; the job's key makes a later write of the same content a duplicate.

    Returns:
        Number of changes processed.
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
    yield from _messages(conn, [one for one in changes if one.table == "Message"])
    yield from _feedback(conn, [one for one in changes if one.table == "Feedback"])


def _documents(conn: Connection, ids: list[str]) -> Iterable[Contract]:
    for document_id, version, sha256 in platform_changes.select_uningested(conn, ids):
        yield IngestDocument(
            document_id=document_id, content_sha256=sha256, replaces_version=version
        )


def _messages(conn: Connection, changes: list[Change]) -> Iterable[Contract]:
    """Return the jobs of a message: embedding, moderation, scoring and analysis."""
    if not changes:
        return
    ids = sorted({one.row_id for one in changes})
    rows = platform_changes.select_messages(conn, ids, question_chars=QUESTION_CHARS_MAX)
    model = live_model(conn)
    for start in range(0, len(rows), MESSAGES_MAX):
        yield EmbedMessages(
            message_ids=[row.id for row in rows[start : start + MESSAGES_MAX]],
            model=model,
            changed_at=max(one.changed_at for one in changes).isoformat(),
        )
    changed_at = {one.row_id: one.changed_at.isoformat() for one in changes}
    for row in rows:
        yield ModerateContent(
            content_type="message",
            content_id=row.id,
            content_sha256=row.content_sha256,
            changed_at=changed_at[row.id],
        )
        if row.role == "ASSISTANT":
            yield ScoreQuality(
                message_id=row.id, question=row.question, changed_at=changed_at[row.id]
            )
    for conversation_id, analysis in {row.conversation_id: row.analysis for row in rows}.items():
        yield AnalyseConversation(conversation_id=conversation_id, analysis=analysis)


def _feedback(conn: Connection, changes: list[Change]) -> Iterable[Contract]:
    changed_at = {one.row_id: one.changed_at.isoformat() for one in changes}
    for row in platform_changes.select_feedback(conn, list(changed_at)):
        yield ApplyFeedback(
            message_id=row.message_id, feedback_id=row.id, changed_at=changed_at[row.id]
        )
        if row.comment_sha256 is not None:
            yield ModerateContent(
                content_type="feedback",
                content_id=row.id,
                content_sha256=row.comment_sha256,
                changed_at=changed_at[row.id],
            )
