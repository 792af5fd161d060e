"""Search of a tenant's documents, as the command and the HTTP API show its hits."""

from dataclasses import dataclass
from typing import Literal

from shared.ids import ChunkId, DocumentId, TenantId

SearchMode = Literal["hybrid", "vector", "text"]


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """A passage that answers; `start` and `end` are code points of its document's content."""

    chunk_id: ChunkId
    document_id: DocumentId
    title: str
    source: str | None
    score: float
    content: str
    start: int | None
    end: int | None


def find(tenant_id: TenantId, text: str, *, k: int, mode: SearchMode) -> list[FoundPassage]:
    """Find passages; see `shared.documents.search.search`, which says what it raises."""
    # Imported now: models are slow to import, and a wrong request needs none.
    from shared.documents.search import search  # noqa: PLC0415

    return [
        FoundPassage(
            hit.chunk_id,
            hit.document_id,
            hit.title,
            hit.source,
            hit.score,
            hit.content,
            hit.start,
            hit.end,
        )
        for hit in search(tenant_id, text, k=k, mode=mode)
    ]
