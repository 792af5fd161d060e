"""The step kind `http`: what it sends, what it takes for an output, who must act when it fails."""

import json

import pytest

from shared.egress.fetching import ReplyRefused
from shared.egress.targets import AddressUnreachable
from shared.errors import AddressRefused, PermanentError, TransientError
from shared.ids import StepId
from tests.support.factories import environment
from tests.support.steps import make_step
from tests.support.stub_site import StubSite, answer
from workers.steps.http import AnswerDelayed, AnswerUnexpected
from workers.steps.table import lookup

SECRET = "hunter2-canary"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def site():
    """A site that `http` steps may reach."""
    with StubSite() as site, environment(AILYDIAN_EGRESS_ALLOW=f"127.0.0.1:{site.port}"):
        yield site


def do(site, path="/", **given):
    step = make_step(step_id=StepId("step-7"), attempt=2, traceparent=TRACE)
    return lookup("http")({"url": f"{site.url}{path}"} | given, step)


def test_json_comes_back_as_json_and_text_as_text(site):
    site.answers += [
        answer(b'{"a": [1, 2.5, "\xc5\x9f"]}'),
        answer(b'{"title": "no"}', kind="application/problem+json; charset=utf-8"),
        answer("ışık".encode("iso-8859-9"), kind="text/plain; charset=iso-8859-9"),
        answer(b"plain\0", kind=""),
        answer(b"", status=204),
    ]

    assert [do(site)["body"] for _ in range(5)] == [
        {"a": [1, 2.5, "ş"]},
        {"title": "no"},
        "ışık",
        "plain",
        None,
    ]


def test_an_output_holds_status_and_headers_but_no_cookie(site):
    site.answers.append(answer(b"1", status=201, ETag='"7"', Set_Cookie=SECRET, X_Api_Key=SECRET))

    found = do(site)

    assert found["status"] == 201
    assert found["headers"]["etag"] == '"7"'
    assert SECRET not in json.dumps(found)


def test_json_is_sent_with_its_type_and_a_key_that_is_the_same_for_all_attempts(site):
    site.answers.append(answer(b"{}"))

    do(site, "/orders?x=1", method="POST", json_body={"n": 1, "ş": None}, headers={"X-A": "b"})

    head, _, body = site.requests[0].partition("\r\n\r\n")
    lines = head.lower().split("\r\n")
    assert lines[0] == "post /orders?x=1 http/1.1"
    assert json.loads(body.encode("latin-1")) == {"n": 1, "ş": None}
    assert {
        "content-type: application/json",
        "idempotency-key: step-7",
        f"traceparent: {TRACE}",
        "x-a: b",
        "accept-encoding: identity",
    } <= set(lines)


def test_headers_of_the_author_win_over_ours(site):
    site.answers.append(answer(b"{}"))

    do(
        site,
        method="POST",
        body="a,b",
        headers={"content-type": "text/csv", "Idempotency-key": "mine"},
    )

    lines = site.requests[0].lower().split("\r\n")
    assert [it for it in lines if it.startswith(("content-type:", "idempotency-key:"))] == [
        "content-type: text/csv",
        "idempotency-key: mine",
    ]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 529])
def test_a_busy_or_broken_site_is_tried_again_when_it_asks_to(site, status):
    site.answers.append(answer(SECRET.encode(), status=status, Retry_After="7"))

    with pytest.raises(AnswerDelayed, match=str(status)) as caught:
        do(site, f"/{SECRET}")

    assert isinstance(caught.value, TransientError)
    assert caught.value.retry_after_s == 7
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422, 304])
def test_another_status_fails_the_step_at_once(site, status):
    site.answers.append(answer(b"" if status == 304 else SECRET.encode(), status=status))

    with pytest.raises(AnswerUnexpected, match=str(status)) as caught:
        do(site, f"/?key={SECRET}", headers={"Authorization": SECRET})

    assert isinstance(caught.value, PermanentError)
    assert SECRET not in str(caught.value)


def test_a_status_that_is_expected_is_an_output(site):
    site.answers += [answer(b'"gone"', status=404), answer(b"", status=503), answer(b"{}")]

    assert do(site, expect=[404, 503]) | {"headers": 0} == {
        "status": 404,
        "headers": 0,
        "body": "gone",
    }
    assert do(site, expect=[404, 503])["status"] == 503
    with pytest.raises(AnswerUnexpected, match="200"):
        do(site, expect=[404, 503])


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"{} {}",
        b"NaN",
        b'{"a": Infinity}',
        b"1e999",
        b'{"a": 1, "a": 2}',
        b'"\xff"',
        b'"\\ud800"',
        b'"\\u0000"',
        b"[" * 100_000,
        b"9" * 5_000,
        "\ufeff{}".encode(),
        b"<html></html>",
    ],
    ids=lambda body: ascii(body)[:20],
)
def test_json_that_two_readers_could_take_for_two_things_is_refused(site, body):
    site.answers.append(answer(body))

    with pytest.raises(ReplyRefused):
        do(site)


@pytest.mark.parametrize(
    ("body", "kind"), [(b"\xff\xfe\x00", "image/png"), (b"a", "text/plain; charset=klingon")]
)
def test_a_body_that_is_no_text_is_refused(site, body, kind):
    site.answers.append(answer(body, kind=kind))

    with pytest.raises(ReplyRefused, match="not text"):
        do(site)


def test_a_body_over_the_steps_limit_is_refused(site):
    site.answers.append(answer(b'"' + b"x" * 100 + b'"'))

    with pytest.raises(ReplyRefused, match="50 bytes"):
        do(site, bytes_max=50)


def test_a_site_that_hangs_up_may_be_tried_again(site):
    with pytest.raises(AddressUnreachable):
        do(site)


def test_an_inner_address_is_refused_where_the_settings_do_not_name_it(site):
    elsewhere = environment(AILYDIAN_EGRESS_ALLOW="10.0.0.1:443")

    with elsewhere, pytest.raises(AddressRefused):
        do(site)

    assert site.connections == 0
