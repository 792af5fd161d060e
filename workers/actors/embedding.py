"""Queue `embedding`: texts in, vectors in Postgres out."""

import json
from collections.abc import Sequence
from itertools import groupby
from typing import TypeVar

from shared import db, providers, quantization
from shared.contracts import EmbedChunks, EmbedMessages, EmbedMissing
from shared.ids import TenantId
from shared.outbox import Lease, effect, effects, publish_many
from shared.queries import embeddings, outbox
from workers.broker import actor
from workers.domain import embedding

MISSING_MAX = 10_000
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


@actor(EmbedMissing)
def embed_missing(job: EmbedMissing, lease: Lease) -> None:  # noqa: ARG001 - the day names the fact
    """Publish the embedding of chunks that lack their vector of the live model."""
    model = providers.live_model()
    with effect(lease) as conn:
        missing = embeddings.select_missing(conn, model, limit=MISSING_MAX)
        jobs = []
        for document_id, group in groupby(missing, key=lambda pair: pair[0]):
            ids = [chunk_id for _, chunk_id in group]
            jobs += [
                EmbedChunks(document_id=document_id, chunk_ids=ids[at : at + 64], model=model)
                for at in range(0, len(ids), 64)
            ]
        # A key of this job's own: what was asked for before, and is still missing, is asked again.
        keys = [f"{lease.job_id}/{number}" for number in range(len(jobs))]
        publish_many(conn, jobs, keys=keys)
        outcome = json.dumps({"chunks": len(missing), "jobs": len(jobs), "model": model})
        outbox.set_outcome(conn, lease.job_id, lease.fence, outcome)


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
