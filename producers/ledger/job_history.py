"""The history of a job, from its producer to its last follow-up, and what it waits for."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from producers.json_rows import as_document
from producers.ledger import dispatch, serving
from producers.ledger.dispatch import Rules
from producers.queries.ledger import dead_letters, job_history, job_limits, pauses
from producers.queries.ledger import jobs as ledger
from producers.queries.ledger.job_history import Descendant, JobAction, Origin
from producers.queries.ledger.jobs import JobRow
from producers.queries.ledger.pauses import PauseRow
from shared import db
from shared.db import Connection, Role
from shared.observability import tracing
from shared.queries.ledger import attempts, clock
from shared.queries.ledger.attempts import AttemptRow
from shared.queries.ledger.dispatches import Lane

DEPTH_MAX = 8
ROWS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class JobHistory:
    """Everything stored about a job."""

    row: JobRow
    origin: Origin
    parent: JobRow | None
    attempts_made: list[AttemptRow]
    acts: list[JobAction]
    letter: dead_letters.DeadRow | None
    descendants: list[Descendant]
    waits: str | None


def read(row: JobRow) -> JobHistory:
    """Read the history of a job."""
    with db.transaction(None, role=Role.RELAY) as conn:
        origin = job_history.select_origin(conn, row.id)
        assert origin is not None, "its row was just read"
        parents = ledger.select_by_ids(conn, [row.parent_id] if row.parent_id else [])
        attempts_made = attempts.select_history(conn, row.id, limit=ROWS_MAX)
        letters = dead_letters.select_dead(
            conn, dead_letters.DeadLetterFilters(), ids=[row.id], limit=1
        )
        below = job_history.select_descendants(conn, row.id, depth=DEPTH_MAX, limit=ROWS_MAX)
        waits = _waits(conn, row, origin)
    with db.transaction(None, role=Role.AUDIT_READER) as conn:
        acts = job_history.select_acts(
            conn, origin.tenant_id, row.id, since=row.created_at, limit=ROWS_MAX
        )
    return JobHistory(
        row=row,
        origin=origin,
        parent=next(iter(parents), None),
        attempts_made=attempts_made,
        acts=acts,
        letter=next(iter(letters), None),
        descendants=below,
        waits=waits,
    )


def document(history: JobHistory) -> dict[str, Any]:
    """Return a history as `--json` prints it."""
    trace = tracing.read(history.origin.traceparent)
    return {
        "job": as_document(history.row),
        "publishedBy": publisher(history),
        "origin": as_document(history.origin) | {"traceId": trace.trace_id if trace else None},
        "waits": history.waits,
        "parent": as_document(history.parent) if history.parent else None,
        "attempts": [as_document(one) for one in history.attempts_made],
        "acts": [as_document(one) for one in history.acts],
        "deadLetter": as_document(history.letter) if history.letter else None,
        "children": [as_document(one) for one in history.descendants if one.depth == 1],
        "descendants": [as_document(one) for one in history.descendants],
    }


def publisher(history: JobHistory) -> str:
    """Describe who published a job."""
    names = []
    if history.origin.producer:
        names.append(history.origin.producer)
    if history.parent is not None:
        names.append(f"the job {history.parent.job} {history.parent.id}")
    elif history.row.parent_id:
        names.append(f"the job {history.row.parent_id}, which was deleted")
    return ", after ".join(names) or "an unnamed producer"


def at_text(moment: datetime) -> str:
    """Return a time as people read it, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _waits(conn: Connection, row: JobRow, origin: Origin) -> str | None:
    """Describe what a job waits for; None if it completed or was cancelled."""
    if row.state == "RUNNING":
        return f"for the worker {row.worker}, which runs attempt {row.attempt}"
    if row.state == "DEAD":
        return f"for an operator: `ailydian dead replay {row.id}`"
    if row.state not in {"PENDING", "QUEUED"}:
        return None
    held = _hold(pauses.list_pauses(conn), row)
    if held is not None:
        return held
    if row.due_at > clock.select_now(conn):  # its own clock: the host's may differ
        return f"for {at_text(row.due_at)} UTC ({row.waiting_for})"
    limited = _limit(conn, row, origin) if row.state == "PENDING" else None
    return limited or _turn(conn, row)


def _hold(rows: Iterable[PauseRow], row: JobRow) -> str | None:
    for pause in rows:
        if (
            pause.queue in (None, row.queue)
            and pause.tenant in (None, row.tenant)
            and pause.job in (None, row.job)
        ):
            words = [pause.queue, pause.tenant and f"--tenant {pause.tenant}"]
            words.append(pause.job and f"--job {pause.job}")
            undo = " ".join(["ailydian resume", *filter(None, words)])
            return f"for an operator: `{undo}` (paused by {pause.held_by} {at_text(pause.held_at)})"
    return None


def _limit(conn: Connection, row: JobRow, origin: Origin) -> str | None:
    """Return the limit that currently blocks this job's lane."""
    rules = Rules(limits=job_limits.select_limits(conn))
    lane = Lane(
        queue=row.queue,
        tenant_id=origin.tenant_id,
        job=row.job,
        limit_key=origin.limit_key,
        priority=origin.priority,
        due_s=0.0,
        cost=origin.cost,
        tier=origin.tier,
    )
    counted = rules.of(lane)
    if not counted:
        return None
    in_flight = job_limits.count_in_flight(conn)
    spent = job_limits.select_spent(conn, [limit.id for limit, _ in counted])
    for limit, where in counted:
        ours = [
            one
            for one in in_flight
            if limit.job in (None, one.job) and dispatch.counter(limit, one) == where
        ]
        rows, cost = dispatch.free(
            limit,
            sum(one.in_flight for one in ours),
            sum(one.unclaimed for one in ours),
            spent.get(where, 0.0),
        )
        if min(rows, cost) <= 0:
            most = f"{limit.concurrency_max} at once" if limit.concurrency_max else ""
            rate = f"{limit.rate_per_s:g} {limit.unit}/s" if limit.rate_per_s else ""
            named = ", ".join(filter(None, (most, rate)))
            return f"for the limit {limit.id} ({named}), which is exhausted now"
    return None


def _turn(conn: Connection, row: JobRow) -> str:
    if row.queue not in serving.queues_served():
        return f"for a worker: none serves the queue {row.queue}, see `ailydian work`"
    left = pauses.count_left(conn, pauses.Pause(row.queue, None, None))
    many = " or more" if left.ready >= pauses.COUNTED_MAX else ""
    if row.state == "QUEUED":
        return f"for a free worker of the queue {row.queue}; its wake-up was sent"
    return f"for its turn among {left.ready}{many} ready jobs of the queue {row.queue}"
