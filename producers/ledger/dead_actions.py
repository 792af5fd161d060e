"""Bulk actions on dead letters, by page; each page commits with its audit entries."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from producers.ledger import cancellation, dead_selection
from producers.ledger.dead_selection import DeadLetterSelection
from producers.queries.ledger import dead_letters, replays
from producers.queries.ledger.dead_letters import DeadLetterFilters, Moved
from producers.queries.ledger.replays import Unreplayed
from shared import db
from shared.db import Connection, Role
from shared.errors import PermanentError, ReplayStopped
from shared.ids import JobId, TenantId
from shared.operations import audit
from shared.queries.operations.audit_logs import AuditEntry

LOOK_S = 0.25
ENDED_MIN = 10
WATCHED_MAX = 1_000

Move = Callable[[Connection, Sequence[JobId]], Sequence[Moved | Unreplayed]]
MOVES: Final[Mapping[str, Move]] = {
    "replay": dead_letters.replay,
    "discard": dead_letters.discard,
    "undo": replays.undo,
}


class NotDead(PermanentError):
    """The job is in no state for the action."""

    code = "not_dead"


@dataclass(slots=True)
class CanaryTrial:
    """Watches replayed jobs and stops the replay if too many fail again.

    Attributes:
        canary: How many are replayed first and waited for; None for no canaries.
        failing_max: Maximum share of failures among ended jobs, in [0, 1].
        canary_s: Time limit of the canaries, in seconds.
        watched: The latest replayed jobs, whose outcomes are counted.
    """

    canary: int | None
    failing_max: float | None
    canary_s: float
    watched: list[JobId] = field(default_factory=list)

    def watch(self, moved: Iterable[Moved | Unreplayed]) -> None:
        """Record the jobs of a page, wait for them if they are the canaries, and check.

        Raises:
            ReplayStopped: Too many of them failed, or the canaries did not end in time.
        """
        first = not self.watched
        self.watched = [*self.watched, *(one.id for one in moved)][-WATCHED_MAX:]
        if self.canary is not None and first and self.watched:
            self._wait()
        elif self.failing_max is not None:
            self._judge(ended_min=ENDED_MIN)

    def _wait(self) -> None:
        deadline = time.monotonic() + self.canary_s
        while self._judge(ended_min=1) < len(self.watched):
            if time.monotonic() > deadline:
                raise late(len(self.watched), self.canary_s)
            time.sleep(LOOK_S)

    def _judge(self, *, ended_min: int) -> int:
        with db.transaction(None, role=Role.RELAY) as conn:
            return judge(conn, self.watched, self.failing_max, ended_min=ended_min)


def judge(
    conn: Connection, watched: Sequence[JobId], failing_max: float | None, *, ended_min: int
) -> int:
    """Return how many of the replayed jobs have ended.

    Raises:
        ReplayStopped: At least `ended_min` have, and too many of them failed again.
    """
    outcome = replays.select_outcome(conn, watched)
    ended = outcome.completed + outcome.failed
    if ended >= ended_min and outcome.failed / ended > (failing_max or 0.0):
        raise ReplayStopped(
            f"{outcome.failed} of {ended} replayed jobs failed again; the others were not replayed."
        )
    return ended


def late(count: int, waited_s: float) -> ReplayStopped:
    """Return the error of canaries that have not all ended in their time."""
    return ReplayStopped(
        f"The first {count} jobs have not all ended after {waited_s:.0f} s; the others were not "
        "replayed."
    )


def act(
    move: Move,
    verb: str,
    choice: DeadLetterSelection,
    trial: CanaryTrial | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> tuple[int, int]:
    """Apply an action to the selected letters; each page commits with its audit entries.

    Args:
        move: Applies the action to a page of jobs.
        verb: Its name, as the audit log has it.
        choice: Which ones, and how fast.
        trial: Checks the outcomes.
        advance: Told how many each page had.

    Returns:
        How many matched, and how many were changed.

    Raises:
        ReplayStopped: Too many replayed jobs failed again.
    """
    matched = done = 0
    first = trial.canary if trial is not None else None
    for page in dead_selection.pages(choice, first):
        began = time.monotonic()
        matched += len(page)
        if not choice.dry_run:
            moved = move_page(move, verb, [row.id for row in page], choice.words)
            done += len(moved)
            if trial is not None:
                trial.watch(moved)
            if choice.rate is not None:
                time.sleep(max(0.0, len(page) / choice.rate - (time.monotonic() - began)))
        advance(len(page))
    return matched, done


def move_page(
    move: Move, verb: str, ids: Sequence[JobId], words: Mapping[str, Any]
) -> Sequence[Moved | Unreplayed]:
    """Apply the action to jobs in one transaction, with one audit entry per tenant."""
    with db.transaction(None, role=Role.RELAY) as conn:
        return move_noted(conn, verb, ids, words, move=move)


def move_noted(
    conn: Connection,
    verb: str,
    ids: Sequence[JobId],
    words: Mapping[str, Any],
    *,
    move: Move | None = None,
) -> Sequence[Moved | Unreplayed]:
    """Apply the action to jobs in the caller's transaction, with one audit entry per tenant."""
    moved = (move or MOVES[verb])(conn, ids)
    of: dict[TenantId, list[JobId]] = defaultdict(list)
    for one in moved:
        of[one.tenant_id].append(one.id)
    if of:
        audit.write(conn, [_act(tenant_id, verb, jobs, words) for tenant_id, jobs in of.items()])
    return moved


def move_one(
    conn: Connection, verb: str, job_id: str, tenant_id: TenantId | None
) -> Moved | Unreplayed:
    """Apply the action to one job, by its id or its letter's, in the caller's transaction.

    Raises:
        JobNotFound: There is none, or it is another tenant's.
        NotDead: It is in no state for that: not dead, or no replay that waits.
    """
    wanted = DeadLetterFilters(tenant_id=tenant_id)
    letters = dead_letters.select_dead(conn, wanted, ids=[job_id], limit=1)
    row = cancellation.found(conn, letters[0].id if letters else job_id, tenant_id)
    moved = move_noted(conn, verb, [row.id], {})
    if not moved:
        what = "has no replay that waits" if verb == "undo" else "is not dead"
        state = cancellation.found(conn, row.id, tenant_id).state
        raise NotDead(f"The job {row.id} {what}: it is {state}.")
    return moved[0]


def _act(tenant_id: TenantId, verb: str, jobs: list[JobId], words: Mapping[str, Any]) -> AuditEntry:
    what = {"count": len(jobs), "jobs": jobs} | ({"filters": dict(words)} if words else {})
    resource_id = jobs[0] if len(jobs) == 1 else None
    return AuditEntry(tenant_id, audit.who(), f"dead.{verb}", "Job", resource_id, what)
