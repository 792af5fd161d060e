"""The cache of several processes: what Redis saves, what it cannot break, and one call for many."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.errors import ProviderUnavailable
from shared.ledger import wakeups as wire
from tests.support.cached_questions import ASKED, MODEL, REWORDED, Model, ask, look_up
from tests.support.factories import make_tenant, rows
from tests.support.patience import patience
from workers.cache import semantic_cache, single_flight
from workers.cache.semantic_cache import CachedAnswer, answered


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


# ---- Redis


def test_redis_saves_the_search_for_what_is_near_and_nothing_else(acme, redis, monkeypatch):
    answered(ask(acme), Model())
    assert look_up(ask(acme, REWORDED)).level == "near"
    monkeypatch.setattr(semantic_cache, "THRESHOLDS", {})

    assert look_up(ask(acme, REWORDED)).level == "near"
    assert (
        redis.get(redis.keys("*cache:entry*")[0]).decode()
        == rows('SELECT "id" FROM "SemanticCache"')[0][0]
    )


def test_what_redis_holds_can_serve_no_answer_to_another_question(acme, redis):
    answered(ask(acme, "What is the secret of Bob?"), Model("secret"))
    answered(ask(acme), Model())
    look_up(ask(acme, REWORDED))
    secret = rows("""SELECT "id" FROM "SemanticCache" WHERE "response" = 'secret'""")[0][0]
    (key,) = redis.keys("*cache:entry*")

    for value in (secret, b"\xff\xfe", "no such entry", ""):
        redis.set(key, value)
        assert look_up(ask(acme, REWORDED)).question == ASKED


def test_an_entry_that_redis_names_and_the_guard_refuses_counts_no_hit(acme, redis):
    answered(ask(acme), Model())
    look_up(ask(acme, REWORDED))
    (key,) = redis.keys("*cache:entry*")
    rows(
        """INSERT INTO "SemanticCache" ("id", "tenantId", "queryHash", "queryEmbedding",
               "question", "response", "modelId", "scope", "guard", "expiresAt")
           SELECT 'forged', "tenantId", 'another', "queryEmbedding", 'What is the secret of Bob?',
               'secret', "modelId", "scope", "guard", "expiresAt"
           FROM "SemanticCache" RETURNING 1"""
    )
    before = hits()

    redis.set(key, "forged")
    found = look_up(ask(acme, REWORDED))

    assert found.question == ASKED
    assert hits() == {"forged": 0, found.answer.text: before[found.answer.text] + 1}


def hits():
    """How often each entry was served: by its answer, the forged one by its id."""
    return dict(
        rows(
            """SELECT CASE "id" WHEN 'forged' THEN "id" ELSE "response" END, "hitCount"
               FROM "SemanticCache" """
        )
    )


def test_a_redis_that_is_away_or_wrong_never_breaks_an_answer(acme, redis):
    answered(ask(acme), Model())
    look_up(ask(acme, REWORDED))
    (key,) = redis.keys("*cache:entry*")
    redis.delete(key)
    redis.lpush(key, "a list")
    assert answered(ask(acme, REWORDED), Model()).level == "near"

    semantic_cache.configure(wire.connect("redis://127.0.0.1:1/0", timeout_s=0.2))

    model = Model()
    assert answered(ask(acme, REWORDED), model).level == "near"
    assert answered(ask(acme, "Who is new?"), model).level is None
    assert answered(ask(acme, "Who is new?"), model).level == "exact"
    assert model.calls == 1


# ---- many at once


def at_once(count, tenant_id, model):
    """Ask the same in so many threads while the model thinks; returns what they were told."""
    model.gate.clear()
    with ThreadPoolExecutor(count) as threads:
        told = [threads.submit(answered, ask(tenant_id), model) for _ in range(count)]
        model.gate.set()
        return [each.result(patience(30)) for each in told]


@pytest.mark.parametrize("with_redis", [True, False])
def test_twenty_callers_at_once_make_one_paid_call(acme, request, with_redis):
    if with_redis:
        request.getfixturevalue("redis")
    model = Model()

    told = at_once(20, acme, model)

    assert model.calls == 1
    assert sorted(each.level or "" for each in told) == ["", *["exact"] * 19]
    assert single_flight._here == {}


def lock_key(tenant_id):
    query_hash = semantic_cache.CacheLookup(ask(tenant_id)).key.query_hash
    return single_flight._KEY.format(namespace="ailydian", name=query_hash)


def test_another_process_that_answers_is_waited_for(acme, redis):
    model = Model()
    redis.set(lock_key(acme), "another process")

    with ThreadPoolExecutor(1) as threads:
        told = threads.submit(answered, ask(acme), model)
        tried = redis.info("commandstats")["cmdstat_set"]["calls"]
        while redis.info("commandstats")["cmdstat_set"]["calls"] < tried + 2 and not told.done():
            pass
        semantic_cache.CacheLookup(ask(acme)).keep(CachedAnswer("theirs", MODEL))
        redis.delete(lock_key(acme))

        assert told.result(patience(20)).answer.text == "theirs"
    assert model.calls == 0


def test_who_waits_in_vain_goes_on_alone_and_leaves_the_others_lock(acme, redis, monkeypatch):
    monkeypatch.setattr(semantic_cache, "WAIT_S", 0.1)
    redis.set(lock_key(acme), "another process", px=60_000)

    assert answered(ask(acme), Model()).level is None
    assert redis.get(lock_key(acme)) == b"another process"


def test_who_was_so_slow_that_another_has_the_lock_leaves_it_to_them(acme, redis):
    def slow():
        assert 0 < redis.pttl(lock_key(acme)) <= 1000 * single_flight.LOCK_S
        redis.set(lock_key(acme), "the next process")
        return CachedAnswer("late", MODEL)

    assert answered(ask(acme), slow).answer.text == "late"
    assert redis.get(lock_key(acme)) == b"the next process"


def test_a_call_that_fails_lets_the_next_one_try(acme, redis):
    model = Model()
    model.fails = 1

    with pytest.raises(ProviderUnavailable):
        answered(ask(acme), model)

    assert redis.keys("*cache:lock*") == []
    assert answered(ask(acme), model).level is None
    assert model.calls == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "How long is the train ride from London to Rome?",
            "How long is the train ride from Rome to London?",
        ),
        ("Can the manager dismiss the contractor?", "Can the contractor dismiss the manager?"),
    ],
)
def test_a_key_that_names_the_answer_to_a_turned_question_serves_none(acme, redis, one, other):
    answered(ask(acme, one), Model("an answer to the first"))
    turned = semantic_cache.CacheLookup(ask(acme, other))
    entry_id = rows('SELECT "id" FROM "SemanticCache"')[0][0]
    redis.set(f"ailydian:cache:entry:{turned.key.query_hash}", entry_id)

    assert look_up(ask(acme, other)) is None
    assert answered(ask(acme, other), Model("its own")).answer.text == "its own"
    assert look_up(ask(acme, one)).answer.text == "an answer to the first"
