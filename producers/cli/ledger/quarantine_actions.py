"""Bulk actions on quarantined messages; each page commits with its audit entry."""

import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import redis

from producers.cli.ledger import selection
from producers.cli.ledger.selection import regex_checked
from producers.cli.terminal import session
from producers.ledger import dead_selection
from producers.ledger.ingress_entries import Fields, entry_of
from producers.ledger.ingress_streams import stream_of
from producers.ledger.publishers import DEFAULT, PUBLISHERS_MAX
from producers.queries.ledger import publishers
from shared import db
from shared.db import Connection, Role
from shared.ledger.wakeups import Wire
from shared.operations import audit
from shared.queries.ledger import clock, quarantines
from shared.queries.ledger.quarantines import QuarantineFilters, TakenRow
from shared.queries.operations.audit_logs import AuditEntry

Move = Callable[[Connection, Sequence[str]], list[TakenRow]]


def sender(client: redis.Redis, wire: Wire) -> Move:
    """Return a function that sends a page of messages unchanged to their queues and streams."""

    def send(conn: Connection, ids: Sequence[str]) -> list[TakenRow]:
        # Pushed before the rows are deleted: if either fails, they stay and are sent once more.
        taken = sorted(quarantines.take_whole(conn, ids), key=lambda row: row.queue)
        with client.pipeline(transaction=False) as pipe:
            for queue, rows in groupby(taken, key=lambda row: row.queue):
                pipe.rpush(wire.queue_key(queue), *[row.message for row in rows])
            entries = _readable(conn, ids, wire.namespace)
            for stream, fields, _ in entries:
                # redis-py's types allow a field to be of any kind, and so no mapping of one kind.
                added: dict[Any, Any] = {**fields}
                pipe.xadd(stream, added)
            pipe.execute()
        quarantines.discard(conn, [row.id for _, _, row in entries])
        return taken + [row for _, _, row in entries]

    return send


def _readable(
    conn: Connection, ids: Sequence[str], namespace: str
) -> list[tuple[str, Fields, TakenRow]]:
    """Entries of the Redis door whose streams are read: what the publisher may is asked again."""
    names = [DEFAULT, *publishers.select_names(conn, limit=PUBLISHERS_MAX)]
    streams = {stream_of(namespace, name).key for name in names}
    found = [(entry_of(row.message), row) for row in quarantines.select_entries(conn, ids)]
    return [(*entry, row) for entry, row in found if entry is not None and entry[0] in streams]


def act(move: Move, verb: str, given: dict[str, Any]) -> tuple[int, int]:
    """Apply an action to the selected messages that existed at the start.

    Args:
        move: Applies the action to a page of ids.
        verb: Its name, as the audit log has it.
        given: The options of `CHOICE` and `PACE`.

    Returns:
        How many matched, and how many were changed.

    Raises:
        click.UsageError: Neither ids nor filters nor --all.
    """
    choice = dict(given)
    every, dry_run, rate = choice.pop("every"), choice.pop("dry_run"), choice.pop("rate")
    ids = choice.pop("ids") or None
    selection.refuse_no_choice(ids or (), every, choice)
    words = {name: str(value) for name, value in choice.items() if value is not None}
    wanted, matched, done = _until_now(choice), 0, 0
    size, after, page = dead_selection.page_size(rate), "", [""]
    with selection.progress(verb.title(), lambda: _count(wanted, ids)) as advance:
        while page:
            began = time.monotonic()
            with db.transaction(None, role=Role.RELAY) as conn, regex_checked():
                page = quarantines.select_ids(conn, wanted, ids=ids, after=after, limit=size)
            matched += len(page)
            if page and not dry_run:
                done += _move(move, verb, page, words)
                if rate is not None:
                    time.sleep(max(0.0, len(page) / rate - (time.monotonic() - began)))
            advance(len(page))
            after = page[-1] if page else after
    return matched, done


def _until_now(choice: dict[str, Any]) -> QuarantineFilters:
    """Return a bound that excludes messages quarantined again during this command."""
    with db.transaction(None, role=Role.RELAY) as conn:
        now = clock.select_now(conn)
    return QuarantineFilters(**choice | {"until": min(choice["until"] or now, now)})


def _move(move: Move, verb: str, ids: Sequence[str], words: dict[str, str]) -> int:
    with db.transaction(None, role=Role.RELAY) as conn:
        taken = move(conn, ids)
        if taken:
            moved = [row.id for row in taken]
            what = {"count": len(moved), "messages": moved} | ({"filters": words} if words else {})
            one = moved[0] if len(moved) == 1 else None
            entry = AuditEntry(None, session.actor(), f"quarantine.{verb}", "Quarantine", one, what)
            audit.write(conn, [entry])
    return len(taken)


def _count(wanted: QuarantineFilters, ids: Sequence[str] | None) -> int:
    with db.transaction(None, role=Role.RELAY) as conn, regex_checked():
        return quarantines.count_quarantined(conn, wanted, ids=ids)
