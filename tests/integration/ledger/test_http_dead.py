"""/v1/dead: what the commands can, of one's own tenant, with who did it, and once."""

from urllib.parse import quote

import pytest

from producers.ledger import bulk_actions, dead_edit, dead_selection
from shared import db
from shared.contracts import DeliverWebhook
from shared.db import Role
from shared.errors import EditRefused
from tests.support.dead_jobs import dead, kill, states
from tests.support.factories import (
    claim,
    do,
    job,
    make_tenant,
    make_user,
    publish_jobs,
    publish_probe,
    rows,
)
from tests.support.http_api import make_key

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


def acts():
    return rows(
        'SELECT "action", "tenantId", "userId", "metadata" FROM "AuditLog" '
        """WHERE "action" LIKE 'dead.%%' ORDER BY "createdAt", "id" """
    )


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


def test_a_regular_expression_takes_its_time_alone_and_not_for_long(api, acme, key, monkeypatch):
    dead(acme)
    monkeypatch.setattr(dead_selection, "COMPARED_S", 0.2)
    slow = quote("((.*){1,200}(.*){1,200}){1,3}", safe="")
    too_long = api.ask("GET", f"/v1/dead?error={slow}", key=key)
    with dead_selection._comparing:
        busy = api.ask("GET", "/v1/dead/groups?error=refused", key=key)
        plain = api.ask("GET", "/v1/dead/groups", key=key)
    again = api.ask("GET", "/v1/dead?error=refused", key=key)

    assert (too_long.status, too_long.code) == (422, "regex_refused")
    assert (busy.status, busy.code, busy.headers["retry-after"]) == (503, "regex_busy", "5")
    assert (plain.status, again.status) == (200, 200)


def test_a_dead_job_of_the_system_is_not_rewritten_from_outside(api, acme, key):
    [job_id] = publish_jobs(acme, [DeliverWebhook(webhook_id="w", event={"id": "1-1"})])
    kill(job_id)
    body = {"payload": {"webhook_id": "w", "event": {"id": "1-1", "what": "RUN_COMPLETED"}}}
    reply = api.ask("PUT", f"/v1/dead/{job_id}/payload", key=key, body=body)

    assert (reply.status, reply.code) == (403, "publisher_refused")
    assert job(job_id)["payload"]["event"] == {"id": "1-1"}


def test_an_edit_writes_over_what_was_read_and_over_nothing_newer(acme):
    [job_id] = dead(acme, n=3)
    payload = job(job_id)["payload"]
    with db.transaction(None, role=Role.RELAY) as conn:
        read = dead_edit.found(conn, job_id)
        dead_edit.edit(conn, job_id, payload | {"n": 4})
        with pytest.raises(EditRefused, match="changed or replayed concurrently"):
            dead_edit.change(conn, *read, payload | {"n": 5})

    assert job(job_id)["payload"]["n"] == 4


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


def test_a_condition_that_no_payload_can_meet_is_refused(api, key):
    for where in ('a="\\u0000"', 'a="\\ud800"'):
        reply = api.ask("POST", "/v1/dead/replay", key=key, body={"where": [where], "dryRun": True})
        assert (reply.status, reply.code) == (422, "condition_refused"), where
