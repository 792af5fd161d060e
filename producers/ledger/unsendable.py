"""Jobs whose id makes their wake-up longer than a worker reads, as an older schema took them.

No worker would ever take one: the relay makes it a dead letter, and it alone.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

import structlog

from shared import db
from shared.db import Role
from shared.errors import PayloadRefused
from shared.ids import JobId
from shared.ledger.outbox import Lease
from shared.queries.ledger import attempts, outbox
from shared.queries.ledger.dispatches import Wakeup

log = structlog.get_logger()

_LEASE_S: Final = 30.0
_FINGERPRINT: Final = hashlib.sha256(b"job id too long").hexdigest()[:16]


def bury(wakeups: Sequence[Wakeup]) -> None:
    """Make dead letters of the jobs that these wake-ups are for; what is paused waits."""
    if not wakeups:
        return
    asked = [(one.job_id, one.attempt) for one in wakeups]
    with db.transaction(None, role=Role.RELAY) as conn:
        rows = outbox.claim(conn, asked, worker="relay", lease_s=_LEASE_S)
        for lease in [Lease(*row) for row in rows]:
            attempts.bury(conn, _refusal(lease.job_id, lease.fence), reason="permanent")
            log.error("job.died", job=lease.job, tenant_id=lease.tenant_id, why="id too long")


def _refusal(job_id: JobId, fence: int) -> attempts.AttemptFailure:
    size = len(job_id.encode())
    return attempts.AttemptFailure(
        job_id=job_id,
        fence=fence,
        verdict="refused",
        error_type=PayloadRefused.__name__,
        error=f'The job\'s "id" has {size} bytes, too long for a wake-up: it must be 1 to 64.',
        traceback=None,
        fingerprint=_FINGERPRINT,
    )
