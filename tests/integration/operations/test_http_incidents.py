"""/v1/incidents and /v1/audit: of one's own tenant, each act with who did it."""

import pytest

from producers.queries.operations import incidents
from producers.queries.operations.incidents import NewIncident
from shared import db
from shared.db import Role
from shared.queries.operations import audit_logs
from shared.queries.operations.audit_logs import AuditEntry
from tests.support.factories import make_tenant, make_user, rows
from tests.support.http_api import make_key


@pytest.fixture
def key(acme):
    """A key of an administrator of acme that may do everything with incidents."""
    bob = make_user(acme, "bob", role="ADMIN")
    return make_key(acme, bob, "incidents:read", "incidents:write", "audit:read")


@pytest.fixture
def root(pool):
    """A key of one who may act for all tenants."""
    user = make_user(None, "root", role="SUPER_ADMIN")
    return make_key(None, user, "incidents:read", "incidents:write", "audit:read")


def wrong(cause, tenant=None):
    """Open an incident. Returns its id."""
    new = NewIncident(tenant, cause, f"Wrong: {cause}", "It is so.", "MEDIUM", 1.0)
    with db.transaction(None, role=Role.RELAY) as conn:
        incidents.raise_incident(conn, new)
    return rows('SELECT "id" FROM "Incident" ORDER BY "id" DESC LIMIT 1')[0][0]


def listed(api, key, query=""):
    found = api.ask("GET", f"/v1/incidents{query}", key=key).document["items"]
    return [one["id"] for one in found]


def test_incidents_are_listed_by_whose_they_are(api, acme, key, root):
    of_system, ours = wrong("lag:ingest"), wrong("budget:b1", acme)
    theirs = wrong("budget:b2", make_tenant("globex"))

    assert listed(api, key) == [ours]
    assert listed(api, key, "?system=true") == []
    assert listed(api, root) == [theirs, ours, of_system]
    assert listed(api, root, "?system=true") == [of_system]
    assert listed(api, root, "?tenant=acme") == [ours]
    for hidden in (of_system, theirs):
        path = f"/v1/incidents/{hidden}"
        asked = [
            api.ask("GET", path, key=key),
            api.ask("POST", f"{path}/take", key=key),
            api.ask("POST", f"{path}/close", key=key, body={"reason": "x"}),
        ]
        assert [(one.status, one.code) for one in asked] == [(404, "incident_not_found")] * 3
    assert rows("""SELECT count(*) FROM "Incident" WHERE "status" = 'OPEN'""") == [(3,)]


def test_an_incident_is_taken_and_closed_once_and_each_act_is_noted(api, acme, key):
    path = f"/v1/incidents/{wrong('budget:b1', acme)}"
    taken = api.ask("POST", f"{path}/take", key=key)
    reason = {"reason": "limit raised"}
    closed = api.ask("POST", f"{path}/close", key=key, body=reason, Idempotency_Key="x")
    again = api.ask("POST", f"{path}/close", key=key, body=reason, Idempotency_Key="x")
    late = api.ask("POST", f"{path}/take", key=key)
    shown = api.ask("GET", path, key=key).document

    assert (taken.document["status"], closed.document["status"]) == ("INVESTIGATING", "CLOSED")
    assert again.body == closed.body
    assert (late.status, late.code) == (409, "incident_over")
    assert [one["event"] for one in shown.pop("notices")] == ["opened", "resolved"]
    assert shown == closed.document
    assert shown["handledBy"].startswith("key:aly_")
    assert listed(api, key, "?open=true") == []
    found = api.ask("GET", "/v1/audit?resource=Incident", key=key).document["items"]
    assert [(one["action"], one["actor"][:8]) for one in found] == [
        ("incident.close", "key:aly_"),
        ("incident.take", "key:aly_"),
    ]
    assert found[0]["what"]["reason"] == "limit raised"


def test_pages_have_every_incident_once_newest_first(api, acme, key):
    ids = [wrong(f"budget:b{n}", acme) for n in range(5)]
    with db.transaction(None, role=Role.OWNER) as conn:  # some of one moment
        conn.execute("""UPDATE "Incident" SET "detectedAt" = '2026-11-30 12:00'
                        WHERE "cause" < 'budget:b3'""")
    seen, path = [], "/v1/incidents?limit=2"
    while path:
        page = api.ask("GET", path, key=key).document
        seen += [one["id"] for one in page["items"]]
        path = page["next"] and f"/v1/incidents?limit=2&after={page['next']}"

    assert seen == listed(api, key)
    assert sorted(seen) == sorted(ids)


@pytest.mark.parametrize("reason", ["", "  ", "x" * 2_001])
def test_a_close_needs_a_reason(api, acme, key, reason):
    path = f"/v1/incidents/{wrong('budget:b1', acme)}/close"
    assert api.ask("POST", path, key=key, body={"reason": reason}).status == 422


@pytest.mark.parametrize(
    ("method", "path", "body", "scope"),
    [
        ("GET", "incidents", None, "incidents:read"),
        ("GET", "incidents/x", None, "incidents:read"),
        ("POST", "incidents/x/take", None, "incidents:write"),
        ("POST", "incidents/x/close", {"reason": "x"}, "incidents:write"),
        ("GET", "audit", None, "audit:read"),
    ],
)
def test_each_act_needs_its_scope(api, acme, method, path, body, scope):
    ada = make_user(acme, "ada", role="ADMIN")
    others = {"incidents:read", "incidents:write", "audit:read"} - {scope}
    refused = api.ask(method, f"/v1/{path}", key=make_key(acme, ada, *others), body=body)
    reply = api.ask(method, f"/v1/{path}", key=make_key(acme, ada, scope), body=body)

    assert (refused.status, refused.code) == (403, "scope_missing")
    assert reply.status in {200, 404}


# ---- the audit log


def note(tenant_id, *actions, actor="cli:ada", resource_id="j1"):
    for action in actions:
        act = AuditEntry(tenant_id, actor, action, "Job", resource_id, {"count": 1})
        with db.transaction(None, role=Role.RELAY) as conn:
            audit_logs.insert_acts(conn, [act])


def actions(api, key, query=""):
    found = api.ask("GET", f"/v1/audit?resource=Job{query}", key=key).document["items"]
    return [one["action"] for one in found]


def test_entries_are_of_ones_own_tenant_or_of_the_system(api, acme, key, root):
    note(acme, "jobs.one", "jobs.two")
    note(make_tenant("globex"), "jobs.theirs")
    note(None, "jobs.system")

    assert actions(api, key) == ["jobs.two", "jobs.one"]
    assert actions(api, root) == ["jobs.system"]
    assert actions(api, root, "&tenant=globex") == ["jobs.theirs"]


def test_entries_are_found_by_who_what_which_and_when(api, acme, key):
    note(acme, "jobs.one")
    note(acme, "jobs.two", actor="key:aly_1", resource_id="j2")
    note(acme, "jobs.three", actor="key:aly_1")

    assert actions(api, key, "&actor=key:aly_1") == ["jobs.three", "jobs.two"]
    assert actions(api, key, "&action=jobs.one") == ["jobs.one"]
    assert actions(api, key, "&resourceId=j2") == ["jobs.two"]
    assert actions(api, key, "&since=2999-01-01T00:00:00Z") == []
    assert actions(api, key, "&until=2999-01-01T00:00:00%2B03:00")[-1] == "jobs.one"
    assert api.ask("GET", "/v1/audit?resource=Nothing", key=key).document["items"] == []


def test_pages_have_every_entry_once_newest_first(api, acme, key):
    names = [f"jobs.{n}" for n in range(7)]
    note(acme, *names)
    seen, after = [], ""
    while after is not None:
        path = f"/v1/audit?resource=Job&limit=3{after and f'&after={after}'}"
        page = api.ask("GET", path, key=key).document
        seen += [one["action"] for one in page["items"]]
        after = page["next"]

    assert seen == names[::-1]
