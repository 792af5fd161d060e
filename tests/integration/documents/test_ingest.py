"""Bytes in, a document with its chunks and vectors out: the actors on a real Postgres."""

import threading

import psycopg
import pytest

from shared.contracts import EmbedChunks, IngestDocument
from shared.errors import DocumentNotFound, DocumentRefused, LeaseLost, ProviderUnavailable
from tests.support.factories import (
    claim,
    do,
    do_all,
    job,
    make_tenant,
    publish_jobs,
    read_job,
    rows,
    submit,
    waiting,
)
from tests.support.patience import patience
from tests.support.sample_documents import (
    MODEL,
    TABLES,
    article,
    chunks_of,
    content_of,
    counts,
    delete,
    ingested,
)
from tests.support.stub_openai import Fault
from workers.actors import embedding, ingest

pytestmark = pytest.mark.usefixtures("pool", "provider")


# ---- what is stored


def test_every_chunk_is_the_text_between_its_offsets():
    tenant = make_tenant()

    document_id = ingested(tenant, article(*range(12)), source="coast.md")

    content, chunks = content_of(document_id), chunks_of(document_id)
    assert len(chunks) >= 12
    assert [content[start:end] for _, start, end in chunks] == [text for text, _, _ in chunks]


def test_every_chunk_has_one_vector_for_each_reader_and_its_words():
    tenant = make_tenant()

    ingested(tenant, article(*range(12)))

    found = counts()
    assert found["DocumentChunk"] >= 12
    assert len({found[t] for t in TABLES if "Chunk" in t}) == 1
    assert rows('SELECT DISTINCT "model", "tenantId" FROM "ChunkVector"') == [(MODEL, tenant)]
    assert rows('SELECT DISTINCT "model", "tenantId" FROM "ChunkEmbedding"') == [(MODEL, tenant)]
    assert rows('SELECT DISTINCT "language" FROM "ChunkText"') == [("en",)]


def test_the_upload_is_gone_once_its_document_is_there():
    tenant = make_tenant()
    submit(tenant, article(1))

    before = counts()["Upload"]
    do_all()

    assert (before, counts()["Upload"]) == (1, 0)


def test_title_language_and_kind_are_the_documents_own():
    tenant = make_tenant()
    turkish = "# Işık ve İklim\n\nİstanbul'un ışıkları bu akşam ılık bir yağmurun altında parlıyor."

    found = ingested(tenant, turkish, source="iklim.md")
    named = ingested(tenant, article(1), title="A title of its own")

    read = 'SELECT "title", "language", "kind" FROM "Document" WHERE "id" = %s'
    assert rows(read, found) == [("Işık ve İklim", "tr", "md")]
    assert rows(read, named)[0][:2] == ("A title of its own", "en")


def test_turkish_letters_come_back_as_they_went_in():
    tenant = make_tenant()
    text = "IĞDIR'DAN İZMİR'E: ılık, ığıl ığıl, çığ gibi. Şişli'de Ömer üşüdü; 👩‍🚀 değil mi?"

    document_id = ingested(tenant, text)

    content = content_of(document_id)
    assert content == text
    assert [content[start:end] for _, start, end in chunks_of(document_id)] == [text]
    found = """SELECT count(*) FROM "ChunkText" WHERE
               tsvector_to_array("tsv") @> tsvector_to_array(ailydian_lexemes('tr', %s))"""
    assert [rows(found, word) for word in ("ığdır'dan", "izmir'e", "igdir")] == [
        [(1,)], [(1,)], [(0,)]
    ]  # fmt: skip


# ---- delivered again


def test_a_second_delivery_of_an_ingest_writes_nothing():
    tenant = make_tenant()
    submitted = submit(tenant, article(1, 2))
    [lease] = claim(submitted.job_id)
    do(lease)
    before = counts()

    with pytest.raises(DocumentNotFound):  # its upload went with the first delivery
        do(lease)

    assert counts() == before
    assert len(waiting("embed_chunks")) == 1


def test_an_ingest_whose_lease_was_lost_meanwhile_writes_nothing():
    tenant = make_tenant()
    submitted = submit(tenant, article(1, 2))
    [lease] = claim(submitted.job_id)
    lease.fence -= 1

    with pytest.raises(LeaseLost):
        do(lease)

    assert counts() == dict.fromkeys(TABLES, 0) | {"Upload": 1}


def test_a_second_delivery_of_an_embedding_writes_nothing(stub):
    tenant = make_tenant()
    [ingest] = claim(submit(tenant, article(1, 2)).job_id)
    do(ingest)
    [lease] = claim(*waiting("embed_chunks"))
    do(lease)
    before, asked = counts(), stub.seen.requests

    with pytest.raises(LeaseLost):
        do(lease)

    assert counts() == before
    assert stub.seen.requests == asked


# ---- refusals and deletions


@pytest.mark.parametrize(
    "content",
    [b"", b"   \n\t ", b"\x00\x01\x02\xff\xfe\x80" * 200, b"PK\x03\x04 not an archive"],
    ids=["empty", "blank", "garbage", "broken archive"],
)
def test_a_refused_document_is_not_half_in(content):
    tenant = make_tenant()
    [lease] = claim(submit(tenant, content, source="thing.bin").job_id)

    with pytest.raises(DocumentRefused) as refused:
        do(lease)

    assert refused.value.reason
    # The bytes stay: an operator who requeues the dead letter needs them.
    assert counts() == dict.fromkeys(TABLES, 0) | {"Upload": 1}


def test_one_large_document_is_in_memory_at_a_time():
    tenant = make_tenant()
    large, small = (
        claim(submit(tenant, content, source=source).job_id)[0]
        for content, source in ((b"a" * (ingest.LARGE_BYTES + 1), "a"), (article(1), "b"))
    )
    refused = []

    def work():
        with pytest.raises(DocumentRefused) as error:
            do(large)
        refused.append(error.value.reason)

    thread = threading.Thread(target=work)
    with ingest._large:
        thread.start()
        do(small)
        assert refused == []
        assert thread.is_alive()
    thread.join(patience(20))
    assert refused == ["too_large"]


def test_a_refused_version_leaves_the_one_before_as_it_was():
    tenant = make_tenant()
    document_id = ingested(tenant, article(1, 2), source="coast.md")
    before = chunks_of(document_id)

    [lease] = claim(submit(tenant, b"\x00\xff" * 300, source="coast.md").job_id)
    with pytest.raises(DocumentRefused):
        do(lease)

    assert chunks_of(document_id) == before


def test_deleting_a_document_takes_all_that_was_made_of_it():
    tenant = make_tenant()
    gone = ingested(tenant, article(1, 2), source="gone.md")
    kept = ingested(tenant, article(3, 4), source="kept.md")

    delete(tenant, gone)

    for table in ("DocumentChunk", "ChunkVector", "ChunkText"):
        assert rows(f'SELECT DISTINCT "documentId" FROM "{table}"') == [(kept,)]
    assert counts()["ChunkEmbedding"] == len(chunks_of(kept))


def test_deleting_what_is_gone_says_so():
    tenant = make_tenant()

    outcome = delete(tenant, "no-such-document")

    assert outcome["status"] == "ABSENT"


# ---- the provider


def test_a_provider_that_fails_is_asked_again_for_what_is_missing(stub):
    tenant = make_tenant()
    [ingest] = claim(submit(tenant, article(1, 2)).job_id)
    do(ingest)
    [lease] = claim(*waiting("embed_chunks"))
    stub.faults.append(Fault(status=503))

    with pytest.raises(ProviderUnavailable):
        do(lease)
    without = counts()
    do(lease)

    assert without["DocumentChunk"] > 0
    assert without["ChunkVector"] == without["ChunkEmbedding"] == 0
    assert counts()["ChunkVector"] == counts()["ChunkEmbedding"] == without["DocumentChunk"]


def test_jobs_of_several_documents_are_one_request(stub):
    tenant = make_tenant()
    for lease in claim(*(submit(tenant, article(n, n + 1)).job_id for n in (10, 20, 30))):
        do(lease)
    leases = claim(*waiting("embed_chunks"))

    embedding.embed_chunks([(read_job(lease), lease) for lease in leases])

    assert len(leases) == 3
    assert stub.seen.requests == 1
    assert {job(lease.job_id)["state"] for lease in leases} == {"COMPLETED"}
    assert counts()["ChunkVector"] == counts()["DocumentChunk"] == stub.seen.inputs


def test_a_large_document_is_embedded_in_jobs_of_sixty_four_chunks(stub):
    tenant = make_tenant()
    [lease] = claim(submit(tenant, article(*range(130))).job_id)

    do(lease)

    sizes = [len(job(one)["payload"]["chunk_ids"]) for one in waiting("embed_chunks")]
    assert sum(sizes) == counts()["DocumentChunk"] >= 130
    assert max(sizes) == 64


def test_a_chunk_deleted_while_the_provider_thinks_is_left_out(stub, database_url):
    tenant = make_tenant()
    [ingest] = claim(submit(tenant, article(1, 2, 3)).job_id)
    do(ingest)
    [lease] = claim(*waiting("embed_chunks"))

    def delete_one(answer):
        with psycopg.connect(database_url, autocommit=True) as conn:
            conn.execute('DELETE FROM "DocumentChunk" WHERE "chunkIndex" = 1')
        return answer

    stub.faults.append(Fault(edit=delete_one))
    do(lease)

    assert job(lease.job_id)["state"] == "COMPLETED"
    left = rows('SELECT "id" FROM "DocumentChunk" ORDER BY 1')
    assert rows('SELECT "chunkId" FROM "ChunkVector" ORDER BY 1') == left
    assert len(left) == stub.seen.inputs - 1


# ---- tenants


def test_another_tenants_upload_is_not_found():
    owner, other = make_tenant(), make_tenant()
    upload_id = job(submit(owner, article(1)).job_id)["payload"]["upload_id"]
    [job_id] = publish_jobs(other, [IngestDocument(content_sha256="0" * 64, upload_id=upload_id)])

    with pytest.raises(DocumentNotFound):
        do(claim(job_id)[0])

    assert counts() == dict.fromkeys(TABLES, 0) | {"Upload": 1}


def test_another_tenants_document_is_neither_read_nor_deleted():
    owner, other = make_tenant(), make_tenant()
    document_id = ingested(owner, article(1, 2))
    before = counts()
    [job_id] = publish_jobs(
        other, [IngestDocument(content_sha256="0" * 64, document_id=document_id)]
    )

    with pytest.raises(DocumentNotFound):
        do(claim(job_id)[0])

    assert delete(other, document_id)["status"] == "ABSENT"
    assert counts() == before


def test_another_tenants_chunks_are_not_embedded(stub):
    owner, other = make_tenant(), make_tenant()
    [ingest] = claim(submit(owner, article(1, 2)).job_id)
    do(ingest)
    ids = [row[0] for row in rows('SELECT "id" FROM "DocumentChunk"')]
    [job_id] = publish_jobs(other, [EmbedChunks(document_id="d", chunk_ids=ids, model=MODEL)])

    do(claim(job_id)[0])

    assert stub.seen.inputs == 0
    assert counts()["ChunkVector"] == 0
