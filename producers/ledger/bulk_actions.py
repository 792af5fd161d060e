"""What is done to many jobs in the background: page by page, each with its progress.

The first page is done where the action is asked for, the others by the scheduler. A page commits
with its audit entries and with how far the action is, so that nothing is done twice or left out,
whatever ends in between; the lock of the action's row keeps others away.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg
import structlog

from producers.ledger import cancellation, dead_actions, dead_selection
from producers.ledger.dead_selection import regex_checked
from producers.queries.ledger import bulk_actions as queries
from producers.queries.ledger import dead_letters, job_history, replays
from producers.queries.ledger.bulk_actions import (
    ActionStep,
    BulkActionRow,
    NewBulkAction,
    RunningAction,
)
from producers.queries.ledger.dead_letters import DeadLetterFilters
from producers.queries.ledger.job_history import UnfinishedFilters
from shared import db
from shared.db import Connection, Role
from shared.errors import AilydianError, PermanentError, ReplayStopped, ServerUnavailable
from shared.ids import JobId, TenantId
from shared.ledger import outbox
from shared.operations import audit
from shared.queries.ledger import clock

log = structlog.get_logger()

LOOK_S: Final = 0.25
# What is due later than that is left to the next sweep, as are looks at canaries.
WAIT_S_MAX: Final = 0.5
CANARY_LOOK_S: Final = 1.0


class BulkActionNotFound(PermanentError):
    """No action has this id."""

    code = "bulk_action_not_found"


class BulkActionEnded(PermanentError):
    """The action has ended already."""

    code = "bulk_action_ended"


@dataclass(frozen=True, slots=True)
class BulkChoice:
    """Which jobs, and how.

    Attributes:
        ids: Ids of jobs or letters; empty for any.
        filters: Of dead letters; those of unfinished jobs are among them.
        batch_id: Only jobs of this batch, where jobs are cancelled.
        rate: At most so many a second.
        canary: So many first, which must end well within `canary_s` seconds.
        canary_s: Time limit of the canaries.
        failing_max: Share of replayed jobs that may fail again, in [0, 1].
    """

    ids: tuple[str, ...] = ()
    filters: DeadLetterFilters = field(default_factory=DeadLetterFilters)
    batch_id: str | None = None
    rate: float | None = None
    canary: int | None = None
    canary_s: float = 60.0
    failing_max: float | None = None


def count(conn: Connection, action: str, choice: BulkChoice) -> int:
    """Count what an action would look at.

    Raises:
        RegexRefused: `error` is an invalid regular expression.
    """
    if action == "jobs.cancel":
        most = cancellation.CANCEL_MAX
        return len(job_history.select_unended(conn, _unfinished(choice), limit=most))
    if action == "dead.undo":
        return len(_unbegun(conn, choice))
    with regex_checked(conn, choice.filters.error):
        if not choice.ids:
            return dead_letters.count_dead(conn, choice.filters)
        most = len(choice.ids)
        return len(dead_letters.select_dead(conn, choice.filters, ids=choice.ids, limit=most))


def begin(conn: Connection, action: str, choice: BulkChoice) -> BulkActionRow:
    """Begin an action, and do its first page in the caller's transaction.

    Args:
        conn: A connection in the relay's role.
        action: `dead.replay`, `dead.discard`, `dead.undo` or `jobs.cancel`.
        choice: What it is done to; the tenant of its filters is the action's.

    Raises:
        RegexRefused: `error` is an invalid regular expression.
        JobNotFound: An id is unknown, or another tenant's.
    """
    if choice.ids:
        dead_selection.refuse_unknown(conn, choice.ids, choice.filters.tenant_id)
    until = clock.select_now(conn)
    if choice.filters.until is not None:
        until = min(until, choice.filters.until)
    tenant_id = choice.filters.tenant_id
    words = _words(choice)
    bound = replace(choice, filters=replace(choice.filters, until=until))
    wanted = NewBulkAction(tenant_id, action, _stored(bound), words, audit.who())
    action_id = queries.insert_action(conn, wanted)
    running = queries.lock(conn, action_id)
    assert running is not None, "inserted in this transaction"
    _step(conn, running)
    return found(conn, action_id, tenant_id, of=action.partition(".")[0])


def found(
    conn: Connection, action_id: str, tenant_id: TenantId | None, *, of: str
) -> BulkActionRow:
    """Return an action on `of`, such as `dead`.

    Raises:
        BulkActionNotFound: There is none, or it is another tenant's.
    """
    row = queries.select_action(conn, action_id, tenant_id, of=of)
    if row is None:
        raise BulkActionNotFound(f"No action has the id {action_id!r}.")
    return row


def stop(conn: Connection, action_id: str, tenant_id: TenantId | None, *, of: str) -> BulkActionRow:
    """Stop an action after the page that it is at; what is done stays done.

    Raises:
        BulkActionNotFound: There is none, or it is another tenant's.
        BulkActionEnded: It has ended.
    """
    row = found(conn, action_id, tenant_id, of=of)
    if not queries.end(conn, action_id, "STOPPED", f"Stopped by {audit.who()}."):
        raise BulkActionEnded(f"The action {action_id} is {row.state} already.")
    return found(conn, action_id, tenant_id, of=of)


def run_due(stopped: threading.Event) -> int:
    """Go on with all actions that are due, and those that are within half a second.

    Returns:
        How many steps were done.
    """
    steps, idle_s = 0, 0.0
    while not stopped.is_set():
        if _run_one():
            steps, idle_s = steps + 1, 0.0
        elif steps == 0 or idle_s >= WAIT_S_MAX:
            break
        else:
            stopped.wait(LOOK_S)
            idle_s += LOOK_S
    return steps


def _run_one() -> bool:
    failed: AilydianError | psycopg.Error
    with db.transaction(None, role=Role.RELAY) as conn:
        running = queries.lock_due(conn)
        if running is None:
            return False
        try:
            with conn.transaction(), outbox.published_by(running.actor):
                _step(conn, running)
        except ServerUnavailable:
            raise
        except (AilydianError, psycopg.Error) as error:
            if conn.closed:
                raise
            failed = error
        else:
            return True
        log.error("bulk_action.failed", action=running.id, error=db.sentence(failed))
        queries.end(conn, running.id, "FAILED", db.sentence(failed))
    return True


def _step(conn: Connection, running: RunningAction) -> None:
    """Look at the canaries, or do the next page."""
    choice = _read(running.choice, running.tenant_id)
    try:
        if running.canary_until is not None and _waits(conn, running, choice):
            return
        ended = _page(conn, running, choice)
    except ReplayStopped as error:
        queries.end(conn, running.id, "STOPPED", str(error))
        return
    if ended:
        queries.end(conn, running.id, "DONE")


def _waits(conn: Connection, running: RunningAction, choice: BulkChoice) -> bool:
    """Whether canaries have not ended yet.

    Raises:
        ReplayStopped: They failed again, or did not end in time.
    """
    watched = running.watched
    if dead_actions.judge(conn, watched, choice.failing_max, ended_min=1) >= len(watched):
        return False
    assert running.canary_until is not None, "asked only with canaries"
    if running.now > running.canary_until:
        raise dead_actions.late(len(watched), choice.canary_s)
    step = ActionStep(running.id, 0, 0, running.after, watched, running.canary_until, CANARY_LOOK_S)
    queries.advance(conn, step)
    return True


def _page(conn: Connection, running: RunningAction, choice: BulkChoice) -> bool:
    """Do a page and note it. Returns whether it was the last one."""
    size = dead_selection.page_size(choice.rate)
    first = choice.canary is not None and not running.watched and not running.after
    if first and choice.canary is not None:
        size = min(size, choice.canary)
    ids, after = _chosen(conn, running, choice, size)
    moved = _moved(conn, running, ids)
    watched: Sequence[JobId] = running.watched
    canary_until, judged = None, False
    if running.action == "dead.replay" and (
        choice.canary is not None or choice.failing_max is not None
    ):
        watched = [*watched, *moved][-dead_actions.WATCHED_MAX :]
        if first and moved:
            canary_until = running.now + timedelta(seconds=choice.canary_s)
        else:
            judged = choice.failing_max is not None
    wait_s = (
        CANARY_LOOK_S if canary_until else 0.0 if choice.rate is None else len(ids) / choice.rate
    )
    step = ActionStep(running.id, len(ids), len(moved), after, watched, canary_until, wait_s)
    queries.advance(conn, step)
    if judged:
        least = dead_actions.ENDED_MIN
        dead_actions.judge(conn, watched, choice.failing_max, ended_min=least)
    return len(ids) < size and canary_until is None


def _chosen(
    conn: Connection, running: RunningAction, choice: BulkChoice, size: int
) -> tuple[list[JobId], str]:
    """Return the jobs of the next page, and where it ends."""
    if running.action == "jobs.cancel":  # what is cancelled is not chosen again
        return job_history.select_unended(conn, _unfinished(choice), limit=size), ""
    if running.action == "dead.undo":
        ids = [one for one in _unbegun(conn, choice) if one > running.after][:size]
        return ids, ids[-1] if ids else running.after
    with regex_checked(conn, choice.filters.error):
        page = dead_letters.select_dead(
            conn, choice.filters, ids=choice.ids or None, after=running.after, limit=size
        )
    return [row.id for row in page], page[-1].letter_id if page else running.after


def _moved(conn: Connection, running: RunningAction, ids: Sequence[JobId]) -> list[JobId]:
    if running.action == "jobs.cancel":
        return cancellation.cancel_page(conn, ids, running.words)
    verb = running.action.partition(".")[2]
    return [one.id for one in dead_actions.move_noted(conn, verb, ids, running.words)]


def _unbegun(conn: Connection, choice: BulkChoice) -> list[JobId]:
    of = choice.filters
    unbegun = replays.select_unbegun(conn, queue=of.queue, job=of.job, tenant_id=of.tenant_id)
    return [one for one in unbegun if not choice.ids or one in choice.ids]


def _unfinished(choice: BulkChoice) -> UnfinishedFilters:
    of = choice.filters
    return UnfinishedFilters(of.queue, of.job, of.tenant_id, choice.batch_id, of.until)


def _words(choice: BulkChoice) -> dict[str, str]:
    """Return the filters as the audit log has them; its entry is of the tenant."""
    names = ("queue", "job", "since", "until", "error", "fingerprint", "where")
    given = {name: getattr(choice.filters, name) for name in names}
    given["batch"] = choice.batch_id
    return {name: str(value) for name, value in given.items() if value is not None}


def _stored(choice: BulkChoice) -> dict[str, Any]:
    of = choice.filters
    moments = {"since": of.since, "until": of.until}
    return {
        "ids": list(choice.ids),
        "filters": {name: at and at.isoformat() for name, at in moments.items()}
        | {name: getattr(of, name) for name in ("queue", "job", "error", "fingerprint", "where")},
        "batchId": choice.batch_id,
        "rate": choice.rate,
        "canary": choice.canary,
        "canarySeconds": choice.canary_s,
        "failingMax": choice.failing_max,
    }


def _read(stored: dict[str, Any], tenant_id: TenantId | None) -> BulkChoice:
    filters = dict(stored["filters"])
    for name in ("since", "until"):
        at = filters.pop(name)
        filters[name] = at and datetime.fromisoformat(at)
    return BulkChoice(
        ids=tuple(stored["ids"]),
        filters=DeadLetterFilters(tenant_id=tenant_id, **filters),
        batch_id=stored["batchId"],
        rate=stored["rate"],
        canary=stored["canary"],
        canary_s=stored["canarySeconds"],
        failing_max=stored["failingMax"],
    )
