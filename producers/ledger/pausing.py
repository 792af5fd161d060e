"""Pauses: no job of a queue, a tenant or a kind is started, until it is resumed."""

from producers.queries.ledger import pauses
from producers.queries.ledger.pauses import Pause
from shared.contracts import QUEUES
from shared.db import Connection
from shared.errors import UsageError
from shared.operations import audit
from shared.queries.accounts import accounts
from shared.queries.operations.audit_logs import AuditEntry


class UnknownQueue(UsageError):
    """No queue has this name."""

    code = "unknown_queue"


def queue_named(name: str) -> str:
    """Return a queue's name.

    Raises:
        UnknownQueue: There is none.
    """
    if name not in QUEUES:
        raise UnknownQueue(f"Unknown queue {name!r}; known queues: {', '.join(QUEUES)}.")
    return name


def pause(conn: Connection, scope: Pause) -> bool:
    """Pause what matches, in the caller's transaction. Returns False if it was paused already."""
    changed = pauses.put(conn, scope, held_by=audit.who())
    if changed:
        _note(conn, scope, "jobs.pause")
    return changed


def resume(conn: Connection, scope: Pause) -> bool:
    """Resume exactly what was paused so. Returns False if it was not paused."""
    # Wake-ups that workers dropped meanwhile are sent again now, not at the next sweep.
    pauses.withdraw(conn)
    changed = pauses.delete(conn, scope)
    if changed:
        _note(conn, scope, "jobs.resume")
    return changed


def document(conn: Connection, scope: Pause) -> dict[str, str | None]:
    """Return a scope as JSON."""
    slug = None if scope.tenant_id is None else accounts.select_slug(conn, scope.tenant_id)
    return {"queue": scope.queue, "tenant": slug, "job": scope.job}


def _note(conn: Connection, scope: Pause, action: str) -> None:
    what = document(conn, scope)
    entry = AuditEntry(scope.tenant_id, audit.who(), action, "JobHold", None, what)
    audit.write(conn, [entry])
