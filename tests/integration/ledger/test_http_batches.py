"""/v1/batches: published whole or not at all, followed, sealed, cancelled; of one's own tenant."""

import json

import pytest

from producers.ledger import event_counters
from shared import db
from shared.db import Role
from shared.queries.ledger import attempts
from tests.support.factories import claim, job, make_tenant, make_user, rows
from tests.support.http_api import make_key

BATCH = {
    "name": "nightly",
    "job": "probe",
    "jobs": [{"payload": {"n": n}} for n in range(3)],
    "then": {"job": "probe", "payload": {"n": 99, "note": "after"}},
}


@pytest.fixture
def key(acme):
    """A key of an administrator of acme that may do everything with jobs."""
    return make_key(acme, make_user(acme, "bob", role="ADMIN"), "jobs:read", "jobs:write")


def fold():
    """Count what has ended, as the relay does."""
    with db.transaction(None, role=Role.RELAY, durable=False) as conn:
        event_counters.fold(conn)


def lines(*documents):
    return "\n".join(map(json.dumps, documents)).encode()


def payloads():
    return [n for (n,) in rows("""SELECT ("payload" ->> 'n')::int FROM "Job" ORDER BY 1""")]


def test_a_batch_is_published_once_with_its_jobs_and_follow_up(api, key):
    asked = {"key": key, "body": BATCH, "Idempotency_Key": "x"}
    reply = api.ask("POST", "/v1/batches", **asked)
    again = api.ask("POST", "/v1/batches", **asked)
    shown = api.ask("GET", reply.headers["location"], key=key).document

    assert (reply.status, again.body) == (202, reply.body)
    assert (shown["tenant"], shown["state"], shown["total"], shown["waiting"]) == (
        "acme",
        "SEALED",
        3,
        3,
    )
    assert reply.document == shown | {"duplicates": 0, "existed": False}
    assert payloads() == [0, 1, 2]
    [(producer,)] = rows('SELECT DISTINCT "producer" FROM "Job"')
    assert producer.startswith("key:aly_")


def test_lines_are_a_batch_and_its_jobs_and_one_invalid_line_refuses_all(api, key):
    head, jobs = {"name": "lines", "job": "probe"}, [{"payload": {"n": n}} for n in range(50)]
    asked = {"key": key, "Content_Type": "application/x-ndjson"}
    reply = api.ask("POST", "/v1/batches", body=lines(head, *jobs), **asked)
    wrong = api.ask(
        "POST", "/v1/batches", body=lines(head, {"payload": {"n": 50}}, {"pay": {}}), **asked
    )
    headless = api.ask("POST", "/v1/batches", body=lines(*jobs), **asked)

    assert reply.document["total"] == 50
    assert [one["pointer"] for one in wrong.document["errors"]] == ["/lines/3"]
    assert [one["pointer"] for one in headless.document["errors"]] == ["/lines/1"]
    assert payloads() == [*range(50)]
    assert rows('SELECT count(*) FROM "JobBatch"') == [(1,)]


def test_an_id_of_ones_own_is_published_once(api, key):
    first = api.ask("POST", "/v1/batches", key=key, body=BATCH | {"id": "2026-11-30"})
    other = BATCH | {"id": "2026-11-30", "jobs": [{"payload": {"n": 7}}]}
    second = api.ask("POST", "/v1/batches", key=key, body=other)

    assert first.headers["location"] == "/v1/batches/2026-11-30"
    assert (second.document["existed"], second.document["total"]) == (True, 3)
    assert payloads() == [0, 1, 2]


def test_an_id_is_told_as_an_address_and_has_no_line_break(api, key):
    broken = api.ask("POST", "/v1/batches", key=key, body=BATCH | {"id": "a\r\nX: 1"})
    made = api.ask("POST", "/v1/batches", key=key, body=BATCH | {"id": "month 1é"})

    assert (broken.status, broken.code) == (422, "invalid_request")
    assert made.headers["location"] == "/v1/batches/month%201%C3%A9"
    assert api.ask("GET", made.headers["location"], key=key).document["id"] == "month 1é"


def test_an_open_batch_takes_jobs_until_it_is_sealed(api, key):
    place = api.ask(
        "POST", "/v1/batches", key=key, body=BATCH | {"open": True, "jobs": []}
    ).headers["location"]
    more = {"jobs": [{"job": "probe", "payload": {"n": n}} for n in (1, 2)]}
    added = api.ask("POST", f"{place}/jobs", key=key, body=more, Idempotency_Key="x")
    again = api.ask("POST", f"{place}/jobs", key=key, body=more, Idempotency_Key="x")
    nameless = api.ask("POST", f"{place}/jobs", key=key, body={"jobs": [{"payload": {}}]})
    sealed = api.ask("POST", f"{place}/seal", key=key)
    late = api.ask("POST", f"{place}/jobs", key=key, body=more)

    assert (added.document["state"], added.document["total"]) == ("OPEN", 2)
    assert again.body == added.body
    assert nameless.code == "invalid_request"
    assert sealed.document["state"] == "SEALED"
    assert (late.status, late.code) == (409, "batch_sealed")
    assert payloads() == [1, 2]


def test_an_empty_batch_finishes_at_once_and_is_followed(api, key):
    reply = api.ask("POST", "/v1/batches", key=key, body=BATCH | {"jobs": []})
    then = job(reply.document["thenId"])

    assert reply.document["state"] == "FINISHED"
    assert (then["payload"]["n"], then["payload"]["note"]) == (99, "after")


def test_a_batch_shows_its_progress_to_its_end(api, key):
    place = api.ask("POST", "/v1/batches", key=key, body=BATCH).headers["location"]
    first, *others = [row[0] for row in rows('SELECT "id" FROM "Job" ORDER BY "id"')]
    found = []
    for ended in ([first], others):
        held = [(lease.job_id, lease.fence) for lease in claim(*ended)]
        with db.transaction(None, role=Role.RELAY) as conn:
            attempts.complete(conn, held)
        fold()
        found.append(api.ask("GET", place, key=key).document)

    counts = [(one["state"], one["completed"], one["waiting"]) for one in found]
    assert counts == [("SEALED", 1, 2), ("FINISHED", 3, 0)]
    assert job(found[1]["thenId"])["payload"]["n"] == 99


def test_pages_of_a_list_have_every_batch_once_newest_first(api, key):
    made = [
        api.ask("POST", "/v1/batches", key=key, body=BATCH | {"jobs": [], "open": n % 2 == 0})
        for n in range(5)
    ]
    seen, path = [], "/v1/batches?limit=2"
    while path:
        page = api.ask("GET", path, key=key).document
        seen += [one["id"] for one in page["items"]]
        path = page["next"] and f"/v1/batches?limit=2&after={page['next']}"
    unfinished = api.ask("GET", "/v1/batches?unfinished=true", key=key).document["items"]

    ids = [one.document["id"] for one in made]
    assert seen == ids[::-1]
    assert [one["id"] for one in unfinished] == ids[::-2]


def test_a_cancelled_batch_has_no_job_left(api, acme, key):
    place = api.ask("POST", "/v1/batches", key=key, body=BATCH).headers["location"]
    api.ask("POST", "/v1/jobs", key=key, body={"job": "probe", "payload": {"n": 50}})
    reply = api.ask("POST", f"{place}/cancel", key=key)

    assert (reply.status, reply.document["state"], reply.document["done"]) == (202, "DONE", 3)
    assert api.ask("GET", reply.headers["location"], key=key).document == reply.document
    found = rows('SELECT "state", count(*) FROM "Job" GROUP BY 1 ORDER BY 1')
    assert found == [("CANCELLED", 3), ("PENDING", 1)]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (BATCH | {"name": ""}, "invalid_request"),
        (BATCH | {"job": None}, "invalid_request"),
        (BATCH | {"job": "prob"}, "unknown_job"),
        (BATCH | {"job": "run_step"}, "publisher_refused"),
        (BATCH | {"then": {"job": "run_step"}}, "publisher_refused"),
        (BATCH | {"then": {"job": "probe", "payload": {"n": "x"}}}, "payload_refused"),
        (BATCH | {"id": "a/b"}, "invalid_request"),
    ],
)
def test_a_batch_that_is_none_is_refused_whole(api, key, body, code):
    assert api.ask("POST", "/v1/batches", key=key, body=body).code == code
    assert rows('SELECT * FROM "JobBatch"') == []
    assert payloads() == []


@pytest.mark.parametrize(
    ("method", "path", "body", "scope"),
    [
        ("POST", "", BATCH, "jobs:write"),
        ("GET", "", None, "jobs:read"),
        ("GET", "/theirs", None, "jobs:read"),
        ("POST", "/theirs/jobs", {"jobs": []}, "jobs:write"),
        ("POST", "/theirs/seal", None, "jobs:write"),
        ("POST", "/theirs/cancel", None, "jobs:write"),
    ],
)
def test_each_act_needs_its_scope_and_others_batches_do_not_exist(
    api, acme, method, path, body, scope
):
    globex = make_tenant("globex")
    eve = make_key(globex, make_user(globex, "eve", role="ADMIN"), "jobs:write")
    api.ask("POST", "/v1/batches", key=eve, body=BATCH | {"id": "theirs", "open": True})
    [other] = {"jobs:read", "jobs:write"} - {scope}
    ada = make_user(acme, "ada", role="ADMIN")

    refused = api.ask(method, f"/v1/batches{path}", key=make_key(acme, ada, other), body=body)
    reply = api.ask(method, f"/v1/batches{path}", key=make_key(acme, ada, scope), body=body)
    assert (refused.status, refused.code) == (403, "scope_missing")
    assert reply.status == (404 if path else 202 if method == "POST" else 200)
    if method == "GET" and not path:
        assert reply.document["items"] == []
    found = rows(
        """SELECT "sealedAt", (SELECT count(*) FROM "Job" WHERE "state" = 'PENDING'
                               AND "tenantId" = 'globex')
           FROM "JobBatch" WHERE "tenantId" = 'globex' """
    )
    assert found == [(None, 3)]
