"""/v1/dead: what the commands can, of one's own tenant, with who did it, and once."""

import threading

import pytest

from producers.ledger import bulk_actions, scheduler
from shared import db
from shared.db import Role
from shared.errors import DocumentRefused
from shared.queries.ledger import attempts
from tests.support.factories import claim, do, job, make_tenant, make_user, publish_probe, rows
from tests.support.http_api import make_key
from workers.process import settlement

ALL = {"all": True}


@pytest.fixture
def key(acme):
    """A key of an administrator of acme that may do everything with dead letters."""
    scopes = ("dead:read", "dead:replay", "dead:write")
    return make_key(acme, make_user(acme, "bob", role="ADMIN"), *scopes)


@pytest.fixture
def other(pool):
    """Another tenant."""
    return make_tenant("globex")


def kill(*job_ids, error="No text in 'a.pdf'."):
    for lease in claim(*job_ids):
        settlement.settle(lease, DocumentRefused("no_text", error))


def dead(tenant, count=1, **fields):
    ids = [publish_probe(tenant, **fields) for _ in range(count)]
    kill(*ids)
    return ids


def states(ids):
    return [job(job_id)["state"] for job_id in ids]


def acts():
    return rows(
        'SELECT "action", "tenantId", "userId", "metadata" FROM "AuditLog" '
        """WHERE "action" LIKE 'dead.%%' ORDER BY "createdAt", "id" """
    )


def page_by_page(monkeypatch, size):
    """Let a page have so many jobs, so that an action needs the scheduler."""
    monkeypatch.setattr("producers.ledger.dead_selection.PAGE", size)


def go_on():
    return bulk_actions.run_due(threading.Event())


def hurry():
    """Make what waits for its time due."""
    with db.transaction(None, role=Role.RELAY) as conn:
        conn.execute("""UPDATE "BulkAction" SET "nextAt" = now()""")


def test_letters_are_listed_in_pages_and_by_what_they_are(api, acme, key):
    ids = dead(acme, 5)
    kill(odd := publish_probe(acme, n=7), error="Page 7 is torn.")
    seen, path = [], "/v1/dead?limit=2"
    while path:
        page = api.ask("GET", path, key=key).document
        seen += [one["id"] for one in page["items"]]
        path = page["next"] and f"/v1/dead?limit=2&after={page['next']}"

    def found(query):
        return [one["id"] for one in api.ask("GET", f"/v1/dead?{query}", key=key).document["items"]]

    assert seen == [*ids, odd]
    assert found("error=torn") == found("where=n%3D7") == [odd]
    assert found("queue=ingest") == found("since=2999-01-01T00:00:00Z") == []
    groups = api.ask("GET", "/v1/dead/groups", key=key).document["items"]
    assert [one["count"] for one in groups] == [5, 1]
    assert found(f"fingerprint={groups[1]['fingerprint']}") == [odd]


def test_a_letter_shows_its_payload_and_every_attempt(api, acme, key):
    [job_id] = dead(acme, n=3)
    shown = api.ask("GET", f"/v1/dead/{job_id}", key=key).document

    assert (shown["id"], shown["payload"]["n"], shown["edits"]) == (job_id, 3, [])
    [attempt] = shown["history"]
    assert (attempt["attempt"], attempt["verdict"]) == (1, "refused")
    assert "DocumentRefused: no_text" in attempt["traceback"]
    assert api.ask("GET", f"/v1/dead/{shown['letterId']}", key=key).document == shown


def test_an_edited_letter_is_replayed_with_what_was_put(api, acme, key):
    [job_id] = dead(acme, n=3)
    payload = job(job_id)["payload"] | {"n": 4}
    edited = api.ask("PUT", f"/v1/dead/{job_id}/payload", key=key, body={"payload": payload})
    same = api.ask("PUT", f"/v1/dead/{job_id}/payload", key=key, body={"payload": payload})
    wrong = api.ask("PUT", f"/v1/dead/{job_id}/payload", key=key, body={"payload": {"x": 1}})
    replayed = api.ask("POST", f"/v1/dead/{job_id}/replay", key=key)

    changes = {"n": {"before": 3, "after": 4}}
    assert edited.document == {"id": job_id, "edited": True, "changes": changes}
    assert same.document == {"id": job_id, "edited": False, "changes": {}}
    assert (wrong.status, wrong.code) == (422, "payload_refused")
    assert replayed.document == {"id": job_id, "state": "PENDING"}
    [lease] = claim(job_id)
    assert lease.payload["n"] == 4
    assert [(action, who[:8]) for action, _, who, _ in acts()] == [
        ("dead.edit", "key:aly_"),
        ("dead.replay", "key:aly_"),
    ]


@pytest.mark.parametrize(
    ("verb", "state", "again"),
    [
        ("replay", "PENDING", "is not dead: it is PENDING."),
        ("discard", "CANCELLED", "is not dead: it is CANCELLED."),
    ],
)
def test_one_letter_is_moved_once_and_the_repeated_request_is_told_the_same(
    api, acme, key, verb, state, again
):
    [job_id] = dead(acme)
    path = f"/v1/dead/{job_id}/{verb}"
    first = api.ask("POST", path, key=key, Idempotency_Key="one")
    repeated = api.ask("POST", path, key=key, Idempotency_Key="one")
    other = api.ask("POST", path, key=key)

    assert first.document == {"id": job_id, "state": state}
    assert (repeated.status, repeated.body) == (200, first.body)
    assert repeated.headers["idempotent-replayed"] == "true"
    assert (other.status, other.code) == (409, "not_dead")
    assert other.document["detail"].endswith(again)
    assert states([job_id]) == [state]
    assert len(acts()) == 1


def test_a_replay_that_nobody_began_is_undone_and_one_that_began_is_not(api, acme, key):
    waits, began = dead(acme, 2)
    for one in (waits, began):
        api.ask("POST", f"/v1/dead/{one}/replay", key=key)
    claim(began)
    undone = api.ask("POST", f"/v1/dead/{waits}/undo", key=key)
    late = api.ask("POST", f"/v1/dead/{began}/undo", key=key)

    assert undone.document == {"id": waits, "state": "DEAD"}
    assert (late.status, late.code) == (409, "not_dead")
    assert states([waits, began]) == ["DEAD", "RUNNING"]


@pytest.mark.parametrize(
    ("path", "state"), [("replay", "PENDING"), ("discard", "CANCELLED"), ("undo", "DEAD")]
)
def test_many_are_moved_by_filters_and_nothing_of_others(api, acme, other, key, path, state):
    ours, theirs = dead(acme, 3), dead(other, 2)
    if path == "undo":
        with db.transaction(None, role=Role.RELAY) as conn:
            bulk_actions.dead_letters.replay(conn, ours + theirs)
    before = states(theirs)
    reply = api.ask("POST", f"/v1/dead/{path}", key=key, body={"job": "probe"})

    assert reply.status == 202
    shown = reply.document
    assert (shown["state"], shown["matched"], shown["done"]) == ("DONE", 3, 3)
    assert api.ask("GET", reply.headers["location"], key=key).document == shown
    assert states(ours) == [state] * 3
    assert states(theirs) == before
    [(action, tenant, _, what)] = acts()
    assert (action, tenant, what["filters"]) == (f"dead.{path}", acme, {"job": "probe"})


def test_many_are_counted_first(api, acme, other, key):
    ids = dead(acme, 3)
    dead(other, 2)
    for body in ({"job": "probe"}, {"ids": ids}, ALL):
        reply = api.ask("POST", "/v1/dead/replay", key=key, body=body | {"dryRun": True})
        assert (reply.status, reply.document) == (200, {"matched": 3, "dryRun": True})
    assert states(ids) == ["DEAD"] * 3


def test_more_than_a_page_goes_on_in_the_background_to_the_last(api, acme, key, monkeypatch):
    page_by_page(monkeypatch, 2)
    ids = dead(acme, 5)
    reply = api.ask("POST", "/v1/dead/discard", key=key, body=ALL, Idempotency_Key="x")
    again = api.ask("POST", "/v1/dead/discard", key=key, body=ALL, Idempotency_Key="x")
    born_later = dead(acme)
    at_first = states(ids)
    scheduler.put_sweep("actions")
    assert scheduler.sweep_if_due("actions", threading.Event())

    assert reply.document["state"] == "RUNNING"
    assert again.body == reply.body
    assert sorted(at_first) == ["CANCELLED"] * 2 + ["DEAD"] * 3
    assert states(ids) == ["CANCELLED"] * 5
    assert states(born_later) == ["DEAD"]
    shown = api.ask("GET", reply.headers["location"], key=key).document
    assert (shown["state"], shown["matched"], shown["done"]) == ("DONE", 5, 5)
    assert shown["finishedAt"] > shown["createdAt"]
    assert {who[:8] for _, _, who, _ in acts()} == {"key:aly_"}
    assert len(api.ask("GET", "/v1/dead/actions", key=key).document["items"]) == 1


def test_a_rate_lets_the_next_page_wait(api, acme, key):
    ids = dead(acme, 3)
    reply = api.ask("POST", "/v1/dead/replay", key=key, body=ALL | {"rate": 0.01})

    assert states(ids).count("PENDING") == 1
    assert go_on() == 0, "the next is due in 100 s"
    hurry()
    assert go_on() == 1
    assert states(ids).count("PENDING") == 2
    assert api.ask("GET", reply.headers["location"], key=key).document["done"] == 2


def end_well(*job_ids):
    for lease in claim(*job_ids):
        with db.transaction(None, role=Role.RELAY) as conn:
            attempts.complete(conn, [(lease.job_id, lease.fence)])


def test_canaries_that_end_well_let_the_others_follow(api, acme, key):
    ids = dead(acme, 5)
    reply = api.ask("POST", "/v1/dead/replay", key=key, body=ALL | {"canary": 2})
    hurry()
    go_on()
    assert states(ids) == ["PENDING"] * 2 + ["DEAD"] * 3
    end_well(*ids[:2])
    hurry()
    go_on()

    assert states(ids) == ["COMPLETED"] * 2 + ["PENDING"] * 3
    assert api.ask("GET", reply.headers["location"], key=key).document["state"] == "DONE"


def test_canaries_that_fail_again_stop_the_others(api, acme, key):
    ids = dead(acme, 5)
    reply = api.ask("POST", "/v1/dead/replay", key=key, body=ALL | {"canary": 2})
    kill(*ids[:2])
    hurry()
    go_on()

    shown = api.ask("GET", reply.headers["location"], key=key).document
    assert (shown["state"], shown["done"]) == ("STOPPED", 2)
    assert shown["error"].startswith("2 of 2 replayed jobs failed again")
    assert states(ids) == ["DEAD"] * 5


def test_fewer_letters_than_canaries_are_judged_too(api, acme, key):
    ids = dead(acme, 2)
    reply = api.ask("POST", "/v1/dead/replay", key=key, body=ALL | {"canary": 9})
    kill(*ids)
    hurry()
    go_on()

    assert reply.document["state"] == "RUNNING"
    shown = api.ask("GET", reply.headers["location"], key=key).document
    assert (shown["state"], shown["matched"], shown["done"]) == ("STOPPED", 2, 2)


def test_canaries_that_nobody_does_stop_the_others_in_time(api, acme, key):
    ids = dead(acme, 3)
    body = ALL | {"canary": 1, "canarySeconds": 60}
    reply = api.ask("POST", "/v1/dead/replay", key=key, body=body)
    with db.transaction(None, role=Role.RELAY) as conn:
        conn.execute("""UPDATE "BulkAction" SET "canaryUntil" = now(), "nextAt" = now()""")
    go_on()

    shown = api.ask("GET", reply.headers["location"], key=key).document
    assert shown["state"] == "STOPPED"
    assert shown["error"].startswith("The first 1 jobs have not all ended after 60 s")
    assert states(ids) == ["PENDING", "DEAD", "DEAD"]


def test_what_too_many_fail_of_is_stopped_with_what_it_did(api, acme, key, monkeypatch):
    page_by_page(monkeypatch, 10)
    ids = dead(acme, 25)
    reply = api.ask("POST", "/v1/dead/replay", key=key, body=ALL | {"failingMax": 0.5})
    kill(*ids[:10])
    go_on()

    shown = api.ask("GET", reply.headers["location"], key=key).document
    assert (shown["state"], shown["matched"], shown["done"]) == ("STOPPED", 20, 20)
    assert states(ids[20:]) == ["DEAD"] * 5


def test_an_action_is_stopped_once(api, acme, key, monkeypatch):
    page_by_page(monkeypatch, 1)
    ids = dead(acme, 3)
    place = api.ask("POST", "/v1/dead/replay", key=key, body=ALL).headers["location"]
    stopped = api.ask("POST", f"{place}/stop", key=key)
    again = api.ask("POST", f"{place}/stop", key=key)

    assert stopped.document["state"] == "STOPPED"
    assert stopped.document["error"].startswith("Stopped by key:aly_")
    assert (again.status, again.code) == (409, "bulk_action_ended")
    assert go_on() == 0
    assert states(ids) == ["PENDING", "DEAD", "DEAD"]


def test_a_page_that_fails_ends_the_action_and_is_told(api, acme, key, monkeypatch):
    page_by_page(monkeypatch, 1)
    ids = dead(acme, 2)
    place = api.ask("POST", "/v1/dead/discard", key=key, body=ALL).headers["location"]
    with db.transaction(None, role=Role.OWNER) as conn:
        conn.execute('ALTER TABLE "AuditLog" ADD CONSTRAINT full_up CHECK (false) NOT VALID')
    go_on()

    shown = api.ask("GET", place, key=key).document
    assert (shown["state"], shown["done"]) == ("FAILED", 1)
    assert "full_up" in shown["error"]
    assert states(ids) == ["CANCELLED", "DEAD"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "nothing_chosen"),
        ({"all": False, "where": []}, "nothing_chosen"),
        ({"error": "("}, "regex_refused"),
        ({"where": ["x"]}, "condition_refused"),
        ({"ids": ["nobody"]}, "job_not_found"),
        ({"all": True, "canary": 0}, "invalid_request"),
        ({"all": True, "rat": 1}, "invalid_request"),
    ],
)
def test_a_choice_that_is_none_is_refused_and_nothing_is_done(api, acme, key, body, code):
    ids = dead(acme)
    reply = api.ask("POST", "/v1/dead/replay", key=key, body=body)

    assert reply.code == code
    assert states(ids) == ["DEAD"]
    assert rows('SELECT * FROM "BulkAction"') == []


def test_others_letters_and_actions_do_not_exist(api, acme, other, key):
    [theirs] = dead(other)
    their_key = make_key(
        other, make_user(other, "eve", role="ADMIN"), "dead:read", "dead:replay", "dead:write"
    )
    place = api.ask("POST", "/v1/dead/replay", key=their_key, body={"rate": 1, "all": True})
    with db.transaction(None, role=Role.RELAY) as conn:
        bulk_actions.replays.undo(conn, [theirs])
    asked = [
        api.ask("GET", f"/v1/dead/{theirs}", key=key),
        api.ask("PUT", f"/v1/dead/{theirs}/payload", key=key, body={"payload": {"n": 1}}),
        *(api.ask("POST", f"/v1/dead/{theirs}/{it}", key=key) for it in ("replay", "discard")),
        api.ask("POST", f"/v1/dead/{theirs}/undo", key=key),
        api.ask("POST", "/v1/dead/replay", key=key, body={"ids": [theirs]}),
        api.ask("GET", place.headers["location"], key=key),
        api.ask("POST", f"{place.headers['location']}/stop", key=key),
    ]

    assert [reply.status for reply in asked] == [404] * len(asked)
    assert api.ask("GET", "/v1/dead", key=key).document["items"] == []
    assert api.ask("GET", "/v1/dead/groups", key=key).document["items"] == []
    assert api.ask("GET", "/v1/dead/actions", key=key).document["items"] == []
    assert states([theirs]) == ["DEAD"]


@pytest.mark.parametrize(
    ("method", "path", "body", "scope"),
    [
        ("GET", "", None, "dead:read"),
        ("GET", "/groups", None, "dead:read"),
        ("GET", "/x", None, "dead:read"),
        ("GET", "/actions", None, "dead:read"),
        ("GET", "/actions/x", None, "dead:read"),
        ("POST", "/actions/x/stop", None, "dead:replay"),
        ("PUT", "/x/payload", {"payload": {}}, "dead:write"),
        ("POST", "/x/replay", None, "dead:replay"),
        ("POST", "/x/discard", None, "dead:write"),
        ("POST", "/x/undo", None, "dead:replay"),
        ("POST", "/replay", ALL, "dead:replay"),
        ("POST", "/discard", ALL, "dead:write"),
        ("POST", "/undo", ALL, "dead:replay"),
    ],
)
def test_each_act_needs_its_scope(api, acme, method, path, body, scope):
    others = {"dead:read", "dead:replay", "dead:write"} - {scope}
    ada = make_user(acme, "ada", role="ADMIN")
    without, having = make_key(acme, ada, *others), make_key(acme, ada, scope)

    refused = api.ask(method, f"/v1/dead{path}", key=without, body=body)
    assert (refused.status, refused.code) == (403, "scope_missing")
    assert api.ask(method, f"/v1/dead{path}", key=having, body=body).status != 403


def test_one_who_may_act_for_all_replays_letters_of_all_and_is_repeatable(api, acme, other):
    root = make_key(None, make_user(None, "root", role="SUPER_ADMIN"), "dead:replay", "dead:read")
    ids = dead(acme) + dead(other)
    asked = {"key": root, "body": ALL, "Idempotency_Key": "x"}
    one = api.ask("POST", "/v1/dead/replay?tenant=globex", **asked)
    first = api.ask("POST", "/v1/dead/replay", **asked)
    again = api.ask("POST", "/v1/dead/replay", **asked)

    assert (one.document["done"], one.document["tenant"]) == (1, "globex")
    assert (first.document["done"], first.document["tenant"]) == (1, None)
    assert again.body == first.body
    assert states(ids) == ["PENDING"] * 2
    assert [tenant for _, tenant, _, _ in acts()] == [other, acme]
    for lease in claim(*ids):
        do(lease)
