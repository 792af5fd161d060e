"""Queue `embedding`: texts in, vectors in Postgres out."""

from collections.abc import Sequence
from typing import TypeVar

from shared import db, providers, quantization
from shared.contracts import EmbedChunks, EmbedMessages
from shared.ids import TenantId
from shared.outbox import Lease, effects
from shared.queries import embeddings
from workers.broker import actor
from workers.domain import embedding

Job = TypeVar("Job", EmbedChunks, EmbedMessages)


@actor(EmbedChunks)
def embed_chunks(jobs: Sequence[tuple[EmbedChunks, Lease]]) -> None:
    """Give the chunks that lack it their vector: several jobs, one request, one transaction."""
    for model, several in _by_model(jobs):
        leases = [lease for _, lease in several]
        ids = [chunk_id for job, _ in several for chunk_id in job.chunk_ids]
        # Read: short, and over before the provider is called.
        with db.transaction(_tenant(leases)) as conn:
            texts = embeddings.select_unembedded(conn, ids, model)
        # Think: no connection is held while the provider answers.
        vectors = _vectors(model, texts)
        # Write: the receipts and the rows commit together or not at all.
        with effects(leases) as conn:
            if vectors is not None:
                embeddings.store(conn, vectors, live=model == providers.live_model())


@actor(EmbedMessages)
def embed_messages(jobs: Sequence[tuple[EmbedMessages, Lease]]) -> None:
    """Give messages the vector of what they say now."""
    for model, several in _by_model(jobs):
        leases = [lease for _, lease in several]
        ids = [message_id for job, _ in several for message_id in job.message_ids]
        with db.transaction(_tenant(leases)) as conn:
            texts = embeddings.select_messages(conn, ids)
        vectors = _vectors(model, texts)
        with effects(leases) as conn:
            if vectors is not None:
                embeddings.store_messages(conn, model, vectors.ids, vectors.rows)


def _by_model(jobs: Sequence[tuple[Job, Lease]]) -> list[tuple[str, list[tuple[Job, Lease]]]]:
    models = dict.fromkeys(job.model for job, _ in jobs)
    return [(model, [pair for pair in jobs if pair[0].model == model]) for model in models]


def _tenant(leases: Sequence[Lease]) -> TenantId:
    return leases[0].tenant_id  # a batch is of one tenant


def _vectors(model: str, texts: Sequence[embeddings.TextToEmbed]) -> embeddings.Vectors | None:
    if not texts:
        return None
    counts = [text.token_count for text in texts]
    answer = providers.embedder_for(model).embed(
        [text.content for text in texts],
        None if None in counts else [count for count in counts if count is not None],
    )
    rows = embedding.checked(answer, count=len(texts))
    return embeddings.Vectors(
        model=model,
        ids=[text.id for text in texts],
        rows=rows,
        bits=quantization.bits(rows),
    )
