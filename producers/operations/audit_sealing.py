"""Seal the audit log: entries become chains of hashes, and a checkpoint signs where they end.

An entry is written in the transaction of the act, without a lock of its chain. What was committed
is sealed in batches, in the order of the folds: entries of a transaction that is still open are
sealed after it, and hold back nobody's.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from producers.operations import audit_verifier
from producers.operations.audit_keys import AuditKeys
from producers.operations.audit_verifier import NOTHING
from producers.queries.ledger import events
from producers.queries.operations import audit_seals as queries
from producers.queries.operations.audit_seals import (
    ChainEnd,
    Seal,
    SealPlace,
    StoredCheckpoint,
    UnsealedEntry,
)
from shared import db
from shared.db import Connection, Role

log = structlog.get_logger()

# Entries that one transaction seals, with one checkpoint, and folds that it looks at.
BATCH_MAX, FOLDS_MAX = 5_000, 500


@dataclass(frozen=True, slots=True)
class Sealed:
    """What one transaction has sealed, and whether more may wait."""

    entries: int
    more: bool


def sweep(keys: AuditKeys, stop: threading.Event) -> int:
    """Seal what was committed until nothing is left.

    Returns:
        Number of entries sealed.
    """
    with db.transaction(None, role=Role.AUDIT_READER) as conn:
        queries.put_cursor(conn)
        events.place(conn)
    entries = 0
    while not stop.is_set():
        with db.transaction(None, role=Role.AUDIT_READER) as conn:
            sealed = seal(conn, keys, now=datetime.now(UTC))
        entries += sealed.entries
        if not sealed.more:
            break
    return entries


def seal(conn: Connection, keys: AuditKeys, *, now: datetime, limit: int = BATCH_MAX) -> Sealed:
    """Seal the next entries and sign a checkpoint.

    Args:
        conn: A connection in the audit reader's role.
        keys: The first signs.
        now: The time of the checkpoint.
        limit: Maximum entries.
    """
    # Looked at before the lock: once a second there is mostly nothing, and a lock is a write.
    if queries.select_last_fold(conn, folds=FOLDS_MAX) is None:
        return Sealed(0, more=False)
    log_id = queries.lock_log(conn)
    fold = queries.select_last_fold(conn, folds=FOLDS_MAX)
    if log_id is None or fold is None:
        return Sealed(0, more=False)
    entries = queries.select_unsealed(conn, to_fold=fold, limit=limit)
    if entries:
        _write(conn, keys, log_id, entries, now)
    if len(entries) < limit:
        to = SealPlace(fold, is_whole=True, xid="0", audit_id="")
    else:
        last = entries[-1]
        to = SealPlace(last.fold, is_whole=False, xid=last.xid, audit_id=last.id)
    more = queries.move(conn, to)
    return Sealed(len(entries), more)


def _write(
    conn: Connection,
    keys: AuditKeys,
    log_id: str,
    entries: Sequence[UnsealedEntry],
    now: datetime,
) -> None:
    ends = {end.chain: end for end in queries.select_chains(conn)}
    seals = []
    for entry in entries:
        before = ends.get(entry.chain, ChainEnd(entry.chain, 0, NOTHING))
        seq = before.seq + 1
        found = audit_verifier.entry_hash(before.hash, entry.chain, seq, hashed_fields(entry))
        ends[entry.chain] = ChainEnd(entry.chain, seq, found)
        seals.append(Seal(entry.chain, seq, entry.id, found))
    moved = [ends[chain] for chain in sorted({seal.chain for seal in seals})]
    queries.insert_seals(conn, seals)
    queries.put_chains(conn, moved)
    last = queries.select_last_checkpoint(conn)
    number = 1 if last is None else last.number + 1
    leaves = [audit_verifier.leaf(ends[chain]) for chain in sorted(ends)]
    body = {
        "format": audit_verifier.FORMAT,
        "log": log_id,
        "number": number,
        "at": now.astimezone(UTC).isoformat(timespec="milliseconds"),
        "previous": None if last is None else audit_verifier.body_hash(last.body),
        "root": audit_verifier.root(leaves).hex(),
        "chains": len(leaves),
        "moved": audit_verifier.heads_hash(moved),
        "key": keys.trusted[0],
    }
    text = audit_verifier.canonical(body).decode()
    signed = StoredCheckpoint(number, text, audit_verifier.sign(keys.signing, text))
    queries.insert_checkpoint(conn, signed, moved)


def hashed_fields(entry: UnsealedEntry) -> list[str | None]:
    """Return the fields of an entry as its hash takes them, in the order of `FIELDS`."""
    return [
        *(entry.id, entry.actor, entry.action, entry.resource, entry.resource_id),
        *(entry.ip_address, entry.user_agent, entry.what, entry.created_at),
    ]
