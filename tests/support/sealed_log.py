"""A sealed audit log for tests: chains of three tenants and of none, over several checkpoints."""

import threading

from producers.operations import audit_keys, audit_sealing
from producers.operations.audit_keys import AuditKeys
from shared import db
from shared.db import Role
from shared.ids import TenantId
from shared.operations import audit
from shared.queries.operations.audit_logs import AuditEntry
from shared.settings import Settings
from tests.support.factories import make_tenant

SECRET = "a key for tests of the audit log that is long enough"
KEYS = audit_keys.audit_keys(Settings(audit_key=SECRET))
OTHER_SECRET = "another key that nobody here knows at all"
OTHER_KEYS = audit_keys.audit_keys(Settings(audit_key=OTHER_SECRET))


def note(tenant_id: TenantId | None, *actions: str) -> None:
    """Write entries in a transaction of their own."""
    acts = [
        AuditEntry(tenant_id, "cli:ada", action, "Job", f"j-{action}", {"count": 1, "to": "ü"})
        for action in actions
    ]
    with db.transaction(None, role=Role.RELAY) as conn:
        audit.write(conn, acts)


def seal(keys: AuditKeys = KEYS) -> int:
    """Seal what was committed, as the scheduler does. Returns the number of entries."""
    return audit_sealing.sweep(keys, threading.Event())


def make_log(checkpoints: int = 6) -> list[TenantId | None]:
    """Three tenants and the system with entries, a checkpoint after each few. Returns whose."""
    owners = [*(make_tenant() for _ in range(3)), None]
    for number in range(checkpoints):
        for index, owner in enumerate(owners):
            if (number + index) % 3:
                note(owner, *(f"act.{number}.{each}" for each in range(index + 1)))
        seal()
    return owners
