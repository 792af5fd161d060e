"""Step `complete`: the model chosen, the cache before it, and what every call leaves behind."""

import json

import pytest

from shared.errors import ProviderUnavailable
from tests.support import factories
from tests.support.factories import environment, rows
from tests.support.steps import do_step
from tests.support.stub_site import StubSite, answer

MODEL = "gpt-4.1-mini"
BACKUPS = "Backups of the database are kept for thirty days. They are made every night at two."
ASKED = "How long are backups of the database kept?"


@pytest.fixture
def acme(pool):
    """A tenant with a document, ingested and embedded."""
    tenant = factories.make_tenant("acme")
    factories.submit(tenant, BACKUPS, source="backups.md", title="Backups")
    factories.do_all()
    return tenant


@pytest.fixture
def site():
    """A server, and settings that pay for it."""
    with (
        StubSite() as site,
        environment(
            OPENAI_BASE_URL=f"{site.url}/v1",
            OPENAI_API_KEY="sk-canary",
            AILYDIAN_ALLOW_SPEND="true",
            AILYDIAN_OPENAI_TIMEOUT_S="5",
        ),
    ):
        yield site


def replied(text="Thirty days."):
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    message = {"role": "assistant", "content": text}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return answer(json.dumps({"model": MODEL, "choices": choices, "usage": usage}).encode())


def found(tenant_id):
    return do_step("search", {"query": ASKED, "k": 5, "mode": "text"}, tenant_id)["hits"]


def calls(model=MODEL):
    return rows('SELECT "calls", "successRate" FROM "AIModel" WHERE "slug" = %s', model)[0]


def test_an_answer_is_paid_once_and_then_free(acme, site):
    site.answers.append(replied())

    paid, free = (do_step("complete", {"prompt": ASKED}, acme) for _ in range(2))

    assert (paid["cached"], paid["costUsd"]) == (False, "0.000056")
    assert (free["cached"], free["costUsd"]) == (True, "0")
    same = ("text", "model", "citations", "tokensIn", "tokensOut", "intent", "parameters")
    assert [free[name] for name in same] == [paid[name] for name in same]
    assert site.connections == 1
    assert calls() == (1, 1.0)
    assert rows('SELECT "hitCount", "costUsd" FROM "SemanticCache"')[0][0] == 1


@pytest.mark.parametrize("how", [{"cache": False}, {"temperature": 0.7}])
def test_who_wants_a_new_answer_gets_one(acme, site, how):
    site.answers += [replied("One."), replied("Two.")]

    said = [do_step("complete", {"prompt": "Tell a joke"} | how, acme) for _ in range(2)]

    assert [each["text"] for each in said] == ["One.", "Two."]
    assert [each["cached"] for each in said] == [False, False]
    assert rows('SELECT FROM "SemanticCache"') == []


@pytest.mark.parametrize("other", [{"system": "Be brief."}, {"tokens_max": 9}, {"temperature": 0}])
def test_another_parameter_is_asked_anew(acme, site, other):
    site.answers += [replied("One."), replied("Two.")]
    do_step("complete", {"prompt": ASKED}, acme)

    assert do_step("complete", {"prompt": ASKED} | other, acme)["text"] == "Two."


def test_a_call_that_fails_is_noted_and_kept_by_nobody(acme, site):
    site.answers += [answer(b"{}", status=503), replied()]

    with pytest.raises(ProviderUnavailable):
        do_step("complete", {"prompt": ASKED}, acme)
    failed = calls()
    said = do_step("complete", {"prompt": ASKED}, acme)

    assert failed == (1, 0.0)
    assert (said["cached"], said["text"]) == (False, "Thirty days.")
    assert calls()[0] == 2


def test_a_rewording_gets_the_answer_that_was_cited_from_the_same_passages(acme):
    said = do_step("complete", {"prompt": ASKED, "context": found(acme)}, acme)

    again = do_step(
        "complete",
        {
            "prompt": "Please tell me how long backups of the database are kept",
            "context": found(acme),
        },
        acme,
    )

    assert (said["cached"], again["cached"]) == (False, True)
    assert again["citations"] == said["citations"] != []
    assert calls("local-extractive")[0] == 1


def test_a_document_that_changed_is_read_anew(acme):
    before = do_step("complete", {"prompt": ASKED, "context": found(acme)}, acme)
    changed = BACKUPS.replace("thirty", "ninety")
    factories.submit(acme, changed, source="backups.md", title="Backups")
    factories.do_all()

    after = do_step("complete", {"prompt": ASKED, "context": found(acme)}, acme)

    assert "thirty" in before["text"]
    assert (after["cached"], "ninety" in after["text"]) == (False, True)


def test_an_answer_says_how_long_it_took_and_what_it_was_taken_for(acme):
    said = do_step(
        "complete", {"prompt": ASKED, "context": found(acme), "intent": "question"}, acme
    )

    assert isinstance(said["latencyMs"], int)
    assert said["latencyMs"] >= 0
    assert said["intent"] == "question"
    assert said["parameters"] == {"temperature": None, "tokensMax": 512}


def test_a_search_that_found_nothing_is_said_and_not_kept(acme):
    said = do_step("complete", {"prompt": ASKED, "context": []}, acme)

    assert (said["cached"], said["citations"]) == (False, [])
    assert rows('SELECT FROM "SemanticCache"') == []
