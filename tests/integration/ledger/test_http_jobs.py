"""/v1/jobs: what is answered is committed, a repeated request is done once, pages have no gap."""

import pytest

from shared import db
from tests.support.factories import make_user, rows
from tests.support.http_api import make_key

PROBE = {"job": "probe", "payload": {"n": 1}}


@pytest.fixture
def key(acme):
    """A key of an administrator of acme that may do everything with jobs."""
    return make_key(acme, make_user(acme, "bob", role="ADMIN"), "jobs:read", "jobs:write")


def test_a_published_job_is_committed_and_names_its_publisher(api, key):
    reply = api.ask("POST", "/v1/jobs", key=key, body=PROBE)
    again = api.ask("POST", "/v1/jobs", key=key, body=PROBE)
    [(job_id, producer)] = rows('SELECT "id", "producer" FROM "Job"')

    assert reply.status == 202
    assert reply.document == {"id": job_id, "state": "PENDING", "duplicate": False}
    assert again.document == {"id": job_id, "state": "PENDING", "duplicate": True}
    assert reply.headers["location"] == f"/v1/jobs/{job_id}"
    assert producer.startswith("key:aly_")
    shown = api.ask("GET", f"/v1/jobs/{job_id}", key=key).document
    assert (shown["job"], shown["state"], shown["payload"]["n"]) == ("probe", "PENDING", 1)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "invalid_json"),
        (b"{", 422, "invalid_json"),
        (b'{"job": "probe", "payload": {"n": NaN}}', 422, "invalid_json"),
        (b'{"job": "probe", "key": "\\ud800"}', 422, "invalid_json"),
        (b'{"job": "probe", "key": "\\u0000"}', 422, "invalid_json"),
        (b'{"job": "probe", "payload": ' + b"[" * 500 + b"]" * 500 + b"}", 422, "invalid_json"),
        (b'{"job": "probe", "payload": {"n": "x"}}', 422, "payload_refused"),
        (b'{"job": "prob"}', 422, "unknown_job"),
        (b'{"job": "run_step"}', 403, "publisher_refused"),
        (b'{"job": "probe", "prioritty": 1}', 422, "invalid_request"),
        (b'{"job": "probe", "priority": 10}', 422, "invalid_request"),
        (b'\xff', 422, "invalid_json"),
    ],
)  # fmt: skip
def test_what_cannot_be_published_is_refused_in_one_sentence(api, key, body, status, code):
    reply = api.ask("POST", "/v1/jobs", key=key, body=body, Content_Type="application/json")

    assert (reply.status, reply.code) == (status, code)
    assert reply.document["detail"].endswith(".")
    assert rows('SELECT * FROM "Job"') == []


def test_a_body_that_is_too_large_is_refused_before_it_is_read(api, key):
    reply = api.ask("POST", "/v1/jobs", key=key, body=b"", Content_Length=str(10**9))

    assert (reply.status, reply.code) == (413, "body_too_large")


def test_a_repeated_request_gets_the_same_bytes_and_does_nothing(api, key):
    asked = {"key": key, "body": PROBE, "Idempotency_Key": "order-17"}
    first = api.ask("POST", "/v1/jobs", **asked)
    second = api.ask("POST", "/v1/jobs", **asked)

    assert (second.status, second.body) == (first.status, first.body)
    assert second.headers["location"] == first.headers["location"]
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert len(rows('SELECT * FROM "Job"')) == 1


def test_a_key_for_another_request_is_refused(api, key):
    asked = {"key": key, "Idempotency_Key": "order-17"}
    api.ask("POST", "/v1/jobs", body=PROBE, **asked)
    other = api.ask("POST", "/v1/jobs", body=PROBE | {"priority": 1}, **asked)

    assert (other.status, other.code) == (422, "idempotency_key_reused")
    assert len(rows('SELECT * FROM "Job"')) == 1


def test_an_error_is_not_kept(api, key):
    asked = {"key": key, "Idempotency_Key": "order-17"}
    assert api.ask("POST", "/v1/jobs", body={"job": "prob"}, **asked).status == 422
    assert api.ask("POST", "/v1/jobs", body=PROBE, **asked).status == 202


def test_a_request_in_flight_is_not_waited_for(api, acme, key):
    with db.transaction(acme) as conn:
        conn.execute(
            "SELECT pg_advisory_xact_lock("
            "hashtextextended(current_setting('app.tenant_id') || ' order-17', 0))"
        )
        reply = api.ask("POST", "/v1/jobs", key=key, body=PROBE, Idempotency_Key="order-17")
        other = api.ask("POST", "/v1/jobs", key=key, body=PROBE, Idempotency_Key="order-18")

    assert (reply.status, reply.code) == (409, "idempotency_in_flight")
    assert reply.headers["retry-after"] == "1"
    assert other.status == 202


@pytest.mark.parametrize("given", ["", "x" * 256, "a\tb"])
def test_an_invalid_idempotency_key_is_refused(api, key, given):
    reply = api.ask("POST", "/v1/jobs", key=key, body=PROBE, Idempotency_Key=given)
    assert (reply.status, reply.code) == (422, "invalid_request")
    assert "Idempotency-Key" in reply.document["detail"]


def _many(api, key, lines, **headers):
    body = "\n".join(lines).encode()
    return api.ask(
        "POST", "/v1/jobs", key=key, body=body, Content_Type="application/x-ndjson", **headers
    )


def test_many_jobs_are_published_in_order_with_what_each_asks_for(api, key):
    lines = [
        f'{{"job": "probe", "payload": {{"n": {n}}}, "priority": {n % 3}}}' for n in range(200)
    ]
    reply = _many(api, key, lines, Idempotency_Key="all")
    again = _many(api, key, lines, Idempotency_Key="all")

    assert reply.status == 202
    assert again.body == reply.body
    by_id = {
        i: (n, p)
        for i, n, p in rows("""
        SELECT "id", ("payload"->>'n')::int, "priority" FROM "Job" """)
    }
    assert [by_id[one["id"]] for one in reply.document["items"]] == [(n, n % 3) for n in range(200)]


def test_more_lines_than_may_come_at_once_are_refused_and_as_many_are_not(api, key):
    lines = [f'{{"job": "probe", "payload": {{"n": {n}}}}}' for n in range(10_001)]

    assert _many(api, key, lines).code == "invalid_request"
    assert len(_many(api, key, lines[:-1]).document["items"]) == 10_000


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"job": "prob"}', "Unknown job 'prob'"),
        ('{"job": 1}', "job: must be text"),
        ("[]", "must be an object"),
        ("{", "Invalid JSON"),
        ('{"job": "probe", "payload": {"n": "x"}}', "probe"),
    ],
)
def test_one_invalid_line_refuses_all_and_is_named(api, key, line, words):
    reply = _many(api, key, ['{"job": "probe"}', line, '{"job": "probe", "payload": {"n": 2}}'])

    assert (reply.status, reply.code) == (422, "invalid_request")
    assert [one["pointer"] for one in reply.document["errors"]] == ["/lines/2"]
    assert words in reply.document["errors"][0]["detail"]
    assert rows('SELECT * FROM "Job"') == []


def test_pages_of_a_list_have_every_job_once_newest_first(api, key):
    lines = [f'{{"job": "probe", "payload": {{"n": {n}}}}}' for n in range(7)]
    _many(api, key, lines)
    seen, path = [], "/v1/jobs?limit=3"
    while path:
        page = api.ask("GET", path, key=key).document
        seen += [one["id"] for one in page["items"]]
        path = page["next"] and f"/v1/jobs?limit=3&after={page['next']}"

    assert seen == [
        one for (one,) in rows('SELECT "id" FROM "Job" ORDER BY "createdAt" DESC, "id" DESC')
    ]


@pytest.mark.parametrize("cursor", ["x", "e30", "WyJ4IiwgMV0", "W10", "%FF", "e" * 400])
def test_an_invalid_cursor_is_refused(api, key, cursor):
    reply = api.ask("GET", f"/v1/jobs?after={cursor}", key=key)
    assert (reply.status, reply.code) == (422, "invalid_cursor")


def test_a_cancelled_job_is_noted_with_who_did_it(api, key):
    job_id = api.ask("POST", "/v1/jobs", key=key, body=PROBE).document["id"]
    path = f"/v1/jobs/{job_id}/cancel"
    first = api.ask("POST", path, key=key, Idempotency_Key="x")
    assert api.ask("POST", path, key=key, Idempotency_Key="x").body == first.body
    second = api.ask("POST", f"/v1/jobs/{job_id}/cancel", key=key)

    assert first.document == {"id": job_id, "state": "CANCELLED", "was": "PENDING"}
    assert (second.status, second.code) == (409, "nothing_to_cancel")
    [(actor, action)] = rows("""
        SELECT "userId", "action" FROM "AuditLog" WHERE "resource" = 'Job' """)
    assert (action, actor[:8]) == ("jobs.cancel", "key:aly_")


@pytest.mark.parametrize("path", ["/v1/job", "/v1/jobs/", "/v1/jobs/a%00b", "/v1/jobs?queue=%00"])
def test_an_address_that_is_none_is_answered_as_a_problem(api, key, path):
    reply = api.ask("GET", path, key=key)
    assert reply.status in {400, 404}
    assert reply.code in {"not_found", "invalid_request"}


def test_a_method_that_an_address_does_not_have_names_those_it_has(api, key):
    reply = api.ask("PUT", "/v1/jobs", key=key, body={})

    assert (reply.status, reply.code) == (405, "method_not_allowed")
    assert "GET" in reply.headers["allow"]
