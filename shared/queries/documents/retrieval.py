"""Reads of search: nearest by bits and cosine, best by words, and the passages themselves.

Every statement names the tenant, though row level security would: the planner needs it to use
the keys, and text search runs in a function that row level security does not bind.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pgvector import Bit, HalfVector

from shared.db import Connection
from shared.ids import ChunkId, DocumentId, TenantId


@dataclass(frozen=True, slots=True)
class SearchQuestion:
    """A search question and its vectors.

    Attributes:
        words: Its distinct words, for text search.
        language: Whose stop words do not count.
        model: Whose vectors are compared.
        vector: Shape (1536,), float32, unit length.
        bits: Shape (192,), uint8: the signs of the rotated vector.
    """

    words: Sequence[str]
    language: str
    model: str
    vector: NDArray[np.float32]
    bits: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ChunkCandidate:
    """A chunk, the language of its words or None, and its cosine or None where it has no vector."""

    chunk_id: ChunkId
    language: str | None
    cosine: float | None


# One scan of the tenant's rows of the model, 0.4 kB each; the halfvecs of `scanned` rows alone are
# fetched from where they lie out of line. OFFSET 0 keeps the two steps apart.
SELECT_NEAREST: Final = """
    SELECT n."chunkId", t."language", n."cosine" FROM (
        SELECT s."chunkId", 1 - (s."embedding" <=> %(vector)b::halfvec(1536)) AS "cosine" FROM (
            SELECT "chunkId", "embedding" FROM "ChunkVector"
            WHERE "tenantId" = %(tenant_id)s AND "model" = %(model)s
            ORDER BY "bits" <~> %(bits)b::bit(1536) LIMIT %(scanned)s
        ) s
        ORDER BY 2 DESC, 1 LIMIT %(hits_max)s OFFSET 0
    ) n
    LEFT JOIN "ChunkText" t ON t."tenantId" = %(tenant_id)s AND t."chunkId" = n."chunkId"
    ORDER BY n."cosine" DESC, n."chunkId"
"""


def select_nearest(
    conn: Connection, tenant_id: TenantId, question: SearchQuestion, *, scanned: int, hits_max: int
) -> list[ChunkCandidate]:
    """Return the chunks whose vectors are nearest, best first.

    Args:
        conn: Inside a transaction of the tenant.
        tenant_id: Whose chunks.
        question: Its model, vector and bits are used.
        scanned: How many are taken by their bits before the cosine decides.
        hits_max: At most so many come back, <= scanned.
    """
    rows = conn.execute(
        SELECT_NEAREST,
        _vector(question)
        | {
            "tenant_id": tenant_id,
            "bits": Bit(question.bits.tobytes()),
            "scanned": scanned,
            "hits_max": hits_max,
        },
    )
    return [ChunkCandidate(*row) for row in rows]


SELECT_BY_WORDS: Final = """
    SELECT "chunkId", "share"
    FROM ailydian_search_text(%(words)s::text[], %(language)s::text, %(hits_max)s::int)
"""


def select_by_words(
    conn: Connection, question: SearchQuestion, *, hits_max: int
) -> list[tuple[ChunkId, float]]:
    """Return (chunk, share) of the session's tenant, best first.

    The share is BM25 divided by the most the question could get: about 1 where a chunk holds all
    words of it, 0 is never returned.
    """
    values = {
        "words": list(question.words),
        "language": question.language,
        "hits_max": hits_max,
    }
    return [(chunk_id, share) for chunk_id, share in conn.execute(SELECT_BY_WORDS, values)]


SELECT_CANDIDATES: Final = """
    SELECT t."chunkId", t."language", 1 - (v."embedding" <=> %(vector)b::halfvec(1536)) AS "cosine"
    FROM "ChunkText" t
    LEFT JOIN "ChunkVector" v ON v."tenantId" = %(tenant_id)s AND v."model" = %(model)s
                             AND v."chunkId" = t."chunkId"
    WHERE t."tenantId" = %(tenant_id)s AND t."chunkId" = ANY(%(chunk_ids)s::text[])
"""


def select_candidates(
    conn: Connection, tenant_id: TenantId, question: SearchQuestion, chunk_ids: Sequence[ChunkId]
) -> list[ChunkCandidate]:
    """Return the cosines of chunks that were found by their words, in any order."""
    if not chunk_ids:
        return []
    values = _vector(question) | {"tenant_id": tenant_id, "chunk_ids": list(chunk_ids)}
    return [ChunkCandidate(*row) for row in conn.execute(SELECT_CANDIDATES, values)]


@dataclass(frozen=True, slots=True)
class CitedPassage:
    """A chunk as it is cited: `content` is the document's content[start:end], in code points.

    The platform's own chunks have no offsets.
    """

    chunk_id: ChunkId
    document_id: DocumentId
    title: str
    source: str | None
    content: str
    start: int | None
    end: int | None
    headings: list[str]


SELECT_PASSAGES: Final = """
    SELECT c."id" AS "chunkId", c."documentId", d."title", d."source", c."content",
           c."startOffset" AS "start",
           c."endOffset" AS "end", coalesce(c."headings", '{}') AS "headings"
    FROM "DocumentChunk" c
    JOIN "Document" d ON d."id" = c."documentId"
    WHERE c."id" = ANY(%(chunk_ids)s::text[])
"""


def select_passages(conn: Connection, chunk_ids: Sequence[ChunkId]) -> dict[ChunkId, CitedPassage]:
    """Return the chunks that are there, by id."""
    rows = conn.execute(SELECT_PASSAGES, {"chunk_ids": list(chunk_ids)})
    return {row[0]: CitedPassage(*row) for row in rows}


def _vector(question: SearchQuestion) -> dict[str, object]:
    return {"model": question.model, "vector": HalfVector(question.vector)}
