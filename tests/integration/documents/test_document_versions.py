"""The same document again: what changed is work, what did not is none, and the last one stays."""

import pytest

from producers.documents.submission import submit_document
from shared import db
from shared.errors import DocumentRefused
from tests.support.factories import claim, do, do_all, job, make_tenant, rows, submit, waiting
from tests.support.sample_documents import (
    TABLES,
    article,
    chunks_of,
    content_of,
    counts,
    delete,
    ingested,
)
from workers.process import settlement

pytestmark = pytest.mark.usefixtures("pool", "provider")


def test_the_same_content_again_is_no_work():
    tenant = make_tenant()
    document_id = ingested(tenant, article(1, 2), source="coast.md")

    again = submit(tenant, article(1, 2), source="coast.md")

    assert (again.state, again.document_id, again.job_id) == ("UNCHANGED", document_id, None)
    assert again.chunks == counts()["DocumentChunk"]
    assert waiting() == []
    assert counts()["Upload"] == 0


def test_the_same_content_on_its_way_twice_is_one_job():
    tenant = make_tenant()

    first, second = (submit(tenant, article(1), source="coast.md") for _ in range(2))

    assert first.job_id == second.job_id
    assert counts()["Upload"] == 1


def test_a_document_without_a_source_is_its_content():
    tenant = make_tenant()

    first, second = ingested(tenant, article(1)), ingested(tenant, article(2))
    again = submit(tenant, article(1))

    assert first != second
    assert (again.state, again.document_id) == ("UNCHANGED", first)


def test_a_new_version_embeds_what_is_new_and_drops_what_is_gone(stub):
    tenant = make_tenant()
    document_id = ingested(tenant, article(*range(20)), source="coast.md")
    before = {text for text, _, _ in chunks_of(document_id)}
    asked = stub.seen.inputs

    same_id = ingested(tenant, article(*range(9), 900, *range(10, 20)), source="coast.md")

    after = {text for text, _, _ in chunks_of(document_id)}
    assert same_id == document_id
    assert after - before == set(stub.seen.bodies[-1]["input"])
    assert stub.seen.inputs - asked == len(after - before) <= 3
    content = content_of(document_id)
    assert all(content[start:end] == text for text, start, end in chunks_of(document_id))
    assert len({counts()[table] for table in TABLES if "Chunk" in table}) == 1


def test_a_document_that_returns_to_an_old_version_ends_on_it():
    tenant = make_tenant()
    first, second = article(1, 2), article(1, 3)

    for version in (first, second, first):
        document_id = ingested(tenant, version, source="coast.md")

    assert content_of(document_id) == first.rstrip()
    assert counts()["Document"] == 1


def test_a_document_that_was_deleted_can_come_back():
    tenant = make_tenant()
    gone = ingested(tenant, article(1, 2), source="coast.md")
    delete(tenant, gone)

    again = submit(tenant, article(1, 2), source="coast.md")
    do_all()

    assert again.state == "PUBLISHED"
    assert [row[0] for row in rows('SELECT "source" FROM "Document"')] == ["coast.md"]


def test_a_document_whose_job_died_is_tried_again_when_it_is_submitted_again():
    tenant = make_tenant()
    died = submit(tenant, article(1), source="coast.md")
    [lease] = claim(died.job_id)
    settlement.settle(lease, DocumentRefused("no_text", "It was read by an older parser."))

    again = submit(tenant, article(1), source="coast.md")
    do_all()

    assert (job(died.job_id)["state"], job(again.job_id)["state"]) == ("DEAD", "COMPLETED")
    assert counts()["Document"] == 1


def test_of_two_versions_the_one_submitted_later_stays():
    tenant = make_tenant()
    older = submit(tenant, article(1), source="coast.md")
    newer = submit(tenant, article(2), source="coast.md")
    first, second = claim(newer.job_id, older.job_id)

    do(first)
    do(second)

    assert job(older.job_id)["outcome"]["status"] == "SUPERSEDED"
    assert job(older.job_id)["state"] == "COMPLETED"
    assert content_of(job(newer.job_id)["outcome"]["documentId"]) == article(2).rstrip()
    assert counts()["Upload"] == 0


def test_equal_text_elsewhere_gives_its_vectors(stub):
    tenant = make_tenant()
    ingested(tenant, article(1, 2, 3), source="coast.md")
    asked = stub.seen.inputs

    copy = ingested(tenant, article(1, 2, 3), source="copy.md")

    assert stub.seen.inputs == asked
    found = rows(
        """SELECT count(v.*), count(e.*) FROM "DocumentChunk" c
           LEFT JOIN "ChunkVector" v ON v."chunkId" = c."id"
           LEFT JOIN "ChunkEmbedding" e ON e."chunkId" = c."id" WHERE c."documentId" = %s""",
        copy,
    )
    assert found == [(len(chunks_of(copy)), len(chunks_of(copy)))]


def test_another_tenants_equal_text_gives_nothing(stub):
    ingested(make_tenant(), article(1, 2))
    asked = stub.seen.inputs

    ingested(make_tenant(), article(1, 2))

    assert stub.seen.inputs == 2 * asked


def test_a_chunk_below_a_renamed_heading_is_found_by_its_new_name():
    tenant = make_tenant()
    ingested(tenant, article(*range(6), heading="Lighthouses"), source="coast.md")

    ingested(tenant, article(*range(6), heading="Submarines"), source="coast.md")

    found = """SELECT count(*) FROM "ChunkText"
               WHERE "tsv" @@ to_tsquery('english', %s)"""
    assert rows(found, "submarines") == [(counts()["DocumentChunk"],)]
    assert rows(found, "lighthouses") == [(0,)]


def test_going_back_to_the_first_version_while_the_second_is_on_its_way_ends_on_the_first():
    tenant = make_tenant()

    for part in (1, 2, 1):
        submit(tenant, article(part), source="coast.md")
    do_all()

    [(content,)] = rows('SELECT "content" FROM "Document"')
    assert content == article(1).strip()


def test_the_live_version_is_no_answer_while_another_is_on_its_way():
    tenant = make_tenant()
    ingested(tenant, article(1), source="coast.md")
    submit(tenant, article(2), source="coast.md")

    back = submit(tenant, article(1), source="coast.md")
    do_all()

    assert back.state == "PUBLISHED"
    [(content,)] = rows('SELECT "content" FROM "Document"')
    assert content == article(1).strip()


def test_of_two_versions_in_one_transaction_the_one_published_later_stays():
    tenant = make_tenant()
    with db.transaction(tenant) as conn:
        first = submit_document(conn, article(1), source="coast.md")
        second = submit_document(conn, article(2), source="coast.md")

    for one in (second, first):
        [lease] = claim(one.job_id)
        do(lease)

    [(content,)] = rows('SELECT "content" FROM "Document"')
    assert content == article(2).strip()
    assert job(first.job_id)["outcome"]["status"] == "SUPERSEDED"
