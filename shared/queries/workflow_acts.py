"""Acts on whole runs, in their tenant's role; what each does is told in chapter 9 of schema.sql.

What a run's state forbids comes back as AL007 (no such run), AL008 (not like this) or AL009 (too
many signals); `shared.outbox.refusal` makes errors of them.
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
class Signal:
    """A signal, or the answer to an approval; `payload` is JSON text, `item` of a mapped step."""

    what: str
    name: str
    payload: str
    sender: str
    item: int | None = None


def signal(conn: Connection, run_id: RunId, sent: Signal) -> None:
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
    found = [Adrift(*row[:4]) for row in rows if row[0] is not None]
    return found, rows[-1][4] if rows else None


OPEN_INCIDENT: Final = """
    INSERT INTO "Incident" ("id", "title", "description", "severity", "status", "tenantId")
    VALUES ('stuck-run:' || %(run_id)s::text, 'A workflow run is stuck: ' || %(run_id)s::text,
            'Nothing carries it and nothing is left to begin. Look at it with `ailydian workflow '
            'show`, then retry it from a step or cancel it.', 'HIGH', 'OPEN', %(tenant_id)s::text)
    ON CONFLICT ("id") DO NOTHING
"""


def open_incident(conn: Connection, run_id: RunId, tenant_id: TenantId) -> bool:
    """Say that a run is stuck, once. Returns whether it is news."""
    values = {"run_id": run_id, "tenant_id": tenant_id}
    return conn.execute(OPEN_INCIDENT, values).rowcount == 1


RESOLVE_INCIDENTS: Final = """
    UPDATE "Incident" i SET "status" = 'RESOLVED', "resolvedAt" = now() AT TIME ZONE 'UTC'
    FROM "WorkflowRun" r
    WHERE i."status" = 'OPEN' AND i."id" LIKE 'stuck-run:%%'
      AND r."id" = substr(i."id", length('stuck-run:') + 1) AND r."completedAt" IS NOT NULL
"""


def resolve_incidents(conn: Connection) -> int:
    """Close the incidents of stuck runs that have ended since. Returns how many."""
    return conn.execute(RESOLVE_INCIDENTS).rowcount
