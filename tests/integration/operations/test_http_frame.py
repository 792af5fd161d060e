"""The HTTP API's frame: ETag with its conditions, HEAD on every GET, CORS by a setting."""

import threading

import pytest

from producers.accounts.scopes import Scope
from shared.errors import PermanentError
from tests.support.factories import claim, make_tenant, make_user, publish_probe, rows
from tests.support.http_api import make_key, serving
from workers.process import settlement

SCHEDULE = {"cron": "0 7 * * *", "job": "probe"}
PATH = "/v1/schedules/heartbeat"


@pytest.fixture
def key(acme):
    """A key of an administrator of acme."""
    scopes = ("jobs:read", "jobs:write", "dead:read", "dead:write")
    more = ("schedules:read", "schedules:write", "preferences:read", "preferences:write")
    return make_key(acme, make_user(acme, "bob", role="ADMIN"), *scopes, *more)


@pytest.fixture
def root(pool):
    """A key of all tenants."""
    return make_key(None, make_user(None, "root", role="SUPER_ADMIN"), *Scope)


def test_what_has_not_changed_is_not_sent_again(api, acme, key):
    path = f"/v1/jobs/{publish_probe(acme)}"
    first = api.ask("GET", path, key=key)
    tag = first.headers["etag"]
    same = api.ask("GET", path, key=key, If_None_Match=f'"other", W/{tag}')
    other = api.ask("GET", path, key=key, If_None_Match='"other"')
    api.ask("POST", f"{path}/cancel", key=key)
    changed = api.ask("GET", path, key=key, If_None_Match=tag)

    assert (same.status, same.body, same.headers["etag"]) == (304, b"", tag)
    for name in ("cache-control", "vary"):
        assert same.headers[name] == first.headers[name]
    assert (other.status, other.body) == (200, first.body)
    assert changed.status == 200
    assert changed.headers["etag"] != tag
    assert api.ask("GET", path, key=key, If_None_Match="*").status == 304
    assert "etag" not in api.ask("GET", "/v1/jobs/nothing", key=key).headers


def test_a_condition_is_no_way_around_the_key(api, acme, key):
    path = f"/v1/jobs/{publish_probe(acme)}"
    tag = api.ask("GET", path, key=key).headers["etag"]

    assert api.ask("GET", path, If_None_Match=tag).status == 401
    assert api.ask("GET", "/v1/schedules", key=key[:-1] + "x", If_None_Match="*").status == 401


def test_a_schedule_is_replaced_only_as_it_was_read(api, acme, key):
    made = api.ask("PUT", PATH, key=key, body=SCHEDULE, If_None_Match="*")
    again = api.ask("PUT", PATH, key=key, body=SCHEDULE, If_None_Match="*")
    tag = api.ask("GET", PATH, key=key).headers["etag"]
    first = api.ask("PUT", PATH, key=key, body=SCHEDULE | {"cron": "0 8 * * *"}, If_Match=tag)
    late = api.ask("PUT", PATH, key=key, body=SCHEDULE | {"cron": "0 9 * * *"}, If_Match=tag)
    weak = api.ask("PUT", PATH, key=key, body=SCHEDULE, If_Match=f"W/{first.headers['etag']}")
    nowhere = api.ask("PUT", "/v1/schedules/x", key=key, body=SCHEDULE, If_Match="*")
    kept = api.ask("DELETE", PATH, key=key, If_Match=tag)

    assert made.headers["etag"] == tag
    assert first.headers["etag"] == api.ask("GET", PATH, key=key).headers["etag"] != tag
    for refused in (again, late, weak, nowhere, kept):
        assert (refused.status, refused.code) == (412, "precondition_failed")
    assert rows('SELECT "name", "cron" FROM "Schedule"') == [("heartbeat", "0 8 * * *")]
    gone = api.ask("DELETE", PATH, key=key, If_Match=first.headers["etag"])
    assert gone.status == 200


def test_a_condition_is_asked_or_refused_and_never_left_out(api, acme, key):
    path = f"/v1/jobs/{publish_probe(acme)}"
    tag = api.ask("GET", path, key=key).headers["etag"]
    asked = [("POST", f"{path}/cancel", None), ("POST", f"{PATH}/pause", None)]
    for method, address, body in asked:
        refused = api.ask(method, address, key=key, body=body, If_Match=tag)
        assert (refused.status, refused.code) == (400, "condition_unsupported")

    assert rows('SELECT "state" FROM "Job"') == [("PENDING",)]


def test_a_repeated_request_is_answered_though_its_condition_is_no_longer_true(api, acme, key):
    tag = api.ask("PUT", PATH, key=key, body=SCHEDULE).headers["etag"]
    asked = {"key": key, "body": SCHEDULE | {"cron": "0 8 * * *"}, "If_Match": tag}
    first = api.ask("PUT", PATH, **asked, Idempotency_Key="x")
    again = api.ask("PUT", PATH, **asked, Idempotency_Key="x")

    assert (again.status, again.body) == (200, first.body)
    assert again.headers["etag"] == first.headers["etag"]


def test_a_letter_is_edited_only_as_it_was_read(api, acme, key):
    job_id = publish_probe(acme)
    for lease in claim(job_id):
        settlement.settle(lease, PermanentError("torn"))
    path = f"/v1/dead/{job_id}"
    tag = api.ask("GET", path, key=key).headers["etag"]
    first = api.ask("PUT", f"{path}/payload", key=key, body={"payload": {"n": 1}}, If_Match=tag)
    late = api.ask("PUT", f"{path}/payload", key=key, body={"payload": {"n": 2}}, If_Match=tag)

    assert first.document["edited"]
    assert (late.status, late.code) == (412, "precondition_failed")
    assert api.ask("GET", path, key=key).document["payload"]["n"] == 1


def test_of_preferences_put_at_once_after_one_reading_one_is_kept(api, acme, key):
    path = "/v1/preferences/bob@example.org"
    tag = api.ask("GET", path, key=key).headers["etag"]
    asked, found = threading.Barrier(8), []

    def put(n):
        asked.wait()
        body = {"tokensMax": n}
        found.append((api.ask("PUT", path, key=key, body=body, If_Match=tag).status, n))

    threads = [threading.Thread(target=put, args=(n,)) for n in range(1, 9)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    [kept] = [n for status, n in found if status == 200]
    assert sorted(status for status, _ in found) == [200] + [412] * 7
    assert api.ask("GET", path, key=key).document["tokensMax"] == kept


@pytest.mark.parametrize("path", ["/v1/jobs", PATH, "/v1/jobs/nothing", "/openapi.json", "/health"])
def test_head_is_the_get_without_its_body(api, acme, key, path):
    api.ask("PUT", PATH, key=key, body=SCHEDULE)
    get, head = api.ask("GET", path, key=key), api.ask("HEAD", path, key=key)

    assert (head.status, head.body) == (get.status, b"")
    if path != "/health":  # which tells how long it is up
        ours = ("content-type", "content-length", "etag")
        assert {name: head.headers.get(name) for name in ours} == {
            name: get.headers.get(name) for name in ours
        }


def test_head_of_an_address_that_has_no_get_names_its_methods(api, acme, key):
    reply = api.ask("HEAD", f"{PATH}/pause", key=key)
    listed = api.ask("PATCH", "/v1/jobs", key=key, body={})

    assert (reply.status, reply.headers["allow"]) == (405, "POST")
    assert listed.headers["allow"] == "GET, HEAD, POST"


def preflight(api, origin, **headers):
    asked = {"Access_Control_Request_Method": "PUT"} | headers
    return api.ask("OPTIONS", PATH, Origin=origin, **asked)


def test_without_the_setting_no_page_of_another_origin_may_call(api, acme, key):
    reply = api.ask("GET", "/v1/jobs", key=key, Origin="https://console.example.org")

    assert reply.status == 200
    assert not any(name.startswith("access-control") for name in reply.headers)
    assert preflight(api, "https://console.example.org").status == 405


def test_pages_of_the_named_origins_alone_may_call(pool, redis_url, acme, key):
    console = "https://console.example.org"
    wanted = {"Access_Control_Request_Headers": "authorization,idempotency-key,if-match"}
    with serving(redis_url, origins=[console]) as api:
        asked = preflight(api, console, **wanted)
        own = api.ask("GET", "/v1/jobs", key=key, Origin=console)
        refused = api.ask("GET", "/v1/jobs", Origin=console)
        other = api.ask("GET", "/v1/jobs", key=key, Origin=f"{console}.evil.org")
        others = preflight(api, "https://evil.org")

    assert asked.status == 200
    assert asked.headers["access-control-allow-origin"] == console
    assert "PUT" in asked.headers["access-control-allow-methods"]
    assert own.headers["access-control-allow-origin"] == console
    assert refused.status == 401
    assert refused.headers["access-control-allow-origin"] == console
    assert "ETag" in own.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in own.headers
    assert (others.status, others.code) == (400, "cors_refused")
    for one in (other, others):
        assert "access-control-allow-origin" not in one.headers


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/queues/pause?tenat=acme", {"queue": "ingest"}),
        ("POST", "/v1/dead/replay?tenat=acme", {"all": True}),
        ("POST", "/v1/jobs/cancel?tenat=acme", {"all": True}),
        ("DELETE", "/v1/cache?tenant=acme&tenat=acme", None),
        ("GET", "/v1/jobs?tenant=acme&tenat=", None),
    ],
)
def test_an_unknown_query_parameter_is_refused(api, acme, root, method, path, body):
    job_id = publish_probe(acme)
    reply = api.ask(method, path, key=root, body=body)

    assert (reply.status, reply.code) == (422, "invalid_request")
    [error] = reply.document["errors"]
    assert error["pointer"] == "/query/tenat"
    for words in ("Unknown query parameter 'tenat'; did you mean 'tenant'", "known parameters: "):
        assert words in reply.document["detail"]
    assert rows('SELECT "id", "state" FROM "Job"') == [(job_id, "PENDING")]
    assert rows('SELECT "queue" FROM "JobHold"') == []


def test_who_may_not_ask_is_told_so_before_the_parameters(api, acme, key):
    path = "/v1/queues/pause?tenat=acme"
    body = {"queue": "ingest"}

    assert api.ask("POST", path, body=body).status == 401
    assert api.ask("POST", path, key=key, body=body).code == "scope_missing"
    assert api.ask("POST", "/v1/sessions?email=bob", body={}).document["errors"] == [
        {
            "pointer": "/query/email",
            "detail": "Unknown query parameter 'email'; known parameters: none.",
        }
    ]


def test_a_parameter_that_takes_one_value_is_given_once(api, acme, key, root):
    make_tenant("other")
    twice = api.ask("GET", "/v1/jobs?tenant=acme&tenant=other", key=root)
    filters = api.ask("GET", "/v1/jobs?state=DEAD&state=COMPLETED&limit=1&limit=1", key=key)
    letters = api.ask("GET", "/v1/dead?where=n=1&where=m=2", key=key)

    assert (twice.status, twice.code) == (422, "invalid_request")
    assert "'tenant' was given 2 times" in twice.document["detail"]
    found = [one["pointer"] for one in filters.document["errors"]]
    assert found == ["/query/state", "/query/limit"]
    assert letters.status == 200


def test_of_thousands_of_unknown_parameters_twenty_are_named(api, acme, key):
    query = "&".join(f"limi{n}" for n in range(5_000))
    reply = api.ask("GET", f"/v1/jobs?{query}", key=key)

    assert reply.status == 422
    assert len(reply.document["errors"]) == 20


@pytest.mark.parametrize(
    ("path", "kind", "taken"),
    [
        ("/v1/jobs", "text/plain", "application/json, application/x-ndjson"),
        ("/v1/jobs", "application/x-www-form-urlencoded", "application/json, "),
        ("/v1/documents", "text/markdown", "application/json, multipart/form-data"),
        ("/v1/workflows", "text/html", "application/json, application/yaml"),
        ("/v1/jobs", "text/json", "application/json, "),
        ("/v1/runs", "application/x-ndjson", "application/json"),
        ("/v1/search", "nothing", "application/json"),
    ],
)
def test_a_body_of_another_media_type_is_refused(api, acme, root, path, kind, taken):
    asked = {"body": b'{"job": "probe"}', "Content_Type": kind}
    unknown = api.ask("POST", path, **asked)
    reply = api.ask("POST", f"{path}?tenant=acme", key=root, **asked)

    assert unknown.status == 401
    assert (reply.status, reply.code) == (415, "unsupported_media_type")
    assert f"{kind!r}" in reply.document["detail"]
    assert f"takes {taken}" in reply.document["detail"]
    assert rows('SELECT "id" FROM "Job"') == []


@pytest.mark.parametrize(
    "kind", [None, "", "application/json; charset=utf-8", "Application/JSON", "application/a+json"]
)
def test_a_body_is_json_where_nothing_else_is_said(api, acme, key, kind):
    given = {} if kind is None else {"Content_Type": kind}
    job = api.ask("POST", "/v1/jobs", key=key, body=b'{"job": "probe"}', **given)
    body = b'{"cron": "0 7 * * *", "job": "probe"}'
    schedule = api.ask("PUT", PATH, key=key, body=body, **given)

    assert (job.status, schedule.status) == (202, 200)


def test_where_no_body_is_read_its_media_type_is_not_asked(api, acme, key):
    path = f"/v1/jobs/{publish_probe(acme)}/cancel"

    assert api.ask("POST", path, key=key, body=b"", Content_Type="text/plain").status == 200
