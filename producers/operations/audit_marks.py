"""What signed checkpoints say of each chain of the audit log."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from producers.operations import audit_verifier
from producers.operations.audit_checkpoints import KeptCheckpoint, opened_body
from producers.queries.operations import audit_seals
from producers.queries.operations.audit_seals import ChainEnd, StoredCheckpoint
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
    """What the checkpoints say, by chain and number.

    `faults`: what is wrong with them, with the chain where it is one's.
    """

    marks: dict[str, list[Mark]] = field(default_factory=dict)
    faults: list[tuple[str | None, str]] = field(default_factory=list)
    checkpoints: int = 0

    def add(self, body: Mapping[str, Any], heads: Sequence[ChainEnd]) -> None:
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
        found.faults.append((None, f"the checkpoints kept outside are of another log than {log}"))
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
            found.faults.append((None, f"checkpoint {row.number}: {why}"))
        before = row
    for number in sorted(outside):
        found.faults.append((None, f"checkpoint {number} is missing: it was kept outside"))
        found.add(outside[number].body, outside[number].heads)
    _compare_ends(conn, found)
    if before is not None and not found.faults:
        _judge_last(before, found)
    return found


def _stored(conn: Connection) -> Iterator[tuple[StoredCheckpoint, list[ChainEnd]]]:
    after = 0
    while rows := audit_seals.select_checkpoints(conn, after=after, limit=_ROWS_AT_ONCE):
        heads = audit_seals.select_heads(conn, after=after, to=rows[-1].number)
        for row in rows:
            yield row, heads.get(row.number, [])
        after = rows[-1].number


def _fault_of(
    row: StoredCheckpoint,
    body: Mapping[str, Any] | None,
    before: StoredCheckpoint | None,
    heads: Sequence[ChainEnd],
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
            found.faults.append((chain, "its stored end is not the one that was signed"))


def _judge_last(last: StoredCheckpoint, found: Marks) -> None:
    """Compare the newest checkpoint's signature, and its root with the heads that are named.

    Its signature is that of all before it: each names the hash of the one before.
    """
    body = opened_body(last.body)
    assert body is not None, "else there is a fault"
    if not audit_verifier.is_signed(last.body, last.signature, body["key"]):
        found.faults.append((None, f"checkpoint {last.number}: its signature is invalid"))
        return
    ends = {chain: marks[-1] for chain, marks in found.marks.items()}
    heads = [ChainEnd(chain, ends[chain].seq, ends[chain].hash) for chain in sorted(ends)]
    if audit_verifier.root([audit_verifier.leaf(head) for head in heads]).hex() != body["root"]:
        found.faults.append((None, f"checkpoint {last.number}: its root is another one"))
