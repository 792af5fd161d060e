"""/v1/provenance, explanations, verdicts and trust: what was judged, and why, of one's own."""

import pytest

from shared.ids import MessageId
from tests.support.factories import claim, do, make_tenant, make_user, rows, waiting
from tests.support.http_api import make_key

SCOPES = (
    "messages:read",
    "messages:write",
    "moderation:read",
    "moderation:write",
    "users:read",
)

pytestmark = pytest.mark.usefixtures("provider")


@pytest.fixture
def key(acme):
    """A key of acme that reads and writes messages."""
    return make_key(acme, make_user(acme, "bob", role="ADMIN"), *SCOPES)


@pytest.fixture
def other():
    """The same of another tenant."""
    tenant = make_tenant("other")
    return make_key(tenant, make_user(tenant, "eve", role="ADMIN"), *SCOPES)


@pytest.fixture
def answer(api, key):
    """The id of an answer that was recorded and scored."""
    body = {
        "content": "The sea rises twice a day.",
        "question": "When does the sea rise?",
        "model": "extractive",
        "user": "bob",
    }
    reply = api.ask("POST", "/v1/messages", key=key, body=body)
    for name in ("record_message", "score_quality"):
        for lease in claim(*waiting(name)):
            do(lease)
    [(outcome,)] = rows('SELECT "outcome" FROM "Job" WHERE "id" = %s', reply.document["id"])
    return MessageId(outcome["messageId"])


def test_the_provenance_of_an_answer_is_shown_and_checked(api, key, answer):
    record = api.ask("GET", f"/v1/provenance/{answer}", key=key).document
    whole = api.ask("GET", f"/v1/provenance/{answer}/check", key=key).document
    rows('UPDATE "Message" SET "content" = %s WHERE "id" = %s RETURNING 1', "Never.", answer)
    altered = api.ask("GET", f"/v1/provenance/{answer}/check", key=key).document

    assert (record["model"], record["content"]) == ("extractive", "The sea rises twice a day.")
    assert whole == {"id": answer, "ok": True, "findings": []}
    assert (altered["ok"], [one["what"] for one in altered["findings"]]) == (False, ["answer"])


def test_a_score_is_explained_once(api, key, answer):
    body = {"subject": answer, "kind": "quality"}
    [asked] = api.ask("POST", "/v1/explanations", key=key, body=body).document["items"]
    for lease in claim(asked["id"]):
        do(lease)
    [again] = api.ask("POST", "/v1/explanations", key=key, body=body).document["items"]
    [(outcome,)] = rows('SELECT "outcome" FROM "Job" WHERE "id" = %s', asked["id"])
    place = f"/v1/explanations/{outcome['explanationId']}"
    shown = api.ask("GET", place, key=key).document

    assert (asked["kind"], asked["duplicate"]) == ("quality", False)
    assert (again["id"], again["duplicate"]) == (asked["id"], True)
    assert shown["about"] == answer
    parts = shown["importance"]
    assert parts["base"] + sum(parts["values"].values()) == pytest.approx(parts["score"])
    nothing = api.ask("POST", "/v1/explanations", key=key, body={"subject": "none"})
    assert (nothing.status, nothing.code) == (404, "nothing_to_explain")


def test_a_verdict_is_listed_and_shown(api, key, answer):
    for lease in claim(*waiting("moderate_content")):
        do(lease)
    listed = api.ask("GET", "/v1/verdicts?action=allow", key=key).document["items"]
    shown = api.ask("GET", f"/v1/verdicts/{listed[0]['id']}", key=key).document

    first = api.ask("GET", "/v1/verdicts?limit=1", key=key).document
    second = api.ask("GET", f"/v1/verdicts?limit=1&after={first['next']}", key=key).document

    assert answer in [one["contentId"] for one in listed]
    assert shown == listed[0]
    assert [first["items"], second["items"]] == [listed[:1], listed[1:2]]
    assert api.ask("GET", "/v1/verdicts?action=block", key=key).document == {
        "items": [],
        "next": None,
    }


def test_trust_is_shown_with_what_it_does(api, key):
    shown = api.ask("GET", "/v1/trust/bob@example.org", key=key).document

    assert (shown["id"], shown["events"]) == ("bob", [])
    assert shown["factors"] == {"base": shown["score"]}
    assert api.ask("GET", "/v1/trust", key=key).document == {"items": []}


def test_others_judgements_do_not_exist(api, key, other, answer):
    for lease in claim(*waiting("moderate_content")):
        do(lease)
    [verdict, *_] = api.ask("GET", "/v1/verdicts", key=key).document["items"]

    assert api.ask("GET", "/v1/verdicts", key=other).document == {"items": [], "next": None}
    for path, code in (
        (f"/v1/provenance/{answer}", "message_not_found"),
        (f"/v1/provenance/{answer}/check", "message_not_found"),
        (f"/v1/verdicts/{verdict['id']}", "verdict_not_found"),
        ("/v1/explanations/none", "explanation_not_found"),
        ("/v1/trust/bob", "user_not_found"),
    ):
        reply = api.ask("GET", path, key=other)
        assert (reply.status, reply.code) == (404, code)
    body = {"subject": answer, "kind": "quality"}
    assert api.ask("POST", "/v1/explanations", key=other, body=body).code == "nothing_to_explain"


def test_a_policy_is_put_in_versions(api, key, other):
    built_in = api.ask("GET", "/v1/policies/current", key=key).document
    new = {"default": {"flag_at": 0.4, "block_at": None}}
    asked = {"key": key, "body": {"policy": new}, "Idempotency_Key": "p-1"}
    first, again = (api.ask("POST", "/v1/policies", **asked) for _ in range(2))
    held = api.ask("GET", "/v1/policies/current", key=key).document
    wrong = api.ask("POST", "/v1/policies", key=key, body={"policy": {"default": {"flag_at": 2}}})

    assert built_in["version"] == 0
    assert (first.status, first.document, again.body) == (201, {"version": 1}, first.body)
    assert (held["version"], held["policy"]["default"]) == (1, new["default"])
    assert (wrong.status, wrong.code) == (422, "policy_refused")
    listed = api.ask("GET", "/v1/policies", key=key).document["items"]
    assert [(one["version"], one["createdBy"][:8]) for one in listed] == [(1, "key:aly_")]
    assert api.ask("GET", "/v1/policies", key=other).document == {"items": []}
    assert len(waiting("remoderate_content")) == 1


def test_an_appeal_is_opened_once_and_decided_once(api, key, other):
    body = {"content": "You are a stupid idiot, I hate you.", "role": "USER", "user": "bob"}
    api.ask("POST", "/v1/messages", key=key, body=body)
    for name in ("record_message", "moderate_content"):
        for lease in claim(*waiting(name)):
            do(lease)
    [verdict] = api.ask("GET", "/v1/verdicts", key=key).document["items"]
    appeal = {"verdict": verdict["id"], "reason": "It was a quotation."}
    refused = api.ask("POST", "/v1/appeals", key=other, body=appeal)
    opened = api.ask("POST", "/v1/appeals", key=key, body=appeal)
    again = api.ask("POST", "/v1/appeals", key=key, body=appeal)
    place = f"/v1/appeals/{opened.document['id']}"
    foreign = api.ask("POST", f"{place}/grant", key=other)
    granted = api.ask("POST", f"{place}/grant", key=key)
    rejected = api.ask("POST", f"{place}/reject", key=key)

    assert verdict["flagged"]
    assert (refused.status, refused.code) == (404, "verdict_not_found")
    assert (opened.status, opened.document["state"]) == (201, "open")
    assert (again.status, again.code) == (409, "appeal_refused")
    assert (foreign.status, foreign.code) == (404, "verdict_not_found")
    assert (granted.status, granted.document["state"]) == (200, "granted")
    assert (rejected.status, rejected.code) == (409, "appeal_refused")
    [listed] = api.ask("GET", "/v1/appeals?state=granted", key=key).document["items"]
    assert listed["decidedBy"].startswith("key:aly_")
    assert api.ask("GET", "/v1/appeals", key=other).document == {"items": [], "next": None}
