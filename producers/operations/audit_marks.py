"""What signed checkpoints say of each chain of the audit log."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from producers.operations import audit_verifier
from producers.operations.audit_checkpoints import KeptCheckpoint, opened_body
from producers.operations.audit_verifier import Head
from producers.queries.operations import audit_seals
from producers.queries.operations.audit_seals import StoredCheckpoint
from shared.db import Connection

# An entry that is sealed so long after its time is told of, and is no fault.
LATE: Final = timedelta(hours=1)
_ROWS_AT_ONCE: Final = 5_000


@dataclass(frozen=True, slots=True)
class Mark:
    """What a checkpoint says of a chain: its hash up to a number.

    `late`: entries of an earlier time were sealed late.
    """

    seq: int
    hash: bytes
    checkpoint: int
    late: str


@dataclass
class Marks:
    """What the checkpoints say, by chain and number, and what is wrong with them."""

    marks: dict[str, list[Mark]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    checkpoints: int = 0

    def add(self, body: Mapping[str, Any], heads: Sequence[Head]) -> None:
        """Add what a checkpoint says."""
        late = datetime.fromisoformat(body["at"]).astimezone(UTC).replace(tzinfo=None) - LATE
        text = late.isoformat(timespec="milliseconds")
        for head in heads:
            mark = Mark(head.seq, head.hash, body["number"], text)
            self.marks.setdefault(head.chain, []).append(mark)


def read_marks(conn: Connection, trusted: Collection[str], kept: Sequence[KeptCheckpoint]) -> Marks:
    """Read and judge all checkpoints.

    Args:
        conn: A connection in the audit reader's role.
        trusted: Public keys whose checkpoints are believed.
        kept: Checkpoints that were kept outside: where the database has another one of a number,
            they are believed.
    """
    found = Marks()
    log = audit_seals.select_log(conn)
    outside = {one.body["number"]: one for one in kept if one.body["log"] == log}
    if len(outside) < len({one.body["number"] for one in kept}):
        found.faults.append(f"the checkpoints kept outside are of another log than {log}")
    before: StoredCheckpoint | None = None
    for row, heads in _stored(conn):
        found.checkpoints += 1
        body, why = opened_body(row.body), None
        believed = outside.pop(row.number, None)
        if believed is not None and believed.text != row.body:
            why = "it is not the one that was kept outside"
            found.add(believed.body, believed.heads)
        else:
            why = _fault_of(row, body, before, heads, log, trusted)
            if body is not None:
                found.add(body, heads)
        if why is not None:
            found.faults.append(f"checkpoint {row.number}: {why}")
        before = row
    for number in sorted(outside):
        found.faults.append(f"checkpoint {number} is missing: it was kept outside")
        found.add(outside[number].body, outside[number].heads)
    _compare_ends(conn, found)
    if before is not None and not found.faults:
        _compare_root(before, found)
    return found


def _stored(conn: Connection) -> Iterator[tuple[StoredCheckpoint, list[Head]]]:
    after = 0
    while rows := audit_seals.select_checkpoints(conn, after=after, limit=_ROWS_AT_ONCE):
        heads = audit_seals.select_heads(conn, after=after, to=rows[-1].number)
        for row in rows:
            ends = heads.get(row.number, [])
            yield row, [Head(end.chain, end.seq, end.hash) for end in ends]
        after = rows[-1].number


def _fault_of(
    row: StoredCheckpoint,
    body: Mapping[str, Any] | None,
    before: StoredCheckpoint | None,
    heads: Sequence[Head],
    log: str,
    trusted: Collection[str],
) -> str | None:
    """Return what is wrong with a checkpoint of the database."""
    if body is None:
        return "its body is invalid"
    number, previous = (0, None) if before is None else (before.number, before.body)
    wanted = None if previous is None else audit_verifier.body_hash(previous)
    tests = (
        (body["key"] in trusted, f"it is signed by another key, {body['key']}"),
        (
            audit_verifier.is_signed(row.body, row.signature, body["key"]),
            "its signature is invalid",
        ),
        (body["log"] == log, f"it is of another log, {body['log']}"),
        (body["number"] == row.number, "its number was changed"),
        (row.number == number + 1, "the one before it is missing"),
        (body["previous"] == wanted, "the one before it was changed"),
        (body["moved"] == audit_verifier.heads_hash(heads), "the heads of its chains were changed"),
    )
    return next((why for holds, why in tests if not holds), None)


def _compare_ends(conn: Connection, found: Marks) -> None:
    """Compare where chains end, to which new seals are tied, with the newest that was signed."""
    ends = {end.chain: (end.seq, end.hash) for end in audit_seals.select_chains(conn)}
    marked = {chain: (marks[-1].seq, marks[-1].hash) for chain, marks in found.marks.items()}
    for chain in sorted(ends.keys() | marked.keys()):
        if ends.get(chain) != marked.get(chain):
            found.faults.append(f"the end of chain {chain!r} is not the one that was signed")


def _compare_root(last: StoredCheckpoint, found: Marks) -> None:
    """Compare the newest checkpoint's root with the heads that the checkpoints name."""
    ends = {chain: marks[-1] for chain, marks in found.marks.items()}
    heads = [Head(chain, ends[chain].seq, ends[chain].hash) for chain in sorted(ends)]
    body = opened_body(last.body)
    root = audit_verifier.root([audit_verifier.leaf(head) for head in heads]).hex()
    if body is None or root != body["root"]:
        found.faults.append(f"checkpoint {last.number}: its root is another one")
