"""What people ask of the sealed audit log: verify it, list its checkpoints, export it."""

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from producers.json_rows import as_document
from producers.operations import (
    audit_checkpoints,
    audit_export,
    audit_keys,
    audit_verification,
    audit_verifier,
)
from producers.operations.audit_export import Period
from producers.operations.audit_verification import Verification
from producers.queries.operations import audit_seals, audit_walk
from producers.queries.operations.audit_seals import StoredCheckpoint
from shared import db
from shared.db import Connection, Role
from shared.ids import TenantId
from shared.operations import audit
from shared.queries.operations.audit_logs import AuditEntry
from shared.settings import Settings

VERIFIER = Path(audit_verifier.__file__)
# Entries are read in one snapshot: what is sealed meanwhile is not half seen.
_ONE_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; "
SYSTEM = ""  # the chain of entries without a tenant


def verify_audit(
    settings: Settings,
    chain: str | None = None,
    *,
    against: Iterable[bytes] | None = None,
    where: str = "",
    advance: Callable[[], None] = lambda: None,
) -> Verification:
    """Verify the log; of all chains the result is stored, and an incident tells of a broken one.

    Args:
        settings: Whose keys are trusted.
        chain: Only this tenant's chain, or `SYSTEM`; None all.
        against: Lines of checkpoints that were kept outside.
        where: Where they come from, for errors.
        advance: Called with every entry.

    Raises:
        CheckpointRefused: What was kept outside holds no checkpoint, or one that is not trusted.
    """
    trusted = audit_keys.audit_keys(settings).trusted
    kept = () if against is None else audit_checkpoints.read_kept(against, trusted, where=where)
    with _snapshot() as conn:
        found = audit_verification.verify_log(
            conn, trusted, chain=chain, kept=kept, advance=advance
        )
    if found.orphans:
        with db.transaction(None, role=Role.OWNER) as conn:
            found.judge_orphans(audit_walk.select_living(conn, found.orphans.keys()))
    if chain is None:
        broken = found.faults[0].sentence if found.faults else None
        with db.transaction(None, role=Role.AUDIT_READER) as conn:
            audit_walk.put_result(conn, broken)
    return found


def as_result(found: Verification) -> dict[str, Any]:
    """Return a verification as commands and the API answer it."""
    faults = [as_document(one) for one in found.faults]
    return {
        "ok": found.ok,
        "entries": found.entries,
        "firstBroken": faults[0] if faults else None,
        "checkpoints": found.checkpoints,
        "pending": found.pending,
        "late": found.late,
        "faults": faults,
        "verifiedAt": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }


def count_entries(chain: str | None = None) -> int:
    """Return how many entries are sealed, in a chain or in all."""
    with db.transaction(None, role=Role.AUDIT_READER) as conn:
        return audit_walk.count_sealed(conn, chain)


def list_checkpoints(*, after: int, limit: int) -> Sequence[StoredCheckpoint]:
    """Return checkpoints after a number, in their order."""
    with db.transaction(None, role=Role.AUDIT_READER) as conn:
        return audit_seals.select_checkpoints(conn, after=after, limit=limit)


def kept_lines(signed: Sequence[StoredCheckpoint]) -> list[bytes]:
    """Return checkpoints that follow each other as lines that are kept outside."""
    if not signed:
        return []
    with db.transaction(None, role=Role.AUDIT_READER) as conn:
        moved = audit_seals.select_heads(conn, after=signed[0].number - 1, to=signed[-1].number)
    return [audit_checkpoints.line(one, moved.get(one.number, [])) for one in signed]


def export_audit(
    settings: Settings, tenant_id: TenantId | None, chains: Sequence[str] | None, period: Period
) -> Generator[bytes, None, None]:
    """Yield the lines of an export, and note it in the log; close it if you stop before the end.

    Args:
        settings: Whose key signs.
        tenant_id: Whose log the export is noted in; None the system's.
        chains: Chains to export; None all.
        period: When the entries were sealed.

    Raises:
        NothingSealed: There is no checkpoint in this time.
    """
    keys = audit_keys.audit_keys(settings)
    what = {
        "chains": None if chains is None else list(chains),
        "since": period.since and period.since.isoformat(),
        "until": period.until and period.until.isoformat(),
    }
    with _snapshot() as conn:
        yield from audit_export.export_lines(conn, keys, chains, period)
    with db.transaction(None, role=Role.RELAY) as conn:
        act = AuditEntry(tenant_id, audit.who(), "audit.export", "AuditLog", None, what)
        audit.write(conn, [act])


@contextlib.contextmanager
def _snapshot() -> Iterator[Connection]:
    with db.transaction(None, role=Role.AUDIT_READER, first=_ONE_SNAPSHOT) as conn:
        yield conn
