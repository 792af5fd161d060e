"""/v1/workflows and /v1/runs: definitions and runs, as services use them."""

import pytest

from tests.support import workflow_texts
from tests.support.factories import do_all, make_tenant, make_user, rows
from tests.support.http_api import make_key

SCOPES = ("workflows:read", "workflows:write", "runs:read", "runs:write")
YAML = {"Content_Type": "application/yaml"}
ASK = workflow_texts.ASK.encode()


@pytest.fixture
def key(acme):
    """A key of acme for everything about workflows."""
    return make_key(acme, make_user(acme, "bob", role="ADMIN"), *SCOPES)


@pytest.fixture
def other():
    """The same of another tenant."""
    tenant = make_tenant("other")
    return make_key(tenant, make_user(tenant, "eve", role="ADMIN"), *SCOPES)


@pytest.fixture
def ask(api, key):
    """Send a request with the key of acme. Returns status and document."""

    def send(method, path, body=None, **headers):
        reply = api.ask(method, path, key=key, body=body, **headers)
        return reply.status, reply.document

    return send


@pytest.fixture
def run_id(ask):
    """A run that waits for a signal and for an approval."""
    assert ask("POST", "/v1/workflows", ASK, **YAML)[0] == 201
    status, started = ask("POST", "/v1/runs", {"workflow": "ask"})
    assert status == 202
    do_all()
    return started["id"]


def states(ask, run_id):
    return {one["name"]: one["state"] for one in ask("GET", f"/v1/runs/{run_id}")[1]["steps"]}


def test_a_definition_is_put_in_versions_shown_and_compared(ask):
    status, first = ask("POST", "/v1/workflows", ASK, **YAML)
    again = ask("POST", "/v1/workflows", ASK, **YAML)
    changed = ASK.replace(b"value: 1", b"value: 2")
    _, second = ask("POST", "/v1/workflows", changed, **YAML)

    assert (status, first["name"], first["version"], first["changed"]) == (201, "ask", 1, True)
    assert (again[0], again[1]["id"], again[1]["changed"]) == (200, first["id"], False)
    assert second["version"] == 2
    assert [one["version"] for one in ask("GET", "/v1/workflows")[1]["items"]] == [2]
    versions = ask("GET", "/v1/workflows/ask/versions")[1]["items"]
    assert [one["version"] for one in versions] == [2, 1]
    shown = ask("GET", "/v1/workflows/ask?version=1")[1]
    assert shown["definition"]["steps"]["first"]["with"] == {"value": 1}
    assert ask("GET", "/v1/workflows/ask")[1]["definition"]["steps"]["first"]["with"] == {
        "value": 2
    }
    difference = ask("GET", "/v1/workflows/ask/difference?before=1&after=2")[1]
    assert difference["changed"] == {"first": {"with": [{"value": 1}, {"value": 2}]}}
    assert ask("GET", "/v1/workflows/ask?version=3")[0] == 404
    assert ask("GET", "/v1/workflows/none/versions")[0] == 404
    assert rows("""SELECT count(*) FROM "AuditLog" WHERE "action" = 'workflow.put'""") == [(2,)]


def test_a_definition_is_checked_with_every_fault(ask):
    bad = b"name: ask\nsteps:\n  a: {uses: nope}\nwrong: 1\n"
    checked = ask("POST", "/v1/definitions/validate", bad, **YAML)
    status, problem = ask("POST", "/v1/workflows", bad, **YAML)

    assert checked[0] == 200
    assert (checked[1]["ok"], checked[1]["name"]) == (False, None)
    assert checked[1]["faults"][0].startswith("body:4:1: unknown_field")
    assert (status, problem["code"]) == (422, "definition_refused")
    assert [one["detail"] for one in problem["errors"]] == checked[1]["faults"]
    good = ask("POST", "/v1/definitions/validate", ASK, **YAML)[1]
    assert (good["ok"], good["name"], good["steps"]) == (True, "ask", 4)
    assert ask("POST", "/v1/workflows", b"\xff", **YAML)[0] == 422
    assert ask("GET", "/v1/definitions/schema")[1]["title"] == "Ailydian workflow"
    assert rows('SELECT * FROM "Workflow"') == []


def test_a_run_is_started_signalled_and_approved_to_its_end(ask, run_id):
    before = ask("GET", f"/v1/runs/{run_id}")[1]
    signalled = ask("POST", f"/v1/runs/{run_id}/signal", {"name": "paid", "payload": {"sum": 7}})
    decision = {"step": "review", "comment": "fine"}
    approved = ask("POST", f"/v1/runs/{run_id}/approve", decision)
    do_all()
    ended = ask("GET", f"/v1/runs/{run_id}")[1]

    assert (before["state"], before["stepsTotal"]) == ("running", 4)
    waiting = {one["name"]: one["waits"] for one in before["steps"] if one["waits"]}
    assert (waiting["paid"]["for"], waiting["review"]["for"]) == ("signal", "approval")
    assert signalled == approved == (200, {"id": run_id, "state": "running"})
    assert (ended["state"], ended["output"]) == ("completed", {"sum": 7})
    review = ask("GET", f"/v1/runs/{run_id}/steps/review")[1]
    assert (review["state"], review["output"]["comment"]) == ("completed", "fine")
    assert review["output"]["by"].startswith("key:aly_")
    assert ask("GET", f"/v1/runs/{run_id}/steps/none")[0] == 404


def test_a_run_and_a_workflow_are_drawn(api, ask, run_id, other):
    drawn = ask("GET", f"/v1/graphs/{run_id}")[1]
    plain = ask("GET", "/v1/graphs/ask")[1]

    assert (drawn["name"], drawn["states"]["review"]) == ("ask", "waiting")
    assert "class review waiting" in drawn["mermaid"]
    assert (plain["states"], "class " in plain["mermaid"]) == ({}, False)
    for what in (run_id, "ask"):
        assert api.ask("GET", f"/v1/graphs/{what}", key=other).code == "workflow_not_found"


def test_a_rejected_run_is_retried_and_forked(ask, run_id):
    ask("POST", f"/v1/runs/{run_id}/reject", {"step": "review"})
    do_all()
    assert ask("GET", f"/v1/runs/{run_id}")[1]["state"] == "failed"
    fork = ask("POST", f"/v1/runs/{run_id}/fork", {"step": "review"})
    retried = ask("POST", f"/v1/runs/{run_id}/retry")
    do_all()

    assert fork[0] == 200
    assert fork[1]["id"] != run_id
    assert ask("GET", f"/v1/runs/{fork[1]['id']}")[1]["forkOf"] == run_id
    assert retried == (200, {"id": run_id, "state": "running"})
    assert states(ask, run_id)["review"] == "waiting"


def test_a_run_is_paused_resumed_skipped_and_cancelled(ask, run_id):
    assert ask("POST", f"/v1/runs/{run_id}/pause")[1]["state"] == "paused"
    assert ask("POST", f"/v1/runs/{run_id}/resume")[1]["state"] == "running"
    assert ask("POST", f"/v1/runs/{run_id}/skip", {"step": "paid"})[0] == 200
    assert states(ask, run_id)["paid"] == "skipped"
    assert ask("POST", f"/v1/runs/{run_id}/cancel")[1]["state"] == "cancelled"
    again = ask("POST", f"/v1/runs/{run_id}/cancel")
    assert (again[0], again[1]["code"]) == (409, "run_refused")
    resumed = ask("POST", f"/v1/runs/{run_id}/resume")
    assert (resumed[0], resumed[1]["code"]) == (409, "run_refused")
    actors = rows("""SELECT DISTINCT left("userId", 8) FROM "AuditLog"
        WHERE "resource" = 'WorkflowRun' """)
    assert actors == [("key:aly_",)]


def test_a_repeated_act_is_done_once(ask, api, key, run_id):
    asked = {"key": key, "body": {"name": "paid", "payload": 1}, "Idempotency_Key": "s-1"}
    first, again = (api.ask("POST", f"/v1/runs/{run_id}/signal", **asked) for _ in range(2))
    start = {"key": key, "body": {"workflow": "ask"}, "Idempotency_Key": "r-1"}
    one, two = (api.ask("POST", "/v1/runs", **start) for _ in range(2))

    assert (first.status, again.body) == (200, first.body)
    assert again.headers["idempotent-replayed"] == "true"
    assert one.body == two.body
    assert rows('SELECT count(*) FROM "WorkflowRun"') == [(2,)]
    signals = rows("""SELECT count(*) FROM "AuditLog" WHERE "action" = 'workflow.signal'""")
    assert signals == [(1,)]


def test_runs_are_listed_by_filter_in_pages(ask, run_id):
    made = [run_id]
    for n in range(4):
        body = {"workflow": "ask", "input": {"n": n}, "key": f"k-{n}"}
        made.append(ask("POST", "/v1/runs", body)[1]["id"])
    assert ask("POST", "/v1/runs", {"workflow": "ask", "key": "k-1"})[1]["duplicate"] is True
    seen, path = [], "/v1/runs?workflow=ask&limit=2"
    while path:
        page = ask("GET", path)[1]
        seen += [one["id"] for one in page["items"]]
        path = page["next"] and f"/v1/runs?workflow=ask&limit=2&after={page['next']}"

    assert sorted(seen) == sorted(made)
    assert [one["id"] for one in ask("GET", "/v1/runs?where=n=2")[1]["items"]] == [made[3]]
    assert ask("GET", "/v1/runs?state=completed")[1] == {"items": [], "next": None}
    assert ask("GET", "/v1/runs?where=n")[0] == 422
    assert ask("GET", "/v1/runs?state=done")[0] == 422


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/runs", {"workflow": "none"}, 404, "workflow_not_found"),
        ("/v1/runs", {"workflow": "ask", "version": 9}, 404, "workflow_not_found"),
        ("/v1/runs", {"workflow": "ask", "input": {"a": "x" * 1_100_000}}, 422, "payload_refused"),
        ("/v1/runs", {"workflow": "ask", "input": []}, 422, "invalid_request"),
        ("/v1/runs", {"workflow": "ask", "key": ""}, 422, "invalid_request"),
        ("/v1/runs/{run}/approve", {"step": "first"}, 409, "run_refused"),
        ("/v1/runs/{run}/approve", {"step": "review", "comment": 1}, 422, "invalid_request"),
        ("/v1/runs/{run}/skip", {"step": "none"}, 409, "run_refused"),
        ("/v1/runs/{run}/signal", {"name": "p", "payload": "x" * 70_000}, 422, "signal_refused"),
        ("/v1/runs/{run}/retry", None, 409, "run_refused"),
        ("/v1/runs/none/cancel", None, 404, "run_not_found"),
    ],
)
def test_what_cannot_be_is_said_and_changes_nothing(ask, run_id, path, body, status, code):
    before = states(ask, run_id)
    reply = ask("POST", path.format(run=run_id), body)

    assert (reply[0], reply[1]["code"]) == (status, code)
    assert states(ask, run_id) == before
    assert rows('SELECT count(*) FROM "WorkflowRun"') == [(1,)]


def test_a_graph_of_a_run_asks_for_the_right_to_runs(api, acme, ask, run_id):
    editor = make_key(acme, make_user(acme, "ann", role="ADMIN"), "workflows:read")

    assert api.ask("GET", "/v1/graphs/ask", key=editor).status == 200
    assert api.ask("GET", f"/v1/graphs/{run_id}", key=editor).code == "scope_missing"
    assert ask("GET", f"/v1/graphs/{run_id}")[0] == 200


def test_others_runs_and_workflows_do_not_exist(api, ask, run_id, other):
    assert api.ask("GET", "/v1/runs", key=other).document == {"items": [], "next": None}
    assert api.ask("GET", "/v1/workflows", key=other).document == {"items": [], "next": None}
    for path in (
        "/v1/workflows/ask",
        "/v1/workflows/ask/versions",
        "/v1/workflows/ask/difference?before=1&after=1",
        f"/v1/runs/{run_id}",
        f"/v1/runs/{run_id}/steps/first",
    ):
        assert ask("GET", path)[0] == 200
        assert api.ask("GET", path, key=other).status == 404
    for verb in ("cancel", "pause", "resume", "retry"):
        assert api.ask("POST", f"/v1/runs/{run_id}/{verb}", key=other).code == "run_not_found"
    for verb, body in (
        ("signal", {"name": "paid"}),
        ("approve", {"step": "review"}),
        ("reject", {"step": "review"}),
        ("skip", {"step": "paid"}),
        ("fork", {"step": "first"}),
    ):
        reply = api.ask("POST", f"/v1/runs/{run_id}/{verb}", key=other, body=body)
        assert reply.code == "run_not_found"
    assert states(ask, run_id)["review"] == "waiting"


def test_each_scope_opens_its_own_routes_alone(api, acme):
    asked = {
        "workflows:read": ("GET", "/v1/workflows", None),
        "workflows:write": ("POST", "/v1/workflows", ASK),
        "runs:read": ("GET", "/v1/runs", None),
        "runs:write": ("POST", "/v1/runs", {"workflow": "ask"}),
    }
    user = make_user(acme, "bob", role="ADMIN")
    for scope in SCOPES:
        key = make_key(acme, user, scope)
        for needed, (method, path, body) in asked.items():
            reply = api.ask(method, path, key=key, body=body)
            assert (reply.status == 403) == (needed != scope), (scope, path)
