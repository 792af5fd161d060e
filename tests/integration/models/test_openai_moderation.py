"""Moderation over HTTP, from a server that is scripted to be right, wrong or busy."""

import json

import pytest

from shared.errors import (
    ProviderContractBroken,
    ProviderRateLimited,
    ProviderRefused,
    ProviderUnavailable,
    QuotaExhausted,
)
from shared.models import providers
from shared.models.providers.batching import TextRefused
from shared.models.providers.openai_moderation import INPUTS_MAX, WINDOW_CHARS, OpenAIModerator
from shared.models.rate_limits import ProviderBucket
from shared.settings import read
from tests.support.factories import environment
from tests.support.stub_openai import REFUSED_TEXT, VIOLENT_TEXT, Fault

MODEL = "omni-moderation-latest"
KEY = "sk-canary-of-the-key"
CLEAN = {"harassment": 0.001, "violence": 0.002}
VIOLENT = {"harassment": 0.001, "violence": 0.97}


@pytest.fixture
def moderator(stub):
    settings = read({"OPENAI_BASE_URL": stub.url, "OPENAI_API_KEY": KEY})
    bucket = ProviderBucket(None, "k", tokens_per_minute=1e12, requests_per_minute=1e9)
    moderator = OpenAIModerator(MODEL, settings, bucket)
    yield moderator
    moderator.close()


def test_scores_come_back_in_the_order_of_the_texts(stub, moderator):
    texts = [VIOLENT_TEXT if number % 7 == 0 else f"metin {number} ğüş" for number in range(70)]

    scores = moderator.scores(texts)

    assert scores == [VIOLENT if number % 7 == 0 else CLEAN for number in range(70)]
    assert (stub.seen.requests, stub.seen.inputs_max) == (3, INPUTS_MAX)
    assert stub.seen.bodies[0] == {"model": MODEL, "input": texts[:INPUTS_MAX]}


def test_the_worst_window_of_a_long_text_decides(stub, moderator):
    text = "harmless " * 5_000 + VIOLENT_TEXT + " harmless" * 5_000

    scores = moderator.scores([text, "short"])

    assert scores == [VIOLENT, CLEAN]
    sent = [part for body in stub.seen.bodies for part in body["input"]]
    assert max(map(len, sent)) == WINDOW_CHARS
    assert sum(map(len, sent)) >= len(text)


def test_an_empty_text_is_not_sent(stub, moderator):
    assert moderator.scores(["", " \n", "\0"]) == [{}, {}, {}]
    assert stub.seen.requests == 0


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(status=400), ProviderRefused),
        (Fault(status=401), QuotaExhausted),
        (Fault(status=429, headers={"Retry-After": "7"}), ProviderRateLimited),
        (Fault(status=503), ProviderUnavailable),
        (Fault(how="reset"), ProviderUnavailable),
        (Fault(how="gzip_bomb"), ProviderContractBroken),
    ],
)
def test_an_error_says_who_must_act_and_repeats_no_text(stub, moderator, fault, error):
    stub.faults.append(fault)

    with pytest.raises(error) as raised:
        moderator.scores(["canary of the text"])

    assert KEY not in str(raised.value)
    assert "canary" not in str(raised.value)


def test_a_refused_text_is_named_and_a_server_that_takes_fewer_gets_fewer(stub, moderator):
    stub.rule = lambda request: 413 if len(request["input"]) > 4 else None
    texts = [f"text {number}" for number in range(20)]

    assert len(moderator.scores([*texts[:12], VIOLENT_TEXT])) == 13
    with pytest.raises(TextRefused, match=r"Text 8 of 20: .*400") as refused:
        moderator.scores([*texts[:7], REFUSED_TEXT, *texts[8:]])

    assert list(refused.value.refused) == [7]


def test_a_refused_text_is_the_texts_own_fault(moderator):
    with pytest.raises(ProviderRefused):
        moderator.scores([f"a {REFUSED_TEXT}"])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"results": 7}',
        b'{"results": [{}]}',
        b'{"results": [{"category_scores": {}}]}',
        b'{"results": [{"category_scores": {"violence": 1.5}}]}',
        b'{"results": [{"category_scores": {"violence": NaN}}]}',
        b'{"results": [{"category_scores": {"violence": true}}]}',
        b'{"results": [{"category_scores": {"violence": "0.5"}}]}',
        json.dumps({"results": [{"category_scores": VIOLENT}] * 2}).encode(),
        b'{"results": ' + b"[" * 100_000,
    ],
)
def test_an_answer_that_is_none_is_not_believed(stub, moderator, body):
    stub.faults.append(Fault(body=body))

    with pytest.raises(ProviderContractBroken):
        moderator.scores(["a"])


def test_a_key_chooses_the_moderator_and_one_process_has_one(stub):
    with environment(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=stub.url):
        chosen = providers.moderator()

        assert chosen is providers.moderator()
        assert chosen
        assert (chosen.model, chosen.scores(["a"])) == (MODEL, [CLEAN])


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"},
        {"OPENAI_API_KEY": KEY, "AILYDIAN_OPENAI_MODERATION_MODEL": "none"},
    ],
)
def test_without_a_key_or_a_model_the_local_rules_judge_alone(variables):
    with environment(**variables):
        assert providers.moderator() is None
