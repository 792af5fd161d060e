"""Export a period of the audit log as signed lines of JSON, which `audit_verifier.py` checks alone.

A period ends and begins at checkpoints: it holds what was sealed in it, so the entries of a chain
follow each other without a gap and end where a signed checkpoint says.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from producers.operations import audit_verifier
from producers.operations.audit_keys import AuditKeys
from producers.operations.audit_verifier import FIELDS, FORMAT, NOTHING
from producers.queries.operations import audit_seals, audit_walk
from producers.queries.operations.audit_seals import ChainEnd, StoredCheckpoint
from shared.db import Connection
from shared.errors import PermanentError


class NothingSealed(PermanentError):
    """The log has no checkpoint in the period."""

    code = "nothing_sealed"


@dataclass(frozen=True, slots=True)
class Period:
    """When entries were sealed: from `since` on and before `until`; None without an end."""

    since: datetime | None = None
    until: datetime | None = None


def export_lines(
    conn: Connection, keys: AuditKeys, chains: Sequence[str] | None, period: Period
) -> Iterator[bytes]:
    """Yield the lines of an export, the signature last.

    Args:
        conn: A connection in the audit reader's role, in one snapshot.
        keys: The first signs the lines.
        chains: These chains, "" for entries without a tenant; None all.
        period: When the entries were sealed.

    Raises:
        NothingSealed: No checkpoint was signed before the end of the period.
    """
    last = audit_seals.select_checkpoint_before(conn, period.until)
    if last is None:
        raise NothingSealed("Nothing was sealed in this time: `ailydian audit checkpoints`.")
    before = (
        None if period.since is None else audit_seals.select_checkpoint_before(conn, period.since)
    )
    digest = hashlib.sha256()
    for document in _documents(conn, before, last, chains):
        raw = audit_verifier.canonical(document) + b"\n"
        digest.update(raw)
        yield raw
    signature = audit_verifier.sign_export(keys.signing, digest.digest())
    yield audit_verifier.canonical({"type": "signature", "signature": signature}) + b"\n"


def _documents(
    conn: Connection,
    before: StoredCheckpoint | None,
    last: StoredCheckpoint,
    chains: Sequence[str] | None,
) -> Iterator[dict[str, Any]]:
    after = 0 if before is None else before.number
    yield {"type": "log", "format": FORMAT, "after": after, "to": last.number}
    ends = audit_seals.select_ends(conn, at=last.number)
    starts = {end.chain: end for end in audit_seals.select_ends(conn, at=after)}
    tree = audit_verifier.tree([audit_verifier.leaf(end) for end in ends])
    for index, end in enumerate(ends):
        if chains is not None and end.chain not in chains:
            continue
        start = starts.get(end.chain, ChainEnd(end.chain, 0, NOTHING))
        yield {"type": "chain", "chain": end.chain, "after": start.seq, "hash": start.hash.hex()}
        if start.seq < end.seq:
            yield from _entries(conn, start, end)
        proof = [one.hex() for one in audit_verifier.path(tree, index)]
        yield {
            **{"type": "head", "chain": end.chain, "seq": end.seq, "hash": end.hash.hex()},
            **{"index": index, "path": proof},
        }
    yield {"type": "checkpoint", "body": last.body, "signature": last.signature}


def _entries(conn: Connection, start: ChainEnd, end: ChainEnd) -> Iterator[dict[str, Any]]:
    for entry in audit_walk.select_sealed(conn, end.chain, after=start.seq, to=end.seq):
        fields = dict(zip(FIELDS, entry.fields or (entry.audit_id,), strict=False))
        yield {"type": "entry", "seq": entry.seq, "hash": entry.hash.hex(), **fields}
