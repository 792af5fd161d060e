"""Seals of the audit log: entries that wait for one, chains and their hashes.

All run in the audit reader's role. Entries are sealed in the order of the folds of "EventFold", and
by transaction and id within a fold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.db import Connection


@dataclass(frozen=True, slots=True)
class SealPlace:
    """A place in the order of entries: everything up to it is sealed.

    `is_whole`: the fold is done; else it is done up to `xid` and `audit_id`.
    """

    fold: str
    is_whole: bool
    xid: str
    audit_id: str


@dataclass(frozen=True, slots=True)
class UnsealedEntry:
    """An entry, its fields as the hash takes them; `chain` is "" without a tenant."""

    fold: str
    xid: str
    chain: str
    id: str
    actor: str | None
    action: str
    resource: str
    resource_id: str | None
    ip_address: str | None
    user_agent: str | None
    what: str | None
    created_at: str


# Looked for first: an insert would wait for who is moving the row.
PUT_CURSOR: Final = """
    INSERT INTO "EventCursor" ("reader", "xid", "position")
    SELECT 'seals', '0', 0
    WHERE NOT EXISTS (SELECT FROM "EventCursor" c WHERE c."reader" = 'seals')
    ON CONFLICT DO NOTHING
"""


def put_cursor(conn: Connection) -> None:
    """Let sealing begin at the first fold, if it has not begun."""
    conn.execute(PUT_CURSOR)


SELECT_LOG: Final = """
    SELECT s."log" FROM "AuditState" s
"""


def select_log(conn: Connection) -> str:
    """Return the name of this log, which its checkpoints have."""
    row = conn.execute(SELECT_LOG).fetchone()
    assert row is not None, "migrate writes the row"
    return str(row[0])


LOCK_LOG: Final = """
    SELECT s."log" FROM "AuditState" s FOR UPDATE SKIP LOCKED
"""


def lock_log(conn: Connection) -> str | None:
    """Lock the log for this transaction; its name, None while another process seals."""
    row = conn.execute(LOCK_LOG).fetchone()
    return None if row is None else str(row[0])


SELECT_LAST_FOLD: Final = """
    SELECT f."fold"::text AS "fold" FROM (
        SELECT f."fold" FROM "EventCursor" c
        JOIN "EventFold" f ON f."fold" > c."xid" OR (f."fold" = c."xid" AND c."position" = 0)
        WHERE c."reader" = 'seals' ORDER BY f."fold" LIMIT %(folds)s
    ) f ORDER BY f."fold" DESC LIMIT 1
"""


def select_last_fold(conn: Connection, *, folds: int) -> str | None:
    """Return the last of the next so many folds that are not sealed; None without any."""
    row = conn.execute(SELECT_LAST_FOLD, {"folds": folds}).fetchone()
    return None if row is None else str(row[0])


SELECT_UNSEALED: Final = """
    WITH fold AS MATERIALIZED (
        SELECT f."fold", coalesce(f."lows", '{0}') AS "lows",
               coalesce(f."highs", ARRAY[f."fold"]) AS "highs",
               CASE WHEN f."fold" = c."xid" THEN s."xid" ELSE '0' END AS "xid",
               CASE WHEN f."fold" = c."xid" THEN s."auditId" ELSE '' END AS "auditId"
        FROM "EventCursor" c CROSS JOIN "AuditState" s
        JOIN "EventFold" f ON f."fold" > c."xid" OR (f."fold" = c."xid" AND c."position" = 0)
        WHERE c."reader" = 'seals' AND f."fold" <= %(to_fold)s::text::xid8
    ), entry AS (
        SELECT f."fold", a.*
        FROM fold f CROSS JOIN LATERAL unnest(f."lows", f."highs") AS r("low", "high")
        CROSS JOIN LATERAL (
            SELECT x.* FROM "AuditLog" x
            WHERE x."xid" >= r."low" AND x."xid" < r."high"
              AND (x."xid", x."id") > (f."xid", f."auditId")
              AND NOT EXISTS (SELECT FROM "AuditSeal" s WHERE s."auditId" = x."id")
            ORDER BY x."xid", x."id" LIMIT %(limit)s OFFSET 0
        ) a
        ORDER BY f."fold", a."xid", a."id" LIMIT %(limit)s
    )
    SELECT e."fold"::text, e."xid"::text, coalesce(e."tenantId", '') AS "chain", e."id",
           e."userId" AS "actor", e."action", e."resource", e."resourceId", e."ipAddress",
           e."userAgent", e."metadata"::text AS "what",
           to_char(e."createdAt", 'YYYY-MM-DD"T"HH24:MI:SS.MS') AS "createdAt"
    FROM entry e ORDER BY e."fold", e."xid", e."id"
"""


def select_unsealed(conn: Connection, *, to_fold: str, limit: int) -> list[UnsealedEntry]:
    """Return the next entries in their order, of folds up to this one."""
    rows = conn.execute(SELECT_UNSEALED, {"limit": limit, "to_fold": to_fold})
    return [UnsealedEntry(*row) for row in rows]


# A fold that is whole lets retention pass it; of one that is not, nothing is deleted.
MOVE: Final = """
    UPDATE "EventCursor" SET "xid" = %(fold)s::text::xid8, "movedAt" = now(),
           "position" = CASE WHEN %(is_whole)s THEN 9223372036854775807 ELSE 0 END
    WHERE "reader" = 'seals'
"""

UPDATE_STATE: Final = """
    UPDATE "AuditState" SET "xid" = %(xid)s::text::xid8, "auditId" = %(audit_id)s
    RETURNING NOT %(is_whole)s OR EXISTS (
        SELECT FROM "EventFold" f WHERE f."fold" > %(fold)s::text::xid8) AS "more"
"""


def move(conn: Connection, to: SealPlace) -> bool:
    """Move on to a place. Returns whether there are folds after it."""
    values = {"fold": to.fold, "is_whole": to.is_whole, "xid": to.xid, "audit_id": to.audit_id}
    conn.execute(MOVE, values)
    row = conn.execute(UPDATE_STATE, values).fetchone()
    return row is not None and bool(row[0])


@dataclass(frozen=True, slots=True)
class ChainEnd:
    """The last number and hash of a chain."""

    chain: str
    seq: int
    hash: bytes


SELECT_CHAINS: Final = """
    SELECT c."chain", c."seq", c."hash" FROM "AuditChain" c ORDER BY c."chain"
"""


def select_chains(conn: Connection) -> list[ChainEnd]:
    """Return the ends of all chains, in the order of their names."""
    return [ChainEnd(*row) for row in conn.execute(SELECT_CHAINS)]


PUT_CHAINS: Final = """
    INSERT INTO "AuditChain" ("chain", "seq", "hash")
    SELECT * FROM unnest(%(chains)s::text[], %(seqs)s::bigint[], %(hashes)s::bytea[])
    ON CONFLICT ("chain") DO UPDATE SET "seq" = excluded."seq", "hash" = excluded."hash"
"""


def put_chains(conn: Connection, ends: Sequence[ChainEnd]) -> None:
    """Store the new ends of chains."""
    conn.execute(PUT_CHAINS, _columns(ends))


@dataclass(frozen=True, slots=True)
class Seal:
    """The place of an entry in its chain, and the hash up to there."""

    chain: str
    seq: int
    audit_id: str
    hash: bytes


INSERT_SEALS: Final = """
    INSERT INTO "AuditSeal" ("chain", "seq", "auditId", "hash")
    SELECT * FROM unnest(%(chains)s::text[], %(seqs)s::bigint[], %(ids)s::text[],
                         %(hashes)s::bytea[])
"""


def insert_seals(conn: Connection, seals: Sequence[Seal]) -> None:
    """Seal entries."""
    values = _columns(seals) | {"ids": [one.audit_id for one in seals]}
    conn.execute(INSERT_SEALS, values)


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A signed checkpoint, as it was signed."""

    number: int
    body: str
    signature: str


SELECT_LAST_CHECKPOINT: Final = """
    SELECT c."number", c."body", c."signature" FROM "AuditCheckpoint" c
    ORDER BY c."number" DESC LIMIT 1
"""


def select_last_checkpoint(conn: Connection) -> StoredCheckpoint | None:
    """Return the newest checkpoint; None before the first."""
    row = conn.execute(SELECT_LAST_CHECKPOINT).fetchone()
    return None if row is None else StoredCheckpoint(*row)


INSERT_CHECKPOINT: Final = """
    INSERT INTO "AuditCheckpoint" ("number", "body", "signature", "at")
    VALUES (%(number)s, %(body)s::text, %(signature)s,
            (%(body)s::text::jsonb ->> 'at')::timestamptz)
"""

INSERT_HEADS: Final = """
    INSERT INTO "AuditHead" ("checkpoint", "chain", "seq", "hash")
    SELECT %(number)s, h.*
    FROM unnest(%(chains)s::text[], %(seqs)s::bigint[], %(hashes)s::bytea[]) h
"""


def insert_checkpoint(
    conn: Connection, signed: StoredCheckpoint, moved: Sequence[ChainEnd]
) -> None:
    """Store a checkpoint with the chains that it has moved."""
    values = {"number": signed.number, "body": signed.body, "signature": signed.signature}
    conn.execute(INSERT_CHECKPOINT, values)
    conn.execute(INSERT_HEADS, _columns(moved) | {"number": signed.number})


SELECT_CHECKPOINTS: Final = """
    SELECT c."number", c."body", c."signature" FROM "AuditCheckpoint" c
    WHERE c."number" > %(after)s ORDER BY c."number" LIMIT %(limit)s
"""


def select_checkpoints(conn: Connection, *, after: int, limit: int) -> list[StoredCheckpoint]:
    """Return the next checkpoints after a number."""
    rows = conn.execute(SELECT_CHECKPOINTS, {"after": after, "limit": limit})
    return [StoredCheckpoint(*row) for row in rows]


SELECT_CHECKPOINT_BEFORE: Final = """
    SELECT c."number", c."body", c."signature" FROM "AuditCheckpoint" c
    WHERE %(until)s::timestamptz IS NULL OR c."at" < %(until)s
    ORDER BY c."number" DESC LIMIT 1
"""


def select_checkpoint_before(conn: Connection, until: datetime | None) -> StoredCheckpoint | None:
    """Return the newest checkpoint that was signed before a time; None for any time."""
    row = conn.execute(SELECT_CHECKPOINT_BEFORE, {"until": until}).fetchone()
    return None if row is None else StoredCheckpoint(*row)


SELECT_ENDS: Final = """
    SELECT c."chain", h."seq", h."hash" FROM "AuditChain" c CROSS JOIN LATERAL (
        SELECT x."seq", x."hash" FROM "AuditHead" x
        WHERE x."chain" = c."chain" AND x."checkpoint" <= %(at)s
        ORDER BY x."checkpoint" DESC LIMIT 1
    ) h ORDER BY c."chain"
"""


def select_ends(conn: Connection, *, at: int) -> list[ChainEnd]:
    """Return where all chains ended at a checkpoint, in the order of their names."""
    return [ChainEnd(*row) for row in conn.execute(SELECT_ENDS, {"at": at})]


SELECT_HEADS: Final = """
    SELECT h."checkpoint", h."chain", h."seq", h."hash" FROM "AuditHead" h
    WHERE h."checkpoint" > %(after)s AND h."checkpoint" <= %(to)s
    ORDER BY h."checkpoint", h."chain"
"""


def select_heads(conn: Connection, *, after: int, to: int) -> dict[int, list[ChainEnd]]:
    """Return by checkpoint the chains that it has moved, of checkpoints up to `to`."""
    found: dict[int, list[ChainEnd]] = {}
    for checkpoint, *end in conn.execute(SELECT_HEADS, {"after": after, "to": to}):
        found.setdefault(checkpoint, []).append(ChainEnd(*end))
    return found


def _columns(rows: Sequence[ChainEnd] | Sequence[Seal]) -> dict[str, object]:
    return {
        "chains": [row.chain for row in rows],
        "seqs": [row.seq for row in rows],
        "hashes": [row.hash for row in rows],
    }
