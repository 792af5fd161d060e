"""The answer cache of a tenant: what it holds and has saved, and its removal."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from shared.db import Connection
from shared.operations import audit
from shared.queries.messages import semantic_entries
from shared.queries.messages.semantic_entries import CacheFigures


@dataclass(frozen=True, slots=True)
class CacheTotals:
    """A tenant's cache; `saved_usd` is None where no model has a price."""

    tenant: str
    entries: int
    hits: int
    saved_usd: Decimal | None
    unpriced: int
    models: Sequence[CacheFigures]


def totals(slug: str, found: Sequence[CacheFigures]) -> CacheTotals:
    """Return the sums of a cache's figures by model."""
    known = [one.saved_usd for one in found if one.saved_usd is not None]
    return CacheTotals(
        tenant=slug,
        entries=sum(one.entries for one in found),
        hits=sum(one.hits for one in found),
        saved_usd=sum(known, Decimal(0)) if known or not found else None,
        unpriced=sum(one.unpriced for one in found),
        models=found,
    )


def clear(conn: Connection) -> int:
    """Delete all cached answers of the transaction's tenant. Returns how many."""
    removed = semantic_entries.clear(conn)
    audit.note(conn, "cache.clear", "SemanticCache", None, {"removed": removed})
    return removed
