"""Queue `embedding`: texts in, vectors in Postgres out."""

import json
from collections.abc import Sequence
from itertools import groupby
from typing import TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from shared import db
from shared.contracts import (
    EmbedChunks,
    EmbedMessages,
    EmbedMissing,
    FlipModel,
    FollowModel,
    PlanReindex,
    VerifyReindex,
)
from shared.db import Connection
from shared.documents import quantization
from shared.errors import ProviderRefused, StepFailed, VectorsMissing
from shared.ids import ChunkId, TenantId
from shared.ledger.outbox import Lease, effect, effects, publish, publish_many
from shared.models import providers
from shared.models.embedding_model import live_model
from shared.models.providers.batching import TextRefused
from shared.queries.documents import retrieval
from shared.queries.documents.retrieval import SearchQuestion
from shared.queries.ledger import outbox
from shared.queries.models import embedding_models
from workers.domain.documents import embedding
from workers.process.broker import actor
from workers.queries.documents import embeddings

log = structlog.get_logger()

NAMED_MAX = 10  # texts that one error or log line names
MISSING_MAX = 10_000
FOLLOW_MAX = 1_000
# The check of a new model: so many chunks ask for their neighbours, as search would.
SAMPLE, SAMPLE_CHARS, NEIGHBOURS, SCANNED = 50, 400, 10, 800
Job = TypeVar("Job", EmbedChunks, EmbedMessages)


@actor(EmbedChunks)
def embed_chunks(jobs: Sequence[tuple[EmbedChunks, Lease]]) -> None:
    """Embed chunks that have no vector: several jobs, one request, one transaction."""
    for model, several in _by_model(jobs):
        leases = [lease for _, lease in several]
        ids = [chunk_id for job, _ in several for chunk_id in job.chunk_ids]
        # Read: short, and over before the provider is called.
        with db.transaction(_tenant(leases)) as conn:
            texts = embeddings.select_unembedded(conn, ids, model)
        # Think: no connection is held while the provider answers.
        vectors, refused = _vectors(model, texts)
        if refused is not None:
            # Of the jobs of a batch, each by itself, only that of a rejected text fails.
            with db.transaction(_tenant(leases)) as conn:
                if vectors is not None:
                    embeddings.store(conn, vectors, live=model == live_model(conn))
            raise refused
        # Write: the receipts and the rows commit together or not at all.
        with effects(leases) as conn:
            if vectors is not None:
                embeddings.store(conn, vectors, live=model == live_model(conn))


@actor(EmbedMessages)
def embed_messages(jobs: Sequence[tuple[EmbedMessages, Lease]]) -> None:
    """Embed the current text of messages."""
    for model, several in _by_model(jobs):
        leases = [lease for _, lease in several]
        ids = [message_id for job, _ in several for message_id in job.message_ids]
        with db.transaction(_tenant(leases)) as conn:
            texts = embeddings.select_messages(conn, ids)
        vectors, refused = _vectors(model, texts)
        if refused is not None:
            with db.transaction(_tenant(leases)) as conn:
                if vectors is not None:
                    embeddings.store_messages(conn, vectors)
            raise refused
        with effects(leases) as conn:
            if vectors is not None:
                embeddings.store_messages(conn, vectors)


@actor(EmbedMissing)
def embed_missing(job: EmbedMissing, lease: Lease) -> None:  # noqa: ARG001 - the day names the fact
    """Publish embedding jobs for chunks without a vector of the live model."""
    with effect(lease) as conn:
        model = live_model(conn)
        jobs = _missing(conn, model)
        _ask(conn, lease, jobs)
        chunks = sum(len(one.chunk_ids) for one in jobs)
        outcome = json.dumps({"chunks": chunks, "jobs": len(jobs), "model": model})
        outbox.set_outcome(conn, lease.job_id, lease.fence, outcome)


@actor(PlanReindex)
def plan_reindex(job: PlanReindex, lease: Lease) -> None:
    """List the chunks without a vector of a model; the outcome is the batches to embed."""
    with effect(lease) as conn:
        batches = [one.model_dump(mode="json") for one in _missing(conn, job.model)]
        outcome = {"batches": batches, "before": live_model(conn)}
        outbox.set_outcome(conn, lease.job_id, lease.fence, json.dumps(outcome))


@actor(VerifyReindex)
def verify_reindex(job: VerifyReindex, lease: Lease) -> None:
    """Refuse a model with missing vectors or with too low a search quality."""
    with db.transaction(lease.tenant_id) as conn:
        late = _missing(conn, job.model)
        # Added since the backfill. Requested once, whether or not this attempt fails.
        publish_many(conn, late, keys=[f"{lease.job_id}/{one.key()}" for one in late])
        sample = embedding_models.select_sample(conn, job.model, limit=SAMPLE, chars=SAMPLE_CHARS)
    if late:
        chunks = sum(len(one.chunk_ids) for one in late)
        raise VectorsMissing(f"{chunks} chunks have no vector of {job.model} yet; requested.")
    found, recall = _retrieved(lease.tenant_id, job.model, sample)
    wanted = 1.0
    if job.against is not None and job.against != job.model:
        wanted, _ = _retrieved(lease.tenant_id, job.against, sample)
    if reasons := embedding.faults(
        found, wanted, recall, loss_max=job.found_loss_max, recall_min=job.recall_min
    ):
        raise StepFailed(f"{job.model} failed verification: {'; '.join(reasons)}.")
    outcome = {"recall": recall, "found": found, "foundBefore": wanted, "sampled": len(sample)}
    with effect(lease) as conn:
        outbox.set_outcome(conn, lease.job_id, lease.fence, json.dumps(outcome))


@actor(FlipModel)
def flip_model(job: FlipModel, lease: Lease) -> None:
    """Switch the live model; in the same transaction, request what came in since the backfill.

    A model that nobody can load, or that has no vector yet, would leave search without hits.
    """
    providers.embedder_for(job.model)
    with effect(lease) as conn:
        before, late = live_model(conn), _missing(conn, job.model)
        if late and not embedding_models.select_sample(conn, job.model, limit=1, chars=1):
            raise StepFailed(
                f"No chunk has a vector of {job.model}: run the workflow reindex-model."
            )
        embedding_models.flip(conn, job.model)
        _ask(conn, lease, late)
        outcome = json.dumps({"before": before, "after": job.model, "late": len(late)})
        outbox.set_outcome(conn, lease.job_id, lease.fence, outcome)


@actor(FollowModel)
def follow_model(job: FollowModel, lease: Lease) -> None:
    """Copy one batch of vectors; the next batch is a job of its own."""
    with effect(lease) as conn:
        carried = embedding_models.follow(conn, job.model, limit=FOLLOW_MAX)
        if carried == FOLLOW_MAX:
            again = FollowModel(model=job.model, batch=job.batch + 1)
            publish(conn, again, key=f"{lease.job_id}/{again.batch}")
        outbox.set_outcome(conn, lease.job_id, lease.fence, json.dumps({"carried": carried}))


def _missing(conn: Connection, model: str) -> list[EmbedChunks]:
    missing = embeddings.select_missing(conn, model, limit=MISSING_MAX)
    jobs = []
    for document_id, group in groupby(missing, key=lambda pair: pair[0]):
        ids = [chunk_id for _, chunk_id in group]
        jobs += [
            EmbedChunks(document_id=document_id, chunk_ids=ids[at : at + 64], model=model)
            for at in range(0, len(ids), 64)
        ]
    return jobs


def _ask(conn: Connection, lease: Lease, jobs: Sequence[EmbedChunks]) -> None:
    # Keys of this job's own: what was requested before and is still missing is requested again.
    publish_many(conn, jobs, keys=[f"{lease.job_id}/{number}" for number in range(len(jobs))])


def _retrieved(
    tenant_id: TenantId, model: str, sample: Sequence[tuple[ChunkId, str]]
) -> tuple[float, float]:
    """Search by the chunks' own words. Returns the share found, and recall against exact search."""
    embedder = providers.embedder_for(model)
    vectors = [embedder.embed_query(text) for _, text in sample]
    near, exact = [], []
    with db.transaction(tenant_id) as conn:
        for vector in vectors:
            bits = quantization.bits(vector[None])[0]
            asked = SearchQuestion(words=[], language="en", model=model, vector=vector, bits=bits)
            hits = retrieval.select_nearest(
                conn, tenant_id, asked, scanned=SCANNED, hits_max=NEIGHBOURS
            )
            near.append([one.chunk_id for one in hits])
            exact.append(embedding_models.select_nearest(conn, model, vector, limit=NEIGHBOURS))
    found = [float(chunk_id in hits) for (chunk_id, _), hits in zip(sample, near, strict=True)]
    recalls = [embedding.recall(*pair) for pair in zip(near, exact, strict=True)]
    return embedding.mean(found), embedding.mean(recalls)


def _by_model(jobs: Sequence[tuple[Job, Lease]]) -> list[tuple[str, list[tuple[Job, Lease]]]]:
    models = dict.fromkeys(job.model for job, _ in jobs)
    return [(model, [pair for pair in jobs if pair[0].model == model]) for model in models]


def _tenant(leases: Sequence[Lease]) -> TenantId:
    return leases[0].tenant_id  # a batch is of one tenant


def _vectors(
    model: str, texts: Sequence[embeddings.TextToEmbed]
) -> tuple[embeddings.Vectors | None, ProviderRefused | None]:
    """The vectors of texts, and what names those that the provider rejects."""
    if not texts:
        return None, None
    counts = [text.token_count for text in texts]
    try:
        answer = providers.embedder_for(model).embed(
            [text.content for text in texts],
            None if None in counts else [count for count in counts if count is not None],
        )
    except TextRefused as error:
        refused = [texts[position].name for position in sorted(error.refused)]
        kept = [at for at in range(len(texts)) if at not in error.refused]
        log.warning("texts.rejected", model=model, texts=refused[:NAMED_MAX], embedded=len(kept))
        rows = None if error.rows is None else error.rows[kept]
        accepted = _checked(model, [texts[at] for at in kept], rows)
        return accepted, _named(refused, len(texts), next(iter(error.refused.values()), str(error)))
    return _checked(model, texts, answer), None


def _checked(
    model: str, texts: Sequence[embeddings.TextToEmbed], answer: NDArray[np.float32] | None
) -> embeddings.Vectors | None:
    if answer is None or not texts:
        return None
    rows = embedding.checked(answer, count=len(texts))
    return embeddings.Vectors(
        model=model, ids=[text.id for text in texts], rows=rows, bits=quantization.bits(rows)
    )


def _named(refused: Sequence[str], count: int, why: str) -> ProviderRefused:
    which = "; ".join(refused[:NAMED_MAX])
    more = f" and {len(refused) - NAMED_MAX} more" if len(refused) > NAMED_MAX else ""
    rest = "; the others have their vectors" if len(refused) < count else ""
    return ProviderRefused(
        f"The provider rejected {len(refused)} of {count} texts: {which}{more}{rest}. {why}"
    )
