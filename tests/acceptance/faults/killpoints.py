"""Named points at which a process kills itself, once, when the point is armed.

Nothing of this stands in the code that is tested: a plugin of the workers, and the entry of the
other roles, wrap the functions of the table when they are imported. A point is armed by a file of
its name; who gets to remove the file dies there, so of many processes exactly one does.
"""

import importlib
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared import db
from tests.acceptance.faults.clock import DIRECTORY

FOLDER = "armed"
_directory = os.environ.get(DIRECTORY)
_effect = threading.local()


@dataclass(frozen=True)
class Point:
    """A place: a function of a module, before it begins or after it has returned."""

    name: str
    module: str
    function: str
    when: str = "before"


WORKER = (
    Point("a wake-up is waited for", "workers.process.consumer", "LedgerConsumer._pop"),
    Point(
        "wake-ups are taken from Redis", "workers.process.consumer", "LedgerConsumer._pop", "after"
    ),
    Point("wake-ups are checked", "workers.process.consumer", "LedgerConsumer._checked", "after"),
    Point("jobs are claimed, not committed", "shared.queries.ledger.outbox", "claim", "after"),
    Point("the claim is committed", "workers.process.consumer", "LedgerConsumer._claim", "after"),
    Point(
        "claimed jobs wait for a thread",
        "workers.process.consumer",
        "LedgerConsumer._fill",
        "after",
    ),
    Point("a message is quarantined", "shared.queries.ledger.quarantines", "insert_quarantined"),
    Point("a thread begins", "workers.process.attempts", "run"),
    Point("a payload is read", "workers.process.attempts", "_read", "after"),
    Point("the actor begins", "workers.process.attempts", "_done"),
    Point("the actor has returned", "workers.process.attempts", "_done", "after"),
    Point("an effect is written", "workers.queries.operations.probes", "insert_entry", "after"),
    Point("a batch is written", "workers.queries.operations.probes", "insert_entries", "after"),
    Point("a follow-up is published", "shared.queries.ledger.outbox", "insert_jobs", "after"),
    Point("chunks are stored", "shared.queries.documents.documents", "insert_chunks", "after"),
    Point("vectors are stored", "workers.queries.documents.embeddings", "store", "after"),
    Point("a completion is noted", "workers.process.settlement", "JobCompleter.add"),
    Point("a group is committed", "workers.process.settlement", "JobCompleter._commit"),
    Point(
        "a group is completed, not committed", "shared.queries.ledger.attempts", "complete", "after"
    ),
    Point("a group is completed", "workers.process.settlement", "JobCompleter._commit", "after"),
    Point("a failure is settled", "workers.process.settlement", "settle"),
    Point("a dead letter is written", "shared.queries.ledger.attempts", "bury", "after"),
    Point("a failure is written down", "workers.process.settlement", "settle", "after"),
    Point("a message is acknowledged", "workers.process.consumer", "LedgerConsumer.ack"),
    Point("leases are renewed", "shared.queries.ledger.outbox", "renew"),
    Point("leases are renewed, not committed", "shared.queries.ledger.outbox", "renew", "after"),
)
# Of a transaction with a receipt: the plain functions serve all transactions.
EFFECT = (
    "a receipt is claimed",
    "an effect is whole, not committed",
    "an effect is committed, and nobody told",
)
RELAY = (
    Point("lanes are read", "shared.queries.ledger.dispatches", "select_lanes", "after"),
    Point("rows are taken, not committed", "shared.queries.ledger.dispatches", "take", "after"),
    Point("rows are taken, nothing is sent", "producers.ledger.relay", "Relay._take", "after"),
    Point("wake-ups are sent", "producers.ledger.relay", "Relay.send"),
    Point("wake-ups have been sent", "producers.ledger.relay", "Relay.send", "after"),
    Point("the sweep begins", "producers.ledger.relay", "Relay.sweep"),
    Point("events are placed, not committed", "producers.queries.ledger.events", "place", "after"),
    Point("endings are folded, not committed", "producers.ledger.event_counters", "fold", "after"),
    Point("a wiped Redis is refilled", "producers.ledger.relay", "Relay._refill"),
    Point("lost wake-ups are marked", "shared.queries.ledger.dispatches", "resend", "after"),
    Point(
        "lapsed leases are taken back", "shared.queries.ledger.dispatches", "select_lapsed", "after"
    ),
)
SUPERVISOR = (
    Point(
        "a dead child's jobs are found", "shared.queries.ledger.dispatches", "select_held", "after"
    ),
    Point(
        "a dead child's jobs are given back", "shared.ledger.lapsed_leases", "take_back", "after"
    ),
)


def names() -> list[str]:
    """Every point there is."""
    return [*(point.name for point in (*WORKER, *RELAY, *SUPERVISOR)), *EFFECT]


def arm(directory: Path, name: str) -> Path:
    """Let the next process that comes to a point die there. Returns a file that is then gone."""
    folder = directory / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.touch()
    return path


def install(points: tuple[Point, ...]) -> None:
    """Put points into this process."""
    if _directory is None:
        return
    for point in points:
        module = importlib.import_module(point.module)
        owner_name, _, name = point.function.rpartition(".")
        owner = getattr(module, owner_name) if owner_name else module
        setattr(owner, name, _wrapped(getattr(owner, name), point.name, point.when))


def install_in_worker() -> None:
    """Put the points of a worker into this process."""
    if _directory is None:
        return
    install(WORKER)
    begin, commit = db._begin, db._commit

    def begun(conn: db.Connection, tenant: Any, role: Any, first: str) -> None:
        begin(conn, tenant, role, first)
        _effect.open = "ailydian_claim_receipt" in first
        _reach(EFFECT[0], when=_effect.open)

    def committed(conn: db.Connection) -> None:
        _reach(EFFECT[1], when=_effect.open)
        commit(conn)
        _reach(EFFECT[2], when=_effect.open)

    db._begin, db._commit = begun, committed


def _wrapped(function: Callable[..., Any], name: str, when: str) -> Callable[..., Any]:
    def reached(*arguments: Any, **named: Any) -> Any:
        _reach(name, when=when == "before")
        answer = function(*arguments, **named)
        _reach(name, when=when == "after")
        return answer

    return reached


def _reach(name: str, *, when: bool) -> None:
    if when and _directory is not None:
        try:
            (Path(_directory) / FOLDER / name).unlink()
        except FileNotFoundError:
            return
        os.kill(os.getpid(), signal.SIGKILL)
