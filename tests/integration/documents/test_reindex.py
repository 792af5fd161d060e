"""A change of the embedding model, actor by actor: nothing is lost, and a bad model is refused."""

import pytest

from shared import db
from shared.contracts import EmbedChunks, FlipModel, FollowModel, PlanReindex, VerifyReindex
from shared.documents.search import search
from shared.errors import StepFailed, VectorsMissing
from shared.models.embedding_model import live_model
from tests.support.factories import claim, do, do_all, job, make_tenant, publish_jobs, rows
from tests.support.sample_documents import MODEL, article, ingested, paragraph
from workers.domain.documents import embedding

pytestmark = pytest.mark.usefixtures("pool", "provider")


@pytest.fixture
def tenant(tenant, provider):
    ingested(tenant, article(*range(12)))
    return tenant


NEW = "text-embedding-3-large"


def done(tenant, contract):
    """The outcome of one job."""
    (lease,) = claim(*publish_jobs(tenant, [contract]))
    do(lease)
    return job(lease.job_id)["outcome"]


def backfill(tenant, model=NEW):
    batches = done(tenant, PlanReindex(model=model))["batches"]
    publish_jobs(tenant, [EmbedChunks(**one) for one in batches])
    do_all()


def vectors(model):
    return rows('SELECT count(*) FROM "ChunkVector" WHERE "model" = %s', model)[0][0]


def live(tenant):
    with db.transaction(tenant) as conn:
        return live_model(conn)


def test_search_reads_the_new_model_from_the_flip_on(tenant, stub):
    backfill(tenant)
    assert (live(tenant), vectors(MODEL)) == (MODEL, vectors(NEW))

    flipped = done(tenant, FlipModel(model=NEW))
    stub.seen.bodies.clear()
    hits = search(tenant, paragraph(3), k=1, mode="vector")

    assert (flipped["before"], flipped["late"], live(tenant)) == (MODEL, 0, NEW)
    assert hits[0].content == paragraph(3)
    assert NEW in str(stub.seen.bodies[-1])


def test_what_comes_in_during_the_backfill_is_embedded_before_the_flip(tenant):
    backfill(tenant)
    ingested(tenant, article(*range(20, 25)))
    assert vectors(NEW) < vectors(MODEL)
    (lease,) = claim(*publish_jobs(tenant, [VerifyReindex(model=NEW, against=MODEL)]))

    for _ in range(2):
        with pytest.raises(VectorsMissing):
            do(lease)
    asked = rows(
        'SELECT count(*) FROM "Job" WHERE "job" = \'embed_chunks\' AND "state" = \'PENDING\''
    )
    do_all()
    do(lease)

    assert asked == [(1,)]
    assert vectors(NEW) == vectors(MODEL)
    assert job(lease.job_id)["outcome"]["found"] == 1.0


def test_a_model_whose_vectors_say_nothing_is_refused(tenant):
    backfill(tenant)
    with db.transaction(tenant) as conn:
        conn.execute(
            """UPDATE "ChunkVector" SET "bits" = v."bits", "embedding" = v."embedding"
               FROM (SELECT * FROM "ChunkVector" WHERE "model" = %(new)s LIMIT 1) v
               WHERE "ChunkVector"."model" = %(new)s""",
            {"new": NEW},
        )
    ids = publish_jobs(tenant, [VerifyReindex(model=NEW, against=MODEL, recall_min=0.0)])

    with pytest.raises(StepFailed, match=r"are found \(live model: 100%\)"):
        do(claim(*ids)[0])


def test_a_verified_model_tells_what_it_found(tenant):
    backfill(tenant)

    outcome = done(tenant, VerifyReindex(model=NEW, against=MODEL))

    assert outcome == {"recall": 1.0, "found": 1.0, "foundBefore": 1.0, "sampled": vectors(NEW)}


def test_the_platforms_vectors_follow(tenant):
    backfill(tenant)
    done(tenant, FlipModel(model=NEW))

    carried = done(tenant, FollowModel(model=NEW))["carried"]

    assert rows('SELECT "model", count(*) FROM "ChunkEmbedding" GROUP BY 1') == [(NEW, carried)]
    assert carried == vectors(NEW)


def test_one_tenants_flip_is_no_others(tenant):
    other = make_tenant()
    backfill(tenant)

    done(tenant, FlipModel(model=NEW))

    assert (live(tenant), live(other)) == (NEW, MODEL)


@pytest.mark.parametrize("model", [NEW, "nobodys-model"])
def test_a_model_without_vectors_never_goes_live(tenant, model):
    with pytest.raises(StepFailed, match=model):
        do(claim(*publish_jobs(tenant, [FlipModel(model=model)]))[0])

    assert live(tenant) == MODEL


@pytest.mark.parametrize(
    ("found", "wanted", "recall", "count"),
    [(1.0, 1.0, 1.0, 0), (0.9, 1.0, 0.95, 0), (0.8, 1.0, 1.0, 1), (0.8, 0.5, 0.9, 1), (0, 1, 0, 2)],
)
def test_a_model_may_lose_a_little_and_no_more(found, wanted, recall, count):
    reasons = embedding.faults(found, wanted, recall, loss_max=0.1, recall_min=0.95)

    assert len(reasons) == count
