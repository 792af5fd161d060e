"""Errors of the HTTP API say where they are and what to do, in plain words."""

import gzip
import json

import pytest

from tests.support.factories import make_tenant, make_user, rows
from tests.support.http_api import make_key


@pytest.fixture
def key(pool):
    tenant = make_tenant("acme")
    scopes = ("jobs:write", "jobs:read", "audit:read", "messages:read", "messages:write")
    return make_key(tenant, make_user(tenant, role="ADMIN"), *scopes)


def test_an_unknown_field_names_the_nearest_and_a_pointer_leads_to_it(api, key):
    reply = api.ask("POST", "/v1/jobs", key=key, body={"job": "probe", "paylod/~": {}})

    assert (reply.status, reply.code) == (422, "invalid_request")
    [fault] = [one for one in reply.document["errors"] if "paylod" in one["pointer"]]
    assert fault["pointer"] == "/body/paylod~1~0"
    assert fault["detail"].startswith("unknown field; did you mean 'payload'; known fields: ")


def test_a_payload_that_is_refused_names_each_of_its_fields(api, key):
    body = {"job": "probe", "payload": {"n": "x", "m": 1}}
    reply = api.ask("POST", "/v1/jobs", key=key, body=body)

    assert (reply.status, reply.code) == (422, "payload_refused")
    found = {one["pointer"]: one["detail"] for one in reply.document["errors"]}
    assert found["/body/payload/n"] == "must be a whole number"
    assert found["/body/payload/m"].startswith("unknown field; ")
    assert "known fields: " in reply.document["detail"]


def test_a_limit_is_told_in_words(api, key):
    reply = api.ask("GET", "/v1/jobs?limit=0", key=key)

    assert reply.document["errors"] == [{"pointer": "/query/limit", "detail": "must be at least 1"}]
    assert reply.document["detail"] == "Invalid query/limit: must be at least 1."


def test_a_cursor_of_another_list_is_refused(api, key):
    for number in range(2):
        api.ask("POST", "/v1/jobs", key=key, body={"job": "probe", "payload": {"n": number}})
    following = api.ask("GET", "/v1/jobs?limit=1", key=key).document["next"]

    assert api.ask("GET", f"/v1/jobs?limit=1&after={following}", key=key).status == 200
    reply = api.ask("GET", f"/v1/audit?after={following}", key=key)
    assert (reply.status, reply.code) == (422, "invalid_cursor")
    assert "of another list" in reply.document["detail"]


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip"])
def test_a_compressed_body_is_refused(api, key, encoding):
    body = gzip.compress(json.dumps({"job": "probe", "payload": {"n": 1}}).encode())
    reply = api.ask("POST", "/v1/jobs", key=key, body=body, **{"Content-Encoding": encoding})

    assert (reply.status, reply.code) == (415, "unsupported_content_encoding")
    plain = {"job": "probe", "payload": {"n": 1}}
    same = api.ask("POST", "/v1/jobs", key=key, body=plain, **{"Content-Encoding": "identity"})
    assert same.status == 202


def test_an_address_with_a_slash_at_its_end_says_so(api, key):
    reply = api.ask("GET", "/v1/jobs/", key=key)

    assert reply.status == 404
    assert reply.document["detail"] == ("Nothing is at this address: leave out the / at its end.")
    assert "openapi.json" in api.ask("GET", "/v1/nothing", key=key).document["detail"]


@pytest.mark.parametrize("user", [None, "bob"])
def test_a_message_of_a_conversation_that_is_not_there_is_refused_at_the_door(api, key, user):
    make_user("acme", "bob", email="bob@example.org")
    body = {"content": "Hello.", "role": "USER", "conversationId": "nobody's"}
    reply = api.ask("POST", "/v1/messages", key=key, body=body | ({"user": user} if user else {}))

    assert (reply.status, reply.code) == (404, "conversation_not_found")
    assert rows('SELECT count(*) FROM "Job"') == [(0,)]
