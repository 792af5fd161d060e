"""Acts on whole runs, in their tenant's role; what each does is told in shared/schema/90_workflow.

What a run's state forbids comes back as AL007 (no such run), AL008 (not like this) or AL009 (too
many signals); `shared.ledger.outbox.refusal` makes errors of them.
"""

from dataclasses import dataclass
from typing import Final

from shared.db import Connection
from shared.ids import RunId, TenantId

CANCEL: Final = """
    SELECT ailydian_cancel_run(%(run_id)s::text, %(why)s::text)
"""


def cancel(conn: Connection, run_id: RunId, why: str) -> None:
    """End a run and all that it still does."""
    conn.execute(CANCEL, {"run_id": run_id, "why": why})


PAUSE: Final = """
    SELECT ailydian_pause_run(%(run_id)s::text)
"""


def pause(conn: Connection, run_id: RunId) -> None:
    """Begin no further step."""
    conn.execute(PAUSE, {"run_id": run_id})


RESUME: Final = """
    SELECT ailydian_resume_run(%(run_id)s::text)
"""


def resume(conn: Connection, run_id: RunId) -> None:
    """Begin the steps that became ready meanwhile."""
    conn.execute(RESUME, {"run_id": run_id})


SIGNAL: Final = """
    SELECT ailydian_signal_run(%(run_id)s::text, %(what)s::text, %(name)s::text, %(item)s::int,
                               %(payload)s::jsonb, %(sender)s::text)
"""


@dataclass(frozen=True, slots=True)
class RunSignal:
    """A signal, or the answer to an approval; `payload` is JSON text, `item` of a mapped step."""

    what: str
    name: str
    payload: str
    sender: str
    item: int | None = None


def signal(conn: Connection, run_id: RunId, sent: RunSignal) -> None:
    """Answer the step that waits for it; a signal that none waits for is kept."""
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
    """End a step that is not over, as if its `if` had been false."""
    conn.execute(SKIP, {"run_id": run_id, "step": step})


RETRY: Final = """
    SELECT ailydian_retry_run(%(run_id)s::text)
"""


def retry(conn: Connection, run_id: RunId) -> None:
    """Let a run that failed, or was cancelled, go on where it stopped."""
    conn.execute(RETRY, {"run_id": run_id})


FORK: Final = """
    SELECT ailydian_fork_run(%(run_id)s::text, %(step)s::text, %(sender)s::text)
"""


def fork(conn: Connection, run_id: RunId, step: str, sender: str) -> RunId:
    """Start a new run from a step on, with what the old one had done before. Returns its id."""
    row = conn.execute(FORK, {"run_id": run_id, "step": step, "sender": sender}).fetchone()
    assert row is not None, "a function yields a row"
    return RunId(row[0])


MEND: Final = """
    SELECT "id", "tenantId", "lost", "mended", "last"
    FROM ailydian_mend_runs(%(after)s::text, %(limit)s::int)
"""


@dataclass(frozen=True, slots=True)
class Adrift:
    """A run that nothing carried: steps without a job or wait, and whether it goes on now."""

    id: RunId
    tenant_id: TenantId
    lost: int
    mended: bool


def mend(conn: Connection, after: str, *, limit: int) -> tuple[list[Adrift], str | None]:
    """Look at the next running runs after an id; mend those that nothing carries.

    Returns:
        Those it found so, and the last id it looked at; None when there was none to look at.
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
    """Say that a run is stuck, once. Returns whether it is news."""
    row = conn.execute(OPEN_INCIDENT, {"run_id": run_id, "tenant_id": tenant_id}).fetchone()
    return row is not None and bool(row[0])


RESOLVE_INCIDENTS: Final = """
    SELECT ailydian_resolve_stuck_runs()
"""


def resolve_incidents(conn: Connection) -> None:
    """Close the incidents of stuck runs that have ended since."""
    conn.execute(RESOLVE_INCIDENTS)
