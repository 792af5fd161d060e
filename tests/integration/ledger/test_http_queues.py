"""/v1/queues: counts of one's own, pauses, drains and limits of operators."""

import threading
import time

import pytest

from shared import db
from shared.db import Role
from shared.queries.ledger import attempts
from tests.support.factories import claim, make_tenant, make_user, publish_probe, rows
from tests.support.http_api import make_key
from tests.support.patience import patience


@pytest.fixture
def key(pool):
    """A key of one who may act for all tenants."""
    root = make_user(None, "root", role="SUPER_ADMIN")
    return make_key(None, root, "queues:read", "queues:write")


@pytest.fixture
def tenant_key(acme):
    return make_key(acme, make_user(acme, "bob"), "queues:read")


def figures(api, key):
    found = api.ask("GET", "/v1/queues", key=key).document["items"]
    return {one["queue"]: one for one in found}["maintenance"]


def acts():
    return rows(
        """SELECT "action", "tenantId", "userId" FROM "AuditLog"
           WHERE "resource" IN ('JobHold', 'JobLimit') ORDER BY "createdAt", "id" """
    )


def test_counts_are_all_or_of_ones_own_tenant(api, acme, key, tenant_key):
    running = publish_probe(acme)
    claim(running)
    publish_probe(acme)
    for _ in range(3):
        publish_probe(make_tenant())
    every, own = figures(api, key), figures(api, tenant_key)

    assert (every["ready"], every["running"], every["paused"]) == (4, 1, False)
    assert (own["ready"], own["delayed"], own["running"], own["dead"]) == (1, 0, 1, 0)
    assert own["oldestSeconds"] >= 0
    assert own["donePerSecond"] is None


@pytest.mark.parametrize(
    ("query", "body", "document"),
    [
        ("", {"queue": "maintenance"}, {"queue": "maintenance", "tenant": None, "job": None}),
        ("", {"job": "probe"}, {"queue": None, "tenant": None, "job": "probe"}),
        ("?tenant=acme", {}, {"queue": None, "tenant": "acme", "job": None}),
        (
            "?tenant=acme",
            {"queue": "maintenance", "job": "probe"},
            {"queue": "maintenance", "tenant": "acme", "job": "probe"},
        ),
    ],
)
def test_what_is_paused_is_not_started_until_it_is_resumed(api, acme, key, query, body, document):
    for _ in range(2):
        reply = api.ask("POST", f"/v1/queues/pause{query}", key=key, body=body)
        assert reply.document == document | {"paused": True}
    [pause] = api.ask("GET", "/v1/queues/pauses", key=key).document["items"]
    others = api.ask("GET", "/v1/queues/pauses?tenant=acme", key=key).document["items"]
    resumed = api.ask("POST", f"/v1/queues/resume{query}", key=key, body=body)

    assert {name: pause[name] for name in document} == document
    assert pause["heldBy"].startswith("key:aly_")
    assert len(others) == bool(query)
    assert resumed.document == document | {"paused": False}
    assert rows('SELECT * FROM "JobHold"') == []
    tenant = "acme" if query else None
    assert [(action, of, who[:8]) for action, of, who in acts()] == [
        ("jobs.pause", tenant, "key:aly_"),
        ("jobs.resume", tenant, "key:aly_"),
    ]


def test_a_repeated_pause_with_its_key_does_not_undo_a_resume(api, key):
    asked = {"key": key, "body": {"queue": "maintenance"}}
    first = api.ask("POST", "/v1/queues/pause", **asked, Idempotency_Key="x")
    api.ask("POST", "/v1/queues/resume", **asked)
    again = api.ask("POST", "/v1/queues/pause", **asked, Idempotency_Key="x")

    assert again.body == first.body
    assert rows('SELECT * FROM "JobHold"') == []


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("pause", {}, "invalid_request"),
        ("pause", {"queue": "maintenanc"}, "unknown_queue"),
        ("resume", {"job": "prob"}, "unknown_job"),
        ("pause", {"queue": "maintenance", "tenant": "acme"}, "invalid_request"),
    ],
)
def test_a_pause_of_nothing_is_refused(api, acme, key, path, body, code):
    reply = api.ask("POST", f"/v1/queues/{path}", key=key, body=body)
    assert (reply.status, reply.code) == (422, code)
    assert rows('SELECT * FROM "JobHold"') == []


def test_a_drain_ends_when_the_last_job_has_ended(api, acme, key, tenant_key):
    publish_probe(make_tenant())
    job_id = publish_probe(acme)
    path = "/v1/queues/drain?queue=maintenance"
    before = api.ask("GET", f"{path}&waitSeconds=0.1", key=tenant_key).document
    found = []

    def wait():
        deadline = time.monotonic() + patience(20)
        while time.monotonic() < deadline and not (found and found[-1]["drained"]):
            found.append(api.ask("GET", f"{path}&waitSeconds=4", key=tenant_key).document)

    waiting = threading.Thread(target=wait)
    waiting.start()
    [lease] = claim(job_id)
    with db.transaction(None, role=Role.RELAY) as conn:
        attempts.complete(conn, [(lease.job_id, lease.fence)])
    waiting.join()

    named = {"queue": "maintenance", "tenant": "acme", "job": None, "delayed": 0, "running": 0}
    assert before == named | {"ready": 1, "drained": False}
    assert found[-1] == named | {"ready": 0, "drained": True}
    assert api.ask("GET", path, key=key).document["ready"] == 1


def test_limits_are_set_replaced_listed_and_deleted(api, acme, key, tenant_key):
    body = {"job": "probe", "concurrencyMax": 3}
    made = api.ask("PUT", "/v1/queues/limits?tenant=acme", key=key, body=body).document
    again = api.ask(
        "PUT", "/v1/queues/limits?tenant=acme", key=key, body=body | {"ratePerS": 2.5}
    ).document
    of_tier = api.ask("PUT", "/v1/queues/limits", key=key, body={"tier": "FREE", "ratePerS": 9})
    listed = api.ask("GET", "/v1/queues/limits", key=key).document["items"]
    own = api.ask("GET", "/v1/queues/limits", key=tenant_key).document["items"]

    assert (made["tenant"], made["job"], made["concurrencyMax"], made["unit"]) == (
        "acme",
        "probe",
        3,
        "jobs",
    )
    assert again == made | {"ratePerS": 2.5}
    assert listed == [again, of_tier.document]
    assert own == [again]
    path = f"/v1/queues/limits/{of_tier.document['id']}"
    assert api.ask("DELETE", f"{path}?tenant=acme", key=key).status == 404
    assert api.ask("DELETE", path, key=key).document["deleted"]
    gone = api.ask("DELETE", path, key=key)
    assert (gone.status, gone.code) == (404, "limit_not_found")
    assert [action for action, _, _ in acts()] == ["limit.set"] * 3 + ["limit.delete"]


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("", {"concurrencyMax": 1}),
        ("", {"job": "probe"}),
        ("?tenant=acme", {"tier": "FREE", "concurrencyMax": 1}),
        ("", {"job": "probe", "concurrencyMax": 0}),
        ("", {"job": "prob", "concurrencyMax": 1}),
        ("", {"tier": "GOLD", "concurrencyMax": 1}),
    ],
)
def test_a_limit_that_is_none_is_refused(api, acme, key, query, body):
    assert api.ask("PUT", f"/v1/queues/limits{query}", key=key, body=body).status == 422
    assert rows('SELECT * FROM "JobLimit"') == []


@pytest.mark.parametrize(
    ("method", "path", "body", "scope"),
    [
        ("GET", "", None, "queues:read"),
        ("GET", "/pauses", None, "queues:read"),
        ("GET", "/drain?queue=maintenance", None, "queues:read"),
        ("GET", "/limits", None, "queues:read"),
        ("POST", "/pause", {"queue": "audit"}, "queues:write"),
        ("POST", "/resume", {"queue": "audit"}, "queues:write"),
        ("PUT", "/limits", {"job": "probe", "concurrencyMax": 1}, "queues:write"),
        ("DELETE", "/limits/x", None, "queues:write"),
    ],
)
def test_each_act_needs_its_scope(api, pool, method, path, body, scope):
    root = make_user(None, "root", role="SUPER_ADMIN")
    [other] = {"queues:read", "queues:write"} - {scope}
    refused = api.ask(method, f"/v1/queues{path}", key=make_key(None, root, other), body=body)
    assert (refused.status, refused.code) == (403, "scope_missing")
    having = make_key(None, root, scope)
    assert api.ask(method, f"/v1/queues{path}", key=having, body=body).status != 403
