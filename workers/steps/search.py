"""Kind `search`: the tenant's documents, by meaning and by words."""

from shared.documents import search as retrieval
from shared.workflow.kinds import SearchWith
from workers.steps.step import Step
from workers.steps.table import step_kind


@step_kind("search")
def search(given: SearchWith, step: Step) -> object:
    """Return {hits, count}: the passages that answer, best first, as `complete` takes them."""
    found = retrieval.search(step.tenant_id, given.query, k=given.k, mode=given.mode)
    hits = [
        {
            "chunkId": hit.chunk_id,
            "documentId": hit.document_id,
            "title": hit.title,
            "source": hit.source,
            "score": round(float(hit.score), 6),
            "content": hit.content,
            "start": hit.start,
            "end": hit.end,
        }
        for hit in found
    ]
    return {"hits": hits, "count": len(hits)}
