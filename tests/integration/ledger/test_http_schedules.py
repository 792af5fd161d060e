"""/v1/schedules: put, paused, resumed and deleted; of one's own tenant."""

import pytest

from producers.ledger import scheduler, schedules
from shared import db
from shared.db import Role
from tests.support.factories import make_tenant, make_user, rows
from tests.support.http_api import make_key

BODY = {"cron": "0 7 * * MON-FRI", "timeZone": "Europe/Istanbul", "job": "probe"}
PATH = "/v1/schedules/heartbeat"


@pytest.fixture
def key(acme):
    """A key of an administrator of acme that may do everything with schedules."""
    bob = make_user(acme, "bob", role="ADMIN")
    return make_key(acme, bob, "schedules:read", "schedules:write")


def hurry():
    """Make all slots due."""
    with db.transaction(None, role=Role.RELAY) as conn:
        conn.execute("""UPDATE "Schedule" SET "slotAt" = now(), "nextAt" = now()""")


def acts():
    return rows(
        """SELECT "action", "userId", "metadata" FROM "AuditLog" WHERE "resource" = 'Schedule'
           ORDER BY "createdAt", "id" """
    )


def test_a_schedule_is_put_shown_and_replaced_with_who_did_it(api, key):
    body = BODY | {"payload": {"n": 3}, "jitterSeconds": 30, "missed": "skip"}
    made = api.ask("PUT", PATH, key=key, body=body, Idempotency_Key="x")
    again = api.ask("PUT", PATH, key=key, body=body, Idempotency_Key="x")
    shown = api.ask("GET", PATH, key=key).document
    replaced = api.ask("PUT", PATH, key=key, body=BODY | {"cron": "0 8 * * *"}).document

    assert (made.status, again.body) == (200, made.body)
    assert shown == made.document
    assert (shown["tenant"], shown["name"], shown["jitterSeconds"], shown["missed"]) == (
        "acme",
        "heartbeat",
        30,
        "skip",
    )
    assert shown["payload"] == {"n": 3}
    assert (replaced["id"], replaced["cron"], replaced["payload"]) == (
        shown["id"],
        "0 8 * * *",
        {},
    )
    assert [(action, who[:8]) for action, who, _ in acts()] == [("schedule.put", "key:aly_")] * 2
    assert "payload" not in acts()[0][2]


def test_a_paused_schedule_publishes_nothing_until_it_is_resumed(api, key):
    api.ask("PUT", PATH, key=key, body=BODY)
    paused = api.ask("POST", f"{PATH}/pause", key=key)
    api.ask("POST", f"{PATH}/pause", key=key)
    hurry()
    assert schedules.run_due() == 0
    resumed = api.ask("POST", f"{PATH}/resume", key=key)
    assert schedules.run_due() == 0, "slots meanwhile are skipped"
    hurry()
    assert schedules.run_due() == 1

    assert (paused.document["enabled"], resumed.document["enabled"]) == (False, True)
    assert len(acts()) == 3
    assert rows('SELECT "producer" FROM "Job"') == [("schedule:heartbeat",)]


def test_a_schedule_whose_payload_fits_no_more_is_paused_and_not_resumed(api, key):
    api.ask("PUT", PATH, key=key, body=BODY)
    rows("""UPDATE "Schedule" SET "payload" = '{"gone": 1}', "cron" = 'broken'
            WHERE "name" = 'heartbeat' RETURNING 1""")
    paused = api.ask("POST", f"{PATH}/pause", key=key)
    resumed = api.ask("POST", f"{PATH}/resume", key=key)

    assert (paused.status, paused.document["enabled"]) == (200, False)
    assert (resumed.status, resumed.code) == (422, "payload_refused")
    assert [action for action, _, _ in acts()] == ["schedule.put", "schedule.pause"]


def test_a_deleted_schedule_is_gone(api, key):
    made = api.ask("PUT", PATH, key=key, body=BODY).document
    gone = api.ask("DELETE", PATH, key=key, Idempotency_Key="x")
    again = api.ask("DELETE", PATH, key=key, Idempotency_Key="x")

    assert gone.document == {"id": made["id"], "name": "heartbeat", "deleted": True}
    assert again.body == gone.body
    for reply in (
        api.ask("GET", PATH, key=key),
        api.ask("DELETE", PATH, key=key),
        api.ask("POST", f"{PATH}/pause", key=key),
    ):
        assert (reply.status, reply.code) == (404, "schedule_not_found")


def test_pages_of_a_list_have_every_schedule_once_with_the_sweeps_for_those_of_all(api, acme, key):
    globex = make_tenant("globex")
    eve = make_key(globex, make_user(globex, "eve", role="ADMIN"), "schedules:write")
    root = make_key(None, make_user(None, "root", role="SUPER_ADMIN"), "schedules:read")
    scheduler.put_sweep("answers")
    for name in ("c", "a", "b"):
        api.ask("PUT", f"/v1/schedules/{name}", key=key, body=BODY)
    api.ask("PUT", "/v1/schedules/a", key=eve, body=BODY)

    def listed(reader):
        seen, path = [], "/v1/schedules?limit=2"
        while path:
            page = api.ask("GET", path, key=reader).document
            seen += [(one["tenant"], one["name"]) for one in page["items"]]
            path = page["next"] and f"/v1/schedules?limit=2&after={page['next']}"
        return seen

    own = [("acme", "a"), ("acme", "b"), ("acme", "c")]
    assert listed(key) == own
    assert listed(root) == [(None, "answers"), *own, ("globex", "a")]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (BODY | {"cron": "* *"}, "cron_refused"),
        (BODY | {"timeZone": "Europe/Istanbull"}, "time_zone_unknown"),
        (BODY | {"job": "prob"}, "unknown_job"),
        (BODY | {"job": "run_step"}, "publisher_refused"),
        (BODY | {"payload": {"n": "x"}}, "payload_refused"),
        (BODY | {"job": None}, "invalid_request"),
        (BODY | {"input": {}}, "invalid_request"),
        (BODY | {"job": None, "workflow": "nightly"}, "workflow_not_found"),
        (BODY | {"job": None, "workflow": "nightly", "payload": {}}, "invalid_request"),
        (BODY | {"jitterSeconds": -1}, "invalid_request"),
    ],
)
def test_a_schedule_that_is_none_is_refused(api, key, body, code):
    assert api.ask("PUT", PATH, key=key, body=body).code == code
    assert rows('SELECT * FROM "Schedule"') == []
    assert acts() == []


@pytest.mark.parametrize(
    ("method", "path", "body", "scope"),
    [
        ("GET", "", None, "schedules:read"),
        ("GET", "/theirs", None, "schedules:read"),
        ("PUT", "/ours", BODY, "schedules:write"),
        ("POST", "/theirs/pause", None, "schedules:write"),
        ("POST", "/theirs/resume", None, "schedules:write"),
        ("DELETE", "/theirs", None, "schedules:write"),
    ],
)
def test_each_act_needs_its_scope_and_others_schedules_do_not_exist(
    api, acme, method, path, body, scope
):
    globex = make_tenant("globex")
    eve = make_key(globex, make_user(globex, "eve", role="ADMIN"), "schedules:write")
    api.ask("PUT", "/v1/schedules/theirs", key=eve, body=BODY)
    [other] = {"schedules:read", "schedules:write"} - {scope}
    ada = make_user(acme, "ada", role="ADMIN")

    refused = api.ask(method, f"/v1/schedules{path}", key=make_key(acme, ada, other), body=body)
    reply = api.ask(method, f"/v1/schedules{path}", key=make_key(acme, ada, scope), body=body)
    assert (refused.status, refused.code) == (403, "scope_missing")
    assert reply.status == (404 if "theirs" in path else 200)
    if not path:
        assert reply.document["items"] == []
    assert rows("""SELECT "enabled" FROM "Schedule" WHERE "name" = 'theirs'""") == [(True,)]
