"""Bulk actions on quarantined messages; each page commits with its audit entry."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import redis

from producers.json_rows import as_document
from producers.ledger import dead_selection, quarantine_edit
from producers.ledger.dead_selection import regex_checked
from producers.ledger.ingress_entries import Fields, entry_of
from producers.ledger.ingress_streams import stream_of
from producers.ledger.publishers import DEFAULT, PUBLISHERS_MAX
from producers.queries.ledger import publishers
from shared import db
from shared.db import Connection, Role
from shared.errors import PermanentError
from shared.ledger.wakeups import Wire
from shared.operations import audit
from shared.queries.ledger import clock, quarantines
from shared.queries.ledger.quarantines import QuarantinedRow, QuarantineFilters, TakenRow
from shared.queries.operations.audit_logs import AuditEntry

Move = Callable[[Connection, Sequence[str]], list[TakenRow]]


class MessageUnsendable(PermanentError):
    """The message cannot be sent again as it is."""

    code = "message_unsendable"


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


@dataclass(frozen=True, slots=True)
class QuarantineChoice:
    """Selected messages, and how to process them.

    Attributes:
        ids: Of messages; empty for any.
        wanted: Filters.
        words: The filters as they were given, for the audit log.
        dry_run: Only count.
        rate: Maximum per second.
    """

    ids: tuple[str, ...]
    wanted: QuarantineFilters
    words: dict[str, str]
    dry_run: bool = False
    rate: float | None = None


def act(
    move: Move, verb: str, choice: QuarantineChoice, advance: Callable[[int], None] = lambda _: None
) -> tuple[int, int]:
    """Apply an action to the selected messages that existed at the start.

    Args:
        move: Applies the action to a page of ids.
        verb: Its name, as the audit log has it.
        choice: Which ones, and how fast.
        advance: Told how many each page had.

    Returns:
        How many matched, and how many were changed.

    Raises:
        RegexRefused: `error` is an invalid regular expression.
    """
    wanted, matched, done = _until_now(choice.wanted), 0, 0
    size, after, page = dead_selection.page_size(choice.rate), "", [""]
    while page:
        began = time.monotonic()
        with db.transaction(None, role=Role.RELAY) as conn, regex_checked(conn, wanted.error):
            page = quarantines.select_ids(
                conn, wanted, ids=choice.ids or None, after=after, limit=size
            )
        matched += len(page)
        if page and not choice.dry_run:
            with db.transaction(None, role=Role.RELAY) as conn:
                done += len(move_page(conn, move, verb, page, choice.words))
            if choice.rate is not None:
                time.sleep(max(0.0, len(page) / choice.rate - (time.monotonic() - began)))
        advance(len(page))
        after = page[-1] if page else after
    return matched, done


def count(choice: QuarantineChoice) -> int:
    """Count the selected messages."""
    with db.transaction(None, role=Role.RELAY) as conn, regex_checked(conn, choice.wanted.error):
        return quarantines.count_quarantined(conn, choice.wanted, ids=choice.ids or None)


def move_page(
    conn: Connection, move: Move, verb: str, ids: Sequence[str], words: Mapping[str, str]
) -> list[TakenRow]:
    """Apply an action to messages in the caller's transaction, with its audit entry."""
    taken = move(conn, ids)
    if taken:
        moved = [row.id for row in taken]
        what = {"count": len(moved), "messages": moved}
        what |= {"filters": dict(words)} if words else {}
        one = moved[0] if len(moved) == 1 else None
        entry = AuditEntry(None, audit.who(), f"quarantine.{verb}", "Quarantine", one, what)
        audit.write(conn, [entry])
    return taken


def move_one(conn: Connection, move: Move, verb: str, message_id: str) -> None:
    """Apply an action to one message in the caller's transaction.

    Raises:
        JobNotFound: None has this id.
        MessageUnsendable: It cannot be sent again as it is.
    """
    row = quarantine_edit.found(conn, message_id)
    if not move_page(conn, move, verb, [row.id], {}):
        raise MessageUnsendable(
            f"The message {row.id} cannot be sent: it was stored truncated, lacks a field or is of "
            "a publisher that was removed."
        )


def document(row: QuarantinedRow) -> dict[str, Any]:
    """Return a message as JSON, without its bytes."""
    found = as_document(row)
    del found["message"]
    found["bytes"] = found.pop("sizeBytes")
    return found


def _until_now(wanted: QuarantineFilters) -> QuarantineFilters:
    """Return filters that exclude messages quarantined again during this action."""
    with db.transaction(None, role=Role.RELAY) as conn:
        now = clock.select_now(conn)
    return replace(wanted, until=min(wanted.until or now, now))
