"""/v1/messages, /v1/conversations, /v1/feedback and /v1/search, as services use them."""

import json

import pytest

from tests.support.factories import claim, do, make_tenant, make_user, rows, waiting
from tests.support.http_api import make_key
from tests.support.sample_documents import ingested
from workers.cache import semantic_cache
from workers.cache.semantic_cache import CachedAnswer, CacheQuestion

SCOPES = ("messages:read", "messages:write", "conversations:read", "feedback:write", "search:read")
HELLO = {"content": "Hello there.", "role": "USER", "user": "bob@example.org"}

pytestmark = pytest.mark.usefixtures("provider")


@pytest.fixture
def key(acme):
    """A key of acme for everything about messages."""
    return make_key(acme, make_user(acme, "bob", role="ADMIN"), *SCOPES)


@pytest.fixture
def other():
    """The same of another tenant."""
    tenant = make_tenant("other")
    return make_key(tenant, make_user(tenant, "eve", role="ADMIN"), *SCOPES)


def record(api, key, **fields):
    """Record and embed a message. Returns its id and that of its conversation."""
    reply = api.ask("POST", "/v1/messages", key=key, body=HELLO | fields)
    assert reply.status == 202, reply.body
    for name in ("record_message", "embed_messages"):
        for lease in claim(*waiting(name)):
            do(lease)
    [(outcome,)] = rows('SELECT "outcome" FROM "Job" WHERE "id" = %s', reply.document["id"])
    [(conversation,)] = rows(
        'SELECT "conversationId" FROM "Message" WHERE "id" = %s', outcome["messageId"]
    )
    return outcome["messageId"], conversation


def test_a_message_is_recorded_shown_and_listed_with_its_conversation(api, key):
    message, conversation = record(api, key)
    record(api, key, content="And again.", conversationId=conversation)

    shown = api.ask("GET", f"/v1/messages/{message}", key=key).document
    place = f"/v1/messages?conversation={conversation}"
    page = api.ask("GET", f"{place}&limit=1", key=key).document
    rest = api.ask("GET", f"{place}&after={page['next']}", key=key).document
    thread = api.ask("GET", f"/v1/conversations/{conversation}", key=key).document
    threads = api.ask("GET", "/v1/conversations?user=bob@example.org", key=key).document

    assert (shown["content"], shown["role"]) == ("Hello there.", "USER")
    assert [one["content"] for one in page["items"] + rest["items"]] == [
        "Hello there.",
        "And again.",
    ]
    assert (thread["user"], thread["messages"]) == ("bob@example.org", 2)
    assert [one["id"] for one in threads["items"]] == [conversation]


def test_pages_of_conversations_have_each_once(api, key):
    made = [record(api, key, content=f"Number {n}")[1] for n in range(5)]
    seen, path = [], "/v1/conversations?limit=2"
    while path:
        page = api.ask("GET", path, key=key).document
        seen += [one["id"] for one in page["items"]]
        path = page["next"] and f"/v1/conversations?limit=2&after={page['next']}"

    assert sorted(seen) == sorted(made)


def test_equal_messages_are_two_unless_they_say_that_they_are_one(api, key):
    for fields, count in (({}, 2), ({"externalId": "m-1"}, 3)):
        for _ in range(2):
            assert api.ask("POST", "/v1/messages", key=key, body=HELLO | fields).status == 202
        assert len(rows('SELECT * FROM "Job"')) == count


def test_a_repeated_request_records_once(api, key):
    asked = {"key": key, "body": HELLO, "Idempotency_Key": "m-1"}
    first, again = (api.ask("POST", "/v1/messages", **asked) for _ in range(2))

    assert first.body == again.body
    assert len(rows('SELECT * FROM "Job"')) == 1


def test_many_messages_are_recorded_together_or_not_at_all(api, key):
    lines = [json.dumps(HELLO | {"content": f"Line {n}"}) for n in range(20)]
    ndjson = {"Content_Type": "application/x-ndjson"}
    bad = "\n".join([*lines, '{"content": ""}']).encode()
    refused = api.ask("POST", "/v1/messages", key=key, body=bad, **ndjson)

    assert (refused.status, refused.code) == (422, "invalid_request")
    assert refused.document["errors"][0]["pointer"] == "/lines/21"
    assert rows('SELECT * FROM "Job"') == []
    reply = api.ask("POST", "/v1/messages", key=key, body="\n".join(lines).encode(), **ndjson)
    assert reply.status == 202
    stored = {one: content for one, content in rows("""
        SELECT "id", "payload"->>'content' FROM "Job" """)}  # fmt: skip
    assert [stored[one["id"]] for one in reply.document["items"]] == [
        f"Line {n}" for n in range(20)
    ]


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"role": "ASSISTANT"}, 422, "payload_refused"),
        ({"question": "Why?"}, 422, "payload_refused"),
        ({"content": ""}, 422, "invalid_request"),
        ({"content": "x" * 50_001}, 422, "invalid_request"),
        ({"costUsd": "1e9"}, 422, "invalid_request"),
        ({"tokens_in": 1}, 422, "invalid_request"),
        ({"user": "nobody@example.org"}, 404, "user_not_found"),
    ],
)
def test_a_message_that_does_not_fit_is_refused(api, key, fields, status, code):
    reply = api.ask("POST", "/v1/messages", key=key, body=HELLO | fields)

    assert (reply.status, reply.code) == (status, code)
    assert rows('SELECT * FROM "Job"') == []


def test_a_message_is_recalled_by_meaning(api, key):
    message, _ = record(api, key, content="Backups are kept for thirty days.")
    body = {"query": "Backups are kept for thirty days.", "user": "bob@example.org", "k": 1}
    [found] = api.ask("POST", "/v1/recall", key=key, body=body).document["items"]

    assert (found["messageId"], round(found["cosine"], 2)) == (message, 1.0)


def test_a_rating_is_given_listed_and_replaced(api, key):
    message, _ = record(api, key, role="ASSISTANT", model="extractive")
    body = {"messageId": message, "user": "bob", "rating": 2, "comment": "Too short."}
    first = api.ask("POST", "/v1/feedback", key=key, body=body, Idempotency_Key="f-1")
    again = api.ask("POST", "/v1/feedback", key=key, body=body, Idempotency_Key="f-1")
    later = api.ask("POST", "/v1/feedback", key=key, body=body | {"rating": 5})
    listed = api.ask("GET", f"/v1/feedback?message={message}", key=key).document["items"]

    assert (first.status, later.status, again.body) == (202, 202, first.body)
    assert [(one["user"], one["rating"]) for one in listed] == [("bob@example.org", 5)]
    assert api.ask("POST", "/v1/feedback", key=key, body=body | {"rating": 6}).status == 422


def test_documents_are_searched(api, acme, key):
    document_id = ingested(acme, "# Tides\n\nThe sea rises twice a day.", source="tides.md")
    for mode in ("hybrid", "text", "vector"):
        body = {"query": "sea rises", "k": 3, "mode": mode}
        [hit] = api.ask("POST", "/v1/search", key=key, body=body).document["items"]
        assert (hit["documentId"], hit["source"]) == (document_id, "tides.md")
    assert api.ask("POST", "/v1/search", key=key, body={"query": " "}).code == "query_refused"


def test_others_messages_do_not_exist(api, acme, key, other):
    ingested(acme, "# Tides\n\nThe sea rises twice a day.", source="tides.md")
    message, conversation = record(api, key)

    for path, code in (
        (f"/v1/messages/{message}", "message_not_found"),
        (f"/v1/messages?conversation={conversation}", "conversation_not_found"),
        (f"/v1/conversations/{conversation}", "conversation_not_found"),
        ("/v1/conversations?user=bob", "user_not_found"),
    ):
        reply = api.ask("GET", path, key=other)
        assert (reply.status, reply.code) == (404, code)
        assert api.ask("GET", path, key=key).status == 200
    body = {"messageId": message, "user": "eve", "rating": 1}
    assert api.ask("POST", "/v1/feedback", key=other, body=body).code == "message_not_found"
    for path, query in (("/v1/search", "sea rises"), ("/v1/recall", "Hello there.")):
        found = api.ask("POST", path, key=other, body={"query": query})
        assert (found.status, found.document["items"]) == (200, [])
        assert len(api.ask("POST", path, key=key, body={"query": query}).document["items"]) == 1
    for path in ("/v1/conversations", "/v1/feedback"):
        assert api.ask("GET", path, key=other).document == {"items": [], "next": None}


def test_the_answer_cache_is_shown_and_cleared(api, acme, key, other):
    question = CacheQuestion(acme, "When?", "extractive", {})
    semantic_cache.answered(question, lambda: CachedAnswer("Twice a day.", "extractive"))
    shown = api.ask("GET", "/v1/cache", key=key).document
    foreign = api.ask("DELETE", "/v1/cache", key=other).document
    cleared = api.ask("DELETE", "/v1/cache", key=key).document

    assert (shown["tenant"], shown["entries"]) == ("acme", 1)
    assert [one["model"] for one in shown["models"]] == ["extractive"]
    assert foreign == {"tenant": "other", "removed": 0}
    assert cleared == {"tenant": "acme", "removed": 1}
    assert api.ask("GET", "/v1/cache", key=key).document["entries"] == 0


def test_each_scope_opens_its_own_routes_alone(api, acme):
    asked = {
        "messages:read": ("GET", "/v1/messages?conversation=c", None),
        "messages:write": ("POST", "/v1/messages", HELLO),
        "conversations:read": ("GET", "/v1/conversations", None),
        "feedback:write": ("POST", "/v1/feedback", {"messageId": "m", "user": "u", "rating": 1}),
        "search:read": ("POST", "/v1/search", {"query": "tides"}),
    }
    user = make_user(acme, "bob", role="ADMIN")
    for scope in SCOPES:
        key = make_key(acme, user, scope)
        for needed, (method, path, body) in asked.items():
            reply = api.ask(method, path, key=key, body=body)
            assert (reply.status == 403) == (needed != scope), (scope, path)
