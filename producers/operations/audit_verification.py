"""Verify the audit log: entries against seals, seals against signed checkpoints.

A chain ties an entry to all before it, the heads that a signed checkpoint names tie the chain, and
a checkpoint names the one before. So the newest checkpoint, kept where the superuser of the
database cannot reach it, tells of every change before it.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from producers.operations import audit_marks, audit_verifier
from producers.operations.audit_checkpoints import KeptCheckpoint
from producers.operations.audit_marks import Mark
from producers.operations.audit_verifier import NOTHING, Head
from producers.queries.operations import audit_walk
from producers.queries.operations.audit_walk import SealedEntry
from shared.db import Connection

FAULTS_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class AuditFault:
    """Something in the log that is not what was sealed.

    `seq` and `id` are None where it is not one entry's.
    """

    chain: str | None
    seq: int | None
    id: str | None
    why: str

    @property
    def sentence(self) -> str:
        """What is wrong, and where."""
        where = {None: "", "": "The chain without a tenant, "}.get(
            self.chain, f"Chain {self.chain}, "
        )
        seq = "" if self.seq is None else f"entry {self.seq}"
        named = "" if self.id is None else f" ({self.id})"
        return (
            f"{where}{seq}{named}: {self.why}."
            if where
            else f"{self.why[0].upper()}{self.why[1:]}."
        )


@dataclass
class Verification:
    """The result of a verification.

    Attributes:
        entries: Sealed entries that were compared.
        checkpoints: Checkpoints that were compared.
        pending: Entries that were committed after the last seal.
        late: Entries sealed more than `audit_marks.LATE` after their own time: a transaction that
            was open for long, a scheduler that stood still, or a time that is not true.
        faults: What was found, at most `FAULTS_MAX`, one a chain, in the order of the chains.
        orphans: By chain, the first entry without its tenant: a fault where that tenant exists.
    """

    entries: int = 0
    checkpoints: int = 0
    pending: int = 0
    late: int = 0
    faults: list[AuditFault] = field(default_factory=list)
    orphans: dict[str, SealedEntry] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.faults

    def judge_orphans(self, living: Collection[str]) -> None:
        """Note the entries that lost a tenant which exists.

        Args:
            living: Which tenants of `orphans` exist now, read after the walk.
        """
        for chain in sorted(self.orphans.keys() & living):
            orphan = self.orphans[chain]
            self.note(chain, orphan.seq, orphan.audit_id, "its tenant was removed")

    def note(self, chain: str | None, seq: int | None, audit_id: str | None, why: str) -> None:
        """Note a fault."""
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(AuditFault(chain, seq, audit_id, why))


def verify_log(
    conn: Connection,
    trusted: Collection[str],
    *,
    chain: str | None = None,
    kept: Sequence[KeptCheckpoint] = (),
    advance: Callable[[], None] = lambda: None,
) -> Verification:
    """Verify the log, or one chain of it.

    Args:
        conn: A connection in the audit reader's role, in one snapshot.
        trusted: Public keys whose checkpoints are believed.
        chain: Only this chain; None all.
        kept: Checkpoints that were kept outside.
        advance: Called with every entry.
    """
    found = Verification()
    read = audit_marks.read_marks(conn, trusted, kept)
    found.checkpoints = read.checkpoints
    for of, why in read.faults:
        if of is None or chain in (None, of):  # a tenant is told nothing of another's chain
            found.note(of, None, None, why)
    unseen = {name for name in read.marks if chain in (None, name)}
    sealed = audit_walk.select_sealed(conn, chain)
    for name, entries in groupby(sealed, key=lambda entry: entry.chain):
        unseen.discard(name)
        walk = _Chain(name, read.marks.get(name, ()), found)
        for entry in entries:
            walk.take(entry)
            advance()
        walk.end()
        if walk.orphan is not None:
            found.orphans[name] = walk.orphan
    for name in sorted(unseen):
        why = f"all {read.marks[name][-1].seq} entries of the chain are missing"
        found.note(name, 1, None, why)
    bare = audit_walk.count_unsealed(conn, chain)
    found.pending = bare.pending
    if bare.lost:
        why = f"{bare.lost} entries were never sealed: they were inserted beside the log"
        found.note(bare.first_tenant, None, bare.first, why)
    return found


class _Chain:
    """A walk along one chain, which ends at its first fault: all that follows rests on it."""

    def __init__(self, name: str, marks: Sequence[Mark], found: Verification) -> None:
        self.orphan: SealedEntry | None = None
        self._at = Head(name, 0, NOTHING)
        self._marks = list(reversed(marks))
        self._sure = 0
        self._found = found
        self._is_broken = False

    def take(self, entry: SealedEntry) -> None:
        """Compare the next entry."""
        if self._is_broken:
            return
        self._found.entries += 1
        why = self._fault_of(entry)
        if why is not None:
            self._note(min(entry.seq, self._at.seq + 1), entry.audit_id, why)
            return
        if entry.tenant != entry.chain and self.orphan is None:
            self.orphan = entry
        self._at = Head(entry.chain, entry.seq, entry.hash)
        mark = self._marks[-1]
        if not entry.is_older and entry.fields is not None:
            self._found.late += str(entry.fields[-1]) < mark.late
        if entry.seq == mark.seq:
            self._pass(self._marks.pop())

    def end(self) -> None:
        """Compare the end of the chain with the newest checkpoint that names it."""
        if self._marks and not self._is_broken:
            first, last = self._at.seq + 1, self._marks[0].seq
            self._note(first, None, f"entries {first} to {last} are missing")

    def _pass(self, mark: Mark) -> None:
        if self._at.hash != mark.hash:
            first = self._sure + 1
            self._note(
                first,
                None,
                f"an entry from {first} to {mark.seq} was changed: checkpoint {mark.checkpoint} "
                "has another hash",
            )
        self._sure = mark.seq

    def _fault_of(self, entry: SealedEntry) -> str | None:
        at = self._at
        if entry.seq != at.seq + 1:
            return f"entries {at.seq + 1} to {entry.seq - 1} are missing"
        if entry.fields is None:
            return "the entry is missing"
        if entry.tenant not in ("", entry.chain):
            return "the entry was moved to another tenant"
        if not self._marks:
            return "it was sealed without a checkpoint"
        found = audit_verifier.entry_hash(at.hash, entry.chain, entry.seq, entry.fields)
        return None if found == entry.hash else "the entry was changed"

    def _note(self, seq: int, audit_id: str | None, why: str) -> None:
        self._is_broken = True
        self._found.note(self._at.chain, seq, audit_id, why)
