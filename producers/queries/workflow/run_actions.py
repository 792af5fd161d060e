"""Actions on runs, in their tenant's role; see shared/schema/90_workflow for each.

Errors: AL007 (no such run), AL008 (not allowed in this state), AL009 (too many signals);
`shared.ledger.outbox.raise_refusal` converts them.
"""

from dataclasses import dataclass
from typing import Final

from shared.db import Connection
from shared.ids import RunId, TenantId

CANCEL: Final = """
    SELECT ailydian_cancel_run(%(run_id)s::text, %(why)s::text)
"""


def cancel(conn: Connection, run_id: RunId, why: str) -> None:
    """Cancel a run and everything it still does."""
    conn.execute(CANCEL, {"run_id": run_id, "why": why})


PAUSE: Final = """
    SELECT ailydian_pause_run(%(run_id)s::text)
"""


def pause(conn: Connection, run_id: RunId) -> None:
    """Pause a run."""
    conn.execute(PAUSE, {"run_id": run_id})


RESUME: Final = """
    SELECT ailydian_resume_run(%(run_id)s::text)
"""


def resume(conn: Connection, run_id: RunId) -> None:
    """Resume a run: start the steps that became ready meanwhile."""
    conn.execute(RESUME, {"run_id": run_id})


SIGNAL: Final = """
    SELECT ailydian_signal_run(%(run_id)s::text, %(what)s::text, %(name)s::text, %(item)s::int,
                               %(payload)s::jsonb, %(sender)s::text)
"""


@dataclass(frozen=True, slots=True)
class RunSignal:
    """A signal or an approval; `payload` is JSON text, `item` the index in a mapped step."""

    what: str
    name: str
    payload: str
    sender: str
    item: int | None = None


def signal(conn: Connection, run_id: RunId, sent: RunSignal) -> None:
    """Deliver a signal to the waiting step; without one it is stored."""
    conn.execute(
        SIGNAL,
        {
            "run_id": run_id,
            "what": sent.what,
            "name": sent.name,
            "item": sent.item,
            "payload": sent.payload,
            "sender": sent.sender,
        },
    )


SKIP: Final = """
    SELECT ailydian_skip_step(%(run_id)s::text, %(step)s::text)
"""


def skip(conn: Connection, run_id: RunId, step: str) -> None:
    """Skip an unfinished step, as if its `if` had been false."""
    conn.execute(SKIP, {"run_id": run_id, "step": step})


RETRY: Final = """
    SELECT ailydian_retry_run(%(run_id)s::text)
"""


def retry(conn: Connection, run_id: RunId) -> None:
    """Retry a failed or cancelled run from where it stopped."""
    conn.execute(RETRY, {"run_id": run_id})


FORK: Final = """
    SELECT ailydian_fork_run(%(run_id)s::text, %(step)s::text, %(sender)s::text)
"""


def fork(conn: Connection, run_id: RunId, step: str, sender: str) -> RunId:
    """Fork a run from a step, with the outputs of earlier steps. Returns the new id."""
    row = conn.execute(FORK, {"run_id": run_id, "step": step, "sender": sender}).fetchone()
    assert row is not None, "a function yields a row"
    return RunId(row[0])


MEND: Final = """
    SELECT "id", "tenantId", "lost", "mended", "last"
    FROM ailydian_mend_runs(%(after)s::text, %(limit)s::int)
"""


@dataclass(frozen=True, slots=True)
class Adrift:
    """A stuck run: steps without a job or wait, and whether it continues now."""

    id: RunId
    tenant_id: TenantId
    lost: int
    mended: bool


def mend(conn: Connection, after: str, *, limit: int) -> tuple[list[Adrift], str | None]:
    """Check the next running runs after an id; repair stuck ones.

    Returns:
        The stuck ones, and the last id checked; None if there was none.
    """
    rows = conn.execute(MEND, {"after": after, "limit": limit}).fetchall()
    found = [
        Adrift(id_, tenant_id, lost, mended)
        for id_, tenant_id, lost, mended, _ in rows
        if id_ is not None
    ]
    looked_at = [last for *_, last in rows]
    return found, looked_at[-1] if looked_at else None


OPEN_INCIDENT: Final = """
    SELECT ailydian_note_stuck_run(%(run_id)s::text, %(tenant_id)s::text)
"""


def open_incident(conn: Connection, run_id: RunId, tenant_id: TenantId) -> bool:
    """Open an incident for a stuck run. Returns whether it is new."""
    row = conn.execute(OPEN_INCIDENT, {"run_id": run_id, "tenant_id": tenant_id}).fetchone()
    return row is not None and bool(row[0])


RESOLVE_INCIDENTS: Final = """
    SELECT ailydian_resolve_stuck_runs()
"""


def resolve_incidents(conn: Connection) -> None:
    """Close the incidents of stuck runs that have ended since."""
    conn.execute(RESOLVE_INCIDENTS)
