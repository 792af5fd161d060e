"""Chunks that an embedding server rejects: named with their document, and the only ones without."""

import pytest

from shared.errors import ProviderRefused
from shared.ids import DocumentId
from tests.support.factories import claim, do, job, make_tenant, rows, submit, waiting
from tests.support.sample_documents import article, paragraph, stubbed
from tests.support.stub_openai import REFUSED_TEXT
from workers.process import settlement

EMBEDDED = 'SELECT count(*) FROM "ChunkVector" v JOIN "DocumentChunk" c ON c."id" = v."chunkId"'


@pytest.fixture
def provider():
    with stubbed() as running:
        yield running


def ingested(tenant, text):
    """Ingest a document, but for its vectors. Returns its id and the jobs that embed it."""
    submitted = submit(tenant, text, source="coast.md")
    do(*claim(submitted.job_id))
    return DocumentId(job(submitted.job_id)["outcome"]["documentId"]), waiting("embed_chunks")


def test_one_rejected_chunk_is_named_and_the_others_have_their_vectors(pool, provider):
    text = article(*range(70)).replace(paragraph(13), f"{paragraph(13)} {REFUSED_TEXT}")
    document_id, jobs = ingested(make_tenant(), text)
    [(bad, number)] = rows(
        'SELECT "id", "chunkIndex" FROM "DocumentChunk" WHERE "content" LIKE %s',
        f"%{REFUSED_TEXT}%",
    )
    name = f"chunk {number} of document {document_id}; the others have their vectors"
    leases = claim(*jobs)

    failed = []
    for lease in leases:
        try:
            do(lease)
        except ProviderRefused as error:
            failed.append((lease, error))

    [(lease, error)] = failed
    assert f"The provider rejected 1 of 64 texts: {name}" in str(error)
    [(chunks,)] = rows('SELECT count(*) FROM "DocumentChunk"')
    assert rows(EMBEDDED) == [(chunks - 1,)]
    assert rows(f'{EMBEDDED} WHERE c."id" = %s', bad) == [(0,)]

    settlement.settle(lease, error)

    [(reason, told)] = rows('SELECT "reason", "error" FROM "DeadLetter"')
    assert (reason, name in told) == ("permanent", True)


def test_a_small_server_costs_no_vector(pool, provider):
    provider.rule = lambda request: 413 if len(request["input"]) > 32 else None
    _, jobs = ingested(make_tenant(), article(*range(98)))

    for lease in claim(*jobs):
        do(lease)

    [(chunks,)] = rows('SELECT count(*) FROM "DocumentChunk"')
    assert chunks > 64
    assert rows(EMBEDDED) == [(chunks,)]
